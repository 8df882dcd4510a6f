"""``doctor``: the pre-flight of a run, by itself."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from migrate_storage.cli.options import Door, Output, Request, door_options, example, output_options, run_options
from migrate_storage.model import Severity
from migrate_storage.preflight import check
from migrate_storage.text import visible

__all__ = ("doctor",)


@click.command(
    short_help="Probe the stores, the rights and the rows, as `run` does first.",
    epilog=example("migrate-storage doctor --app myapp.storage --from old --to new"),
)
@door_options
@run_options
@output_options
def doctor(door: Door, request: Request, output: Output) -> int:
    """Probe what a run would need, and say what is found. Every run does the same before it touches anything.

    The destination gets a few small objects under a scratch prefix, which are removed again; the source is only read.
    """
    application = door.open()
    try:
        notes = check(application, request.options(application))
    finally:
        application.close()
    refused = [note for note in notes if note.severity is Severity.REFUSED]
    for note in notes:
        if output.json:
            click.echo(json.dumps(asdict(note)))
        elif not output.quiet or note in refused:
            subject = f"{note.subject}: " if note.subject else ""
            click.echo(visible(f"{note.severity.value:<8} {subject}{note.message} [{note.code}]"))
            if note.todo:
                click.echo(visible(f"{'':<8} {note.todo}"))
    if not output.json and not output.quiet:
        click.echo(
            "A run would be refused." if refused else "A run can begin: `migrate-storage plan` says what it would do."
        )
    return 2 if refused else 0
