"""``explain``: what the journal and the stores know of one row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from migrate_storage.cli.application_options import JournalRequest
from migrate_storage.cli.completion import complete_columns
from migrate_storage.cli.option import argument, command

__all__ = ("explain",)


@dataclass(frozen=True, kw_only=True)
class _ExplainRequest(JournalRequest):
    column: str = argument(shell_complete=complete_columns)
    key: tuple[str, ...] = argument(nargs=-1, required=True)


@command(_ExplainRequest, "Show one row's whole story.", "explain --app myapp.storage documents.file 42")
def explain(request: _ExplainRequest) -> None:
    """Show where a row's files are on each side, what the journal and the stores know of them, and what a run would do.

    COLUMN is table.column, KEY the parts of the primary key.
    """
    from migrate_storage.jobs.explain import explain as explain_row

    named = request.application
    with replace(named, columns=(request.column,)).opened() as application:
        lines = explain_row(
            application, request.column, request.key, journal=named.journal, schema=named.journal_schema
        )
    request.output.print({"column": request.column, "key": request.key, "story": lines}, lines, important=True)
