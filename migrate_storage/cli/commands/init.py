"""``init``: a commented configuration file to fill in."""

from __future__ import annotations

import json
from pathlib import Path

import click

from migrate_storage.application.config_file import DEFAULT_FILE
from migrate_storage.cli.application_options import ApplicationOptions, application_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.run_options import route_options
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.errors import ConfigurationError

__all__ = ("configuration", "init")


@click.command(
    short_help="Write a commented configuration file to fill in.",
    epilog=example("migrate-storage init --app myapp.storage --from old --to new"),
)
@application_options
@route_options
@option("--force", in_file=False, is_flag=True, help="Replace a file that is there.")
@output_options
def init(door: ApplicationOptions, source: str | None, destination: str | None, force: bool, output: Output) -> None:
    """Write ./migrate-storage.toml, with what is said on the command line already filled in."""
    path = Path(DEFAULT_FILE)
    if path.exists() and not force:
        raise ConfigurationError(f"./{path} is there already: edit it, or replace it with --force")
    text = configuration(door, source=source, destination=destination)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"./{path} cannot be written: {error.strerror}") from None
    if output.json:
        click.echo(json.dumps({"event": "written", "path": str(path)}))
    elif not output.quiet:
        click.echo(f"Wrote ./{path}: fill it in, then try `migrate-storage plan`.")


def configuration(door: ApplicationOptions, *, source: str | None, destination: str | None) -> str:
    """Return the text of a configuration file. A password becomes a reference to the environment.

    Args:
        door: What was said of the application and the database.
        source: Backend key to leave, where it was said.
        destination: Backend key to go to, where it was said.
    """
    without_code = bool(door.database and not door.app)
    columns = json.dumps(list(door.columns or ("document.file",)))
    sign = "" if without_code else "# "
    lines = [
        "# The options of the command line, by their names. Flags and MIGRATE_STORAGE_<OPTION> win over this file.",
        "# ${NAME} is an environment variable, ${file:/path} the content of a file: keep secrets out of here.",
        "",
        "# Where the application is: its code (importing it registers backends and models) ...",
        _line("app", door.app, "myapp.storage"),
        "# ... or its database alone; then [source] and [destination] below say what no code registers.",
        _line("database", _without_password(door.database), "postgresql+psycopg://me:${DB_PASSWORD}@localhost/app"),
        f"{'' if door.columns or without_code else '# '}columns = {columns}",
        "",
        "# Backend keys. Without `to` the rows stay, and the new store is registered under the same key.",
        _line("from", source, "old"),
        _line("to", destination, "new"),
        "",
        "# concurrency = 32        # objects under way at once",
        '# memory = "64MiB"        # content held in memory at once',
        '# journal = "sqlite:///migrate-storage.db"   # keep the journal out of the application\'s database',
        "",
        f"{sign}[source]",
        f"{sign}key = {_quoted(source or 'old')}",
        f'{sign}fs = "s3"                    # an fsspec protocol',
        f'{sign}prefix = "bucket/uploads"',
        f'{sign}options = {{ key = "${{AWS_ACCESS_KEY_ID}}", secret = "${{AWS_SECRET_ACCESS_KEY}}" }}',
        "",
        f"{sign}[destination]",
        f"{sign}key = {_quoted(destination or 'new')}",
        f'{sign}fs = "s3://bucket/uploads"   # an obstore URL',
        f'{sign}options = {{ region = "eu-central-1" }}',
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, value: str | None, example: str) -> str:
    return f"{name} = {_quoted(value)}" if value else f"# {name} = {_quoted(example)}"


def _quoted(value: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without_password(url: str | None) -> str | None:
    if url is None:
        return None
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError("--database: the URL cannot be parsed") from None
    shown = parsed.render_as_string(hide_password=True)
    return shown.replace(":***@", ":${DB_PASSWORD}@", 1) if parsed.password else shown
