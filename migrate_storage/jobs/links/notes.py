"""Notes of other jobs on texts whose addresses were changed."""

from __future__ import annotations

from collections.abc import Iterator

from migrate_storage.core.model import Note, Severity
from migrate_storage.core.text import amount
from migrate_storage.journal import Journal

__all__ = ("note_rewritten_links",)


def note_rewritten_links(journal: Journal, source: str, destination: str) -> Iterator[Note]:
    """Yield a note for each run that changed addresses from one key to another, and that was not reverted."""
    for run in journal.runs.between("links", source, destination):
        if count := journal.links.count_open(run.id):
            yield Note(
                severity=Severity.WARNING, code="links.rewritten", subject=run.id,
                message=f"it changed addresses in {amount(count, 'text')}, which name the copies and stay as they are",
                todo=f"migrate-storage revert {run.id}",
            )  # fmt: skip
