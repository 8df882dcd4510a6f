"""Write what a dry run would copy as a list for a program that copies in bulk: each line is one source object.

What a line cannot express, or what that program would give another key than ``run``, is left out and counted: ``run`` copies it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Note, OutcomeKind, Place, Severity
from migrate_storage.core.proofs import DRY_RUN
from migrate_storage.core.text import amount, size
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, ObjectRecord

__all__ = ("ManifestFile", "check_manifest")

_SERVICES = {
    "s3-batch": (("s3",), ("s3",)),
    "storage-transfer": (("s3", "gcs", "azure", "file"), ("gcs", "file")),
}
"""Between which services the program of a format copies; a format that is not named fits all."""


def check_manifest(plan: MigrationPlan, options: RunOptions) -> None:
    """Check that a manifest can be written, before the work begins.

    Raises:
        ConfigurationError: its program does not copy between these services, or its folder cannot be written.
    """
    if options.manifest is None:
        return
    if plan.source.registration.own_class:
        raise ConfigurationError(
            f"--manifest does not fit {plan.source.key!r}: no other program reads files through {plan.source.registration.own_class}"
        )
    for side, known in zip((plan.source, plan.destination), _SERVICES.get(options.manifest_format, ()), strict=False):
        if side.root.service not in known:
            raise ConfigurationError(
                f"--manifest-format {options.manifest_format} does not fit {side.key!r}: its program copies "
                f"{'from' if side is plan.source else 'to'} {' or '.join(known)}, not {side.root.service}; 'rclone' fits all"
            )
    folder = options.manifest.absolute().parent
    if options.manifest.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigurationError(
            f"the manifest {options.manifest} cannot be written: is its folder there, and writable?"
        )


class ManifestFile:
    """The manifest of one dry run.

    Args:
        plan: the source and the destination.
        options: where to write it, and in which format.
    """

    def __init__(self, plan: MigrationPlan, options: RunOptions) -> None:
        assert options.manifest is not None
        self._plan, self._path, self._format = plan, options.manifest, options.manifest_format
        self._written_count = self._bytes = 0
        self._left_out: Counter[str] = Counter()

    def write(self, journal: Journal, run: str) -> list[Note]:
        """Write it, from the records of the dry run. It replaces an earlier file when it is complete.

        Returns:
            What was written, and what was left out, for the report.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        partial = self._path.with_name(f".{self._path.name}.{run}")
        try:
            try:
                with partial.open("w", encoding="utf-8", newline="") as file:
                    for line in self.lines(_copied(journal, run)):
                        file.write(f"{line}\n")
                partial.replace(self._path)
            finally:
                with suppress(FileNotFoundError):
                    partial.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"the manifest {self._path} cannot be written: {error.strerror or error}"
            ) from error
        return [*self._notes()]

    def _notes(self) -> Iterator[Note]:
        source, destination = self._plan.source.root, self._plan.destination.root
        below = f"names are below {source}, for copies below {destination}"
        if self._format == "s3-batch":
            below = f"the job's TargetResource is the bucket {destination.root}, its TargetKeyPrefix is {self._added_prefix!r}"
        yield Note(
            severity=Severity.INFO, code="manifest.written", subject=str(self._path),
            message=f"{amount(self._written_count, 'object')} ({size(self._bytes)}) in the manifest; {below}",
        )  # fmt: skip
        for reason, count in self._left_out.items():
            yield Note(
                severity=Severity.WARNING, code="manifest.left-out", subject=str(self._path),
                message=f"{amount(count, 'object')} left out of the manifest: {reason}", todo="nothing: 'run' copies them",
            )  # fmt: skip

    def lines(self, records: Iterable[ObjectRecord]) -> Iterator[str]:
        """Yield a line for each object that the format can express; count the others by the reason."""
        for record in records:
            source = self._plan.source.place(record.source_path)
            destination = self._plan.destination.place(record.destination_path)
            if reason := self._reason_to_leave_out(source, destination):
                self._left_out[reason] += 1
                continue
            self._written_count += 1
            self._bytes += record.size or 0
            yield self._format_line(source)

    def _format_line(self, source: Place) -> str:
        if self._format == "s3-batch":
            return f"{source.root},{quote(source.key)}"
        name = source.key[len(self._plan.source.root.key) :]
        quoted = self._format == "storage-transfer" and set(name) & set(',"')
        return '"' + name.replace('"', '""') + '"' if quoted else name

    def _reason_to_leave_out(self, source: Place, destination: Place) -> str:
        if self._format == "s3-batch":
            if destination.key != self._added_prefix + source.key:
                return (
                    "their copies have another key than their own below one prefix, as the format 'rclone' can express"
                )
            return ""
        root, name = self._plan.source.root, source.key[len(self._plan.source.root.key) :]
        if source != replace(root, key=root.key + name) or destination.key != self._plan.destination.root.key + name:
            return "they are not below the source, or their copies have another name below the destination"
        if name.splitlines() != [name]:
            return "their names have line breaks, which a line cannot express"
        if self._format == "rclone" and any(part in ("", ".", "..") for part in name.split("/")):
            return "their names have parts that rclone does not address: '//', '.' or '..'"
        return ""

    @property
    def _added_prefix(self) -> str:
        """What keys at the destination have before the key of their source, where the source's prefix stays."""
        return self._plan.destination.root.key.removesuffix(self._plan.source.root.key)


def _copied(journal: Journal, run: str) -> Iterator[ObjectRecord]:
    for batch in journal.objects.of_run(run, outcomes=(OutcomeKind.REPOINTED, OutcomeKind.COPIED), size=2000):
        yield from (record for record in batch if record.evidence == DRY_RUN)
