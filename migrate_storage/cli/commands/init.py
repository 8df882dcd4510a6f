"""``init``: write a configuration file with comments to fill in."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from migrate_storage.application.config_file import DEFAULT_FILE
from migrate_storage.cli.application_options import ApplicationOptions
from migrate_storage.cli.option import command, group, option
from migrate_storage.cli.shared_options import Output, RouteOptions
from migrate_storage.core.errors import ConfigurationError, MigrateStorageError

__all__ = ("init",)

JOURNAL_SCHEMA = "migrate_storage"
"""The proposed schema of the journal in PostgreSQL."""


@dataclass(frozen=True, kw_only=True)
class _InitRequest:
    application: ApplicationOptions = group(ApplicationOptions)
    route: RouteOptions = group(RouteOptions)
    force: bool = option(in_file=False, is_flag=True, help="Replace a file that is there.")
    output: Output = group(Output)


@command(
    _InitRequest, "Write a commented configuration file to fill in.", "init --app myapp.storage --from old --to new"
)
def init(request: _InitRequest) -> None:
    """Write ./migrate-storage.toml, with the options of the command line already filled in."""
    path = Path(DEFAULT_FILE)
    if path.exists() and not request.force:
        raise ConfigurationError(f"./{path} is there already: edit it, or replace it with --force")
    text = _compose_file(request.application, request.route, _propose_schema(request.application))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"./{path} cannot be written: {error.strerror}") from None
    line = f"Wrote ./{path}: fill it in, then try `migrate-storage plan`."
    request.output.print({"event": "written", "path": str(path)}, [line])


def _propose_schema(application: ApplicationOptions) -> str | None:
    """Return a schema for the journal in a PostgreSQL database without one; ``None`` where that is not known."""
    from migrate_storage.database.connection import Database
    from migrate_storage.journal.find_schema import find_journals

    if not application.is_named:
        return None
    # The file can be written before the application works.
    with contextlib.suppress(MigrateStorageError), contextlib.closing(Database(application.engine())) as database:
        database.connect()
        if database.dialect.name == "postgresql" and not find_journals(database):
            return JOURNAL_SCHEMA
    return None


def _compose_file(application: ApplicationOptions, route: RouteOptions, journal_schema: str | None) -> str:
    """Return the text of the file. An environment variable replaces the password."""
    without_code = bool(application.database and not application.app)
    columns = json.dumps(list(application.columns or ("document.file",)))
    sign = "" if without_code else "# "
    lines = [
        "# The options of the command line, by their names. Flags and MIGRATE_STORAGE_<OPTION> win over this file.",
        "# ${NAME} is an environment variable, ${file:/path} the content of a file: keep secrets out of here.",
        "",
        "# Where the application is: its code (importing it registers backends and models) ...",
        _compose_line("app", application.app, "myapp.storage"),
        "# ... or its database alone; then [source] and [destination] below register what no code registers.",
        _compose_line(
            "database", _hide_password(application.database), "postgresql+psycopg://me:${DB_PASSWORD}@localhost/app"
        ),
        f"{'' if application.columns or without_code else '# '}columns = {columns}",
        "",
        "# Backend keys. Without `to` the rows stay, and the new store is registered under the same key.",
        _compose_line("from", route.source, "old"),
        _compose_line("to", route.destination, "new"),
        "",
        "# concurrency = 32        # objects under way at once, at most",
        '# memory = "64MiB" # content in memory at once',
        '# journal = "sqlite:///migrate-storage.db"   # keep the journal out of the application\'s database',
        "# A schema of its own in PostgreSQL: Alembic's autogenerate does not read it.",
        _compose_line("journal-schema", journal_schema, JOURNAL_SCHEMA),
        "",
        f"{sign}[source]",
        f"{sign}key = {_quote(route.source or 'old')}",
        f'{sign}fs = "s3"                    # an fsspec protocol',
        f'{sign}prefix = "bucket/uploads"',
        f'{sign}options = {{ key = "${{AWS_ACCESS_KEY_ID}}", secret = "${{AWS_SECRET_ACCESS_KEY}}" }}',
        "",
        f"{sign}[destination]",
        f"{sign}key = {_quote(route.destination or 'new')}",
        f'{sign}fs = "s3://bucket/uploads"   # an obstore URL',
        f'{sign}options = {{ region = "eu-central-1" }}',
    ]
    return "\n".join(lines) + "\n"


def _compose_line(name: str, value: str | None, example: str) -> str:
    return f"{name} = {_quote(value)}" if value else f"# {name} = {_quote(example)}"


def _quote(value: str) -> str:
    """Return a TOML basic string. Each escape of JSON is one of TOML too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _hide_password(url: str | None) -> str | None:
    if url is None:
        return None
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError("--database: the URL cannot be parsed") from None
    shown = parsed.render_as_string(hide_password=True)
    return shown.replace(":***@", ":${DB_PASSWORD}@", 1) if parsed.password else shown
