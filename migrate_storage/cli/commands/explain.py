"""``explain``: one row's whole story."""

from __future__ import annotations

import json

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.option import example
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.text import visible

__all__ = ("explain",)


@click.command(
    short_help="Tell one row's whole story.",
    epilog=example("migrate-storage explain --app myapp.storage documents.file 42"),
)
@click.argument("column")
@click.argument("key", nargs=-1, required=True)
@application_options
@journal_options
@output_options
def explain(
    column: str,
    key: tuple[str, ...],
    door: ApplicationOptions,
    journal: str | None,
    journal_schema: str | None,
    output: Output,
) -> None:
    """Say where a row's files are on each side, what the journal and the stores say of them, and what a run would do.

    COLUMN is table.column, KEY the parts of the primary key.
    """
    from migrate_storage.jobs.explain import explain as story

    application = door.open()
    try:
        lines = story(application, column, key, journal=journal, schema=journal_schema)
    finally:
        application.close()
    if output.json:
        click.echo(json.dumps({"column": column, "key": key, "story": lines}))
        return
    for line in lines:
        click.echo(visible(line))
