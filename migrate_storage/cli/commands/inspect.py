"""``inspect``: every registration, column and row count, and what would need attention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options
from migrate_storage.cli.option import example
from migrate_storage.cli.output import next_command
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.model import Severity
from migrate_storage.core.text import visible
from migrate_storage.translate.codegen import entries

if TYPE_CHECKING:
    from migrate_storage.application.inspection import BackendUse, Inspection

__all__ = ("inspect",)


@click.command(
    short_help="Show every backend, column and row count, and what needs attention.",
    epilog=example("migrate-storage inspect --app myapp.storage"),
)
@application_options
@output_options
def inspect(door: ApplicationOptions, output: Output) -> None:
    """Show what the application holds: backends, columns, rows by backend key, and what each translates to.

    Reads every row once and asks no store for anything. Filenames that obstore cannot address are listed.
    """
    from migrate_storage.application.inspection import inspect as inspected

    application = door.open()
    try:
        found = inspected(application)
    finally:
        application.close()
    if output.json:
        click.echo(json.dumps(_told(found)))
    elif not output.quiet:
        for line in _lines(found):
            click.echo(visible(line))
        click.echo(f"\nNext\n  {next_command('migrate-storage translate')}")


def _lines(found: Inspection) -> Iterator[str]:
    for use in found.backends:
        yield f"{use.key}: {_what(use)}"
        for column, count in sorted(use.files.items(), key=lambda item: str(item[0])):
            yield f"  {count:>9,} files in {column}"
        for root, count in sorted(use.roots.items()):
            yield f"  {count:>9,} of them in {root or '(no bucket)'}"
        for note in use.registration.translation.notes if use.registration else ():
            if note.severity is not Severity.INFO:
                yield f"  {note.severity.value}: {note.message} [{note.code}]"
                if note.todo:
                    yield f"    {note.todo}"
        if use.odd_count:
            yield f"  {use.odd_count:,} filenames that obstore cannot address:"
            for odd in use.odd:
                yield f"    {odd.ref}: {odd.filename!r} {odd.reason}"
            if use.odd_count > len(use.odd):
                yield f"    and {use.odd_count - len(use.odd):,} more"
        yield ""
    unused = [column for column in found.columns if not any(column in use.files for use in found.backends)]
    for column in unused:
        yield f"{column}: no row names a file"
    for column, count in found.broken.items():
        yield f"{column}: {count:,} values cannot be read as files"


def _what(use: BackendUse) -> str:
    if use.registration is None:
        return "rows name it, but no backend is registered under it"
    (entry,) = entries([(use.key, use.registration.translation)])
    if use.driver == "obstore":
        return f"obstore, {entry.fs or use.registration.protocol}"
    if entry.refused:
        return f"{use.driver} ({use.registration.protocol}), no counterpart in obstore"
    return f"{use.driver} ({use.registration.protocol}), translates to {entry.fs or 'a store for each row'}"


def _told(found: Inspection) -> dict[str, Any]:
    return {
        "backends": [_backend(use) for use in found.backends],
        "columns": [str(column) for column in found.columns],
        "broken": {str(column): count for column, count in found.broken.items()},
    }


def _backend(use: BackendUse) -> dict[str, Any]:
    registration = use.registration
    entry = entries([(use.key, registration.translation)])[0] if registration else None
    notes = registration.translation.notes if registration else ()
    return {
        "key": use.key,
        "registered": registration is not None,
        "driver": use.driver or None,
        "protocol": registration.protocol if registration else None,
        "translates_to": entry.fs or None if entry else None,
        "files": {str(column): count for column, count in use.files.items()},
        "roots": dict(use.roots),
        "odd_count": use.odd_count,
        "odd": [{"row": str(odd.ref), "filename": odd.filename, "reason": odd.reason} for odd in use.odd],
        "notes": [
            {
                "severity": note.severity.value,
                "code": note.code,
                "subject": note.subject,
                "message": note.message,
                "todo": note.todo,
            }
            for note in notes
        ],
    }
