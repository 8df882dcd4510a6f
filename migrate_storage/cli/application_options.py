"""The options that name the application, its database and its journal."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrate_storage.application.config_file import DEFAULT_FILE, Settings, load_settings
from migrate_storage.cli.completion import complete_columns
from migrate_storage.cli.embedding import application_of
from migrate_storage.cli.option import PARAMETERS, RENAMED, group, option, parameter_variable
from migrate_storage.cli.param_types import Names
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.errors import ApplicationError, ConfigurationError
from migrate_storage.core.exit_codes import EXIT_USAGE
from migrate_storage.core.text import masked

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.database.connection import Database
    from migrate_storage.database.urls import AnyEngine
    from migrate_storage.journal import Journal
    from migrate_storage.journal.schema import Tables

__all__ = ("ApplicationOptions", "JournalOptions", "JournalRequest", "JournaledApplication", "warn_of_password")

_SETTINGS = "migrate_storage.settings"
"""Key of the configuration file's content in the metadata of click's context."""


class _UsageError(click.ClickException):
    """An error of the configuration file, as a click exception."""

    exit_code = EXIT_USAGE


def _read_settings(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """Read the configuration file, which gives the defaults of the other options."""
    try:
        settings = load_settings(value, PARAMETERS, renamed=RENAMED)
    except ConfigurationError as error:
        raise _UsageError(str(error)) from None
    context.meta[_SETTINGS] = settings
    repeated = {parameter.name for parameter in context.command.params if getattr(parameter, "multiple", False)}
    given = {PARAMETERS[name]: setting for name, setting in settings.options.items()}
    defaults = {
        name: [setting] if name in repeated and isinstance(setting, str) else setting
        for name, setting in given.items()
        # Where a file has several pairs of keys, a command for one key has no default.
        if name in repeated or (name, type(setting)) != ("source", list)
    }
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


def _get_settings() -> Settings:
    settings: Settings = click.get_current_context().meta.get(_SETTINGS, Settings())
    return settings


def warn_of_password(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Warn of a password in one or several URLs of an option on the command line, which other users can read."""
    assert parameter.name is not None
    urls = value if isinstance(value, tuple) else (value,) if value else ()
    if context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE and any(map(_has_password, urls)):
        variable = f"MIGRATE_STORAGE_{parameter_variable(parameter.name)}"
        click.echo(
            f"migrate-storage: warning: a password in --{parameter.name} can be read by everybody on this machine "
            f"while the command runs: put it in {variable}, or in ./{DEFAULT_FILE} as ${{ENV}}",
            err=True,
        )
    return value


def _has_password(url: str) -> bool:
    import sqlalchemy as sa

    try:
        return bool(sa.make_url(url).password)
    except (sa.exc.ArgumentError, ValueError):
        return False


@dataclass(frozen=True, kw_only=True)
class ApplicationOptions:
    """The application, or its database without the application's code."""

    app: str | None = option(
        metavar="MODULE[:NAME]",
        help="The application: importing it registers backends and models. NAME may be a Litestar, FastAPI, "
        "Flask or Sanic application, an advanced-alchemy configuration, an engine, or a callable that returns one.",
    )
    bind_key: str | None = option(metavar="NAME", help="Which database, where the application has several.")
    lifespan: bool = option(
        "--lifespan/--no-lifespan", default=False, help="Enter the application's ASGI lifespan first."
    )
    traceback: bool = option(
        in_file=False, is_flag=True, help="Show the traceback of an error that the application raises."
    )
    config: Path | None = option(
        metavar="FILE", type=click.Path(path_type=Path), in_file=False, is_eager=True, callback=_read_settings,
        help=f"Configuration in TOML.  [default: ./{DEFAULT_FILE}, if there]",
    )  # fmt: skip
    database: str | None = option(
        metavar="URL", callback=warn_of_password, help="SQLAlchemy URL, instead of the application's own engine."
    )
    columns: tuple[str, ...] = option(
        metavar="NAMES", type=Names(), default=(), shell_complete=complete_columns,
        help="Only these columns: table.column, separated by commas; also such as no model declares.  [default: all that "
        "have files]",
    )  # fmt: skip
    json_columns: tuple[str, ...] = option(
        metavar="NAMES", type=Names(), default=(),
        help="Further columns, that no model declares: files are found anywhere in their JSON.",
    )  # fmt: skip
    visible_rows_only: bool = option(
        is_flag=True, in_file=False,
        help="Continue where row level security hides rows from this role: they stay as they are.",
    )  # fmt: skip
    settings: Settings = field(default_factory=_get_settings)
    #: Returns the application of the program around the command, if it has one.
    embedding: Callable[[], object | None] = field(
        default_factory=lambda: functools.partial(application_of, click.get_current_context())
    )

    @property
    def is_named(self) -> bool:
        """Whether an application or a database is named, or surrounds the command."""
        return bool(self.app or self.database) or self.embedding() is not None

    def open(self, *, all_columns: bool = False) -> Application:
        """Load the application, or reflect the database's columns.

        Args:
            all_columns: ``--columns`` adds columns that no model declares, and leaves none out, because rows of every
                column may refer to an object.

        Raises:
            ConfigurationError: when neither is named, or the named one does not work.
        """
        from migrate_storage.application.application import from_database, load_application

        columns, further = self.columns, self.json_columns
        if all_columns:
            columns, further = (), (*further, *columns)
        backends = self.settings.backends()
        target = self.app or self.embedding()
        if target is not None:
            with self._shown_traceback():
                loaded = load_application(
                    target, bind_key=self.bind_key, database=self.database, lifespan=self.lifespan, columns=columns,
                    json_columns=further,
                )  # fmt: skip
            return self._complete(loaded, backends)
        if not self.database:
            raise _make_unnamed_error()
        if not backends:
            raise ConfigurationError(
                "--database without --app needs [source] (and [destination]) in the configuration file, because no "
                "application registers them: `migrate-storage init` writes one to fill in"
            )
        return self._complete(from_database(self.database, (*columns, *further), backends), {})

    def _complete(self, loaded: Application, backends: Mapping[str, Any]) -> Application:
        further = {**loaded.backends, **backends}
        return replace(loaded, backends=further, visible_rows_only=self.visible_rows_only)

    @contextlib.contextmanager
    def opened(self, *, all_columns: bool = False) -> Iterator[Application]:
        """Open the application, and close it at the end of the block; see :meth:`open`."""
        application = self.open(all_columns=all_columns)
        try:
            yield application
        finally:
            application.close()

    @contextlib.contextmanager
    def registered(self, *, rows: bool = False) -> Iterator[tuple[Mapping[str, Any], Application | None]]:
        """Give the registered backends by their keys; a module that only registers backends is enough.

        Args:
            rows: whether to open the application too, where it has a database with columns of files.

        Raises:
            ConfigurationError: when no application is named, or it cannot be imported.
        """
        from migrate_storage.application.registrations import loaded_backends

        backends, target = self.settings.backends(), self.app or self.embedding()
        if target is None and backends and not rows:
            yield backends, None
            return
        application = None
        if target is None or rows:
            with contextlib.suppress(*(() if target is None else (ApplicationError,))):
                application = self.open()
        if application is not None:
            with contextlib.closing(application):
                yield application.backends, application
            return
        with self._shown_traceback(), loaded_backends(target, lifespan=self.lifespan) as found:
            yield {**found, **backends}, None

    @contextlib.contextmanager
    def _shown_traceback(self) -> Iterator[None]:
        """Print the traceback of the application's own error, with secrets masked, where the user asks for it."""
        try:
            yield
        except ApplicationError as error:
            if self.traceback and error.__cause__ is not None:
                click.echo(masked("".join(format_exception(error.__cause__))), err=True, nl=False)
            raise

    def engine(self) -> AnyEngine:
        """Return the database's engine alone, for commands that only read the journal."""
        from migrate_storage.database.urls import engine_from_url

        if self.database:
            return engine_from_url(self.database)
        if not self.is_named:
            raise _make_unnamed_error()
        return self.open().engine


def _make_unnamed_error() -> ConfigurationError:
    return ConfigurationError(
        "name the application: --app module[:name], or --database URL, or both in "
        f"./{DEFAULT_FILE} (`migrate-storage init` writes one; `migrate-storage demo` shows an example)"
    )


@dataclass(frozen=True, kw_only=True)
class JournalOptions:
    """The database of the journal."""

    journal: str | None = option(
        metavar="URL", callback=warn_of_password,
        help="Keep the journal in another database.  [default: the application's own]",
    )  # fmt: skip
    journal_schema: str | None = option(
        metavar="NAME", help="Database schema of the journal's tables.  [default: that of the journal that exists]",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JournaledApplication(JournalOptions, ApplicationOptions):
    """The application and the database of its journal."""

    @contextlib.contextmanager
    def journal_database(self, url: str | None = None) -> Iterator[Database]:
        """Connect to the journal's database or ``url``. It may lack the tables."""
        from migrate_storage.database.connection import Database

        with contextlib.closing(Database(url or self.journal or self.engine())) as database:
            database.connect()
            yield database

    @contextlib.contextmanager
    def opened_journal(self) -> Iterator[Journal]:
        """Open the journal. Without an application it is that of this user's syncs."""
        from migrate_storage.jobs.connections import own_journal
        from migrate_storage.journal import Journal

        alone = not (self.journal or self.is_named) and own_journal().is_file()
        with self.journal_database(f"sqlite:///{own_journal()}" if alone else None) as database:
            yield Journal.find(database, self.journal_schema)

    @contextlib.contextmanager
    def opened_tables(self) -> Iterator[tuple[Database, Tables]]:
        """Connect to the database of the tables in the schema that is named, else in that of the journal."""
        from migrate_storage.journal.find_schema import find_schema
        from migrate_storage.journal.schema import Tables

        with self.journal_database() as database:
            yield database, Tables(self.journal_schema or find_schema(database, None))


@dataclass(frozen=True, kw_only=True)
class JournalRequest:
    """The options of commands that read a journal and print something."""

    application: JournaledApplication = group(JournaledApplication)
    output: Output = group(Output)
