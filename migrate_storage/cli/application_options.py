"""How a command comes to the application and its database: ``--app``, ``--database``, ``--config``, ``--journal``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrate_storage.application.config_file import DEFAULT_FILE, Settings, load_settings
from migrate_storage.cli.embedding import application_of
from migrate_storage.core.errors import ConfigurationError

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.database.urls import AnyEngine
from migrate_storage.cli.option import PARAMETERS, decorated, option, parameter_variable
from migrate_storage.cli.param_types import Names

__all__ = (
    "ApplicationOptions",
    "application_options",
    "journal_options",
    "warn_of_password",
)


_SETTINGS = "migrate_storage.settings"


@dataclass(frozen=True, kw_only=True)
class ApplicationOptions:
    """How to reach the application, or the database without it."""

    app: str | None
    bind_key: str | None
    lifespan: bool
    database: str | None
    columns: tuple[str, ...]
    settings: Settings
    #: What the program that the command is mounted in holds as its application; called when it is needed.
    mounted: Callable[[], object | None] = lambda: None

    def open(self) -> Application:
        """Load the application, or reflect the database's columns.

        Raises:
            ConfigurationError: when neither is said, or what is said does not work.
        """
        from migrate_storage.application.application import from_database, load_application, take_application

        backends = self.settings.backends()
        around = None if self.app else self.mounted()
        if self.app or around is not None:
            load = (
                functools.partial(load_application, self.app)
                if self.app
                else functools.partial(take_application, around)
            )
            loaded = load(
                bind_key=self.bind_key,
                database=self.database,
                lifespan=self.lifespan,
                columns=self.columns,
            )
            return replace(loaded, backends={**loaded.backends, **backends}) if backends else loaded
        if not self.database:
            raise self._nothing_said()
        if not backends:
            raise ConfigurationError(
                "--database without --app needs [source] (and [destination]) in the configuration file, because no "
                "application registers them: `migrate-storage init` writes one to fill in"
            )
        return from_database(self.database, self.columns, backends)

    def engine(self) -> AnyEngine:
        """Return the database's engine alone, for commands that only read the journal."""
        from migrate_storage.database.urls import engine_from_url

        if self.database:
            return engine_from_url(self.database)
        if not self.app and self.mounted() is None:
            raise self._nothing_said()
        return self.open().engine

    @staticmethod
    def _nothing_said() -> ConfigurationError:
        return ConfigurationError(
            "say where the application is: --app module[:name], or --database URL, or both in "
            f"./{DEFAULT_FILE} (`migrate-storage init` writes one; `migrate-storage demo` shows an example)"
        )


class _Refused(click.ClickException):
    """What is wrong before a command begins, in click's terms: programs that hold the command know no others."""

    exit_code = 2


def _read_settings(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """Make the configuration file the defaults of this command; runs before any other option is looked at."""
    try:
        settings = load_settings(value, PARAMETERS)
    except ConfigurationError as error:
        raise _Refused(str(error)) from None
    context.meta[_SETTINGS] = settings
    defaults = {PARAMETERS[name]: setting for name, setting in settings.options.items()}
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


def warn_of_password(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback of an option that takes a database's URL: says that a password in it can be seen by others."""
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


def application_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the front doors, as ``door``."""

    @functools.wraps(command)
    def with_door(
        *args: Any,
        app: str | None,
        bind_key: str | None,
        lifespan: bool,
        database: str | None,
        columns: tuple[str, ...] | None,
        **others: Any,
    ) -> Any:
        context = click.get_current_context()
        door = ApplicationOptions(
            app=app,
            bind_key=bind_key,
            lifespan=lifespan,
            database=database,
            columns=columns or (),
            settings=context.meta.get(_SETTINGS, Settings()),
            mounted=lambda: application_of(context),
        )
        return command(*args, door=door, **others)

    return decorated(
        with_door,
        option(
            "--app",
            metavar="MODULE[:NAME]",
            help="The application: importing it registers backends and models. NAME may be a Litestar, FastAPI or "
            "Flask application, an advanced-alchemy configuration, an engine, or a callable that returns one.",
        ),
        option("--bind-key", metavar="NAME", help="Which database, where the application has several."),
        option("--lifespan/--no-lifespan", default=False, help="Enter the application's ASGI lifespan first."),
        option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            in_file=False,
            is_eager=True,
            expose_value=False,
            callback=_read_settings,
            help=f"Configuration in TOML.  [default: ./{DEFAULT_FILE}, if there]",
        ),
        option(
            "--database",
            metavar="URL",
            callback=warn_of_password,
            help="SQLAlchemy URL, instead of the application's own engine.",
        ),
        option(
            "--columns",
            metavar="NAMES",
            type=Names(),
            help="Only these columns: table.column, separated by commas.  [default: all that hold files]",
        ),
    )


def journal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``journal`` and ``journal_schema``."""
    return decorated(
        command,
        option(
            "--journal",
            metavar="URL",
            callback=warn_of_password,
            help="Keep the journal in another database.  [default: the application's own]",
        ),
        option("--journal-schema", metavar="NAME", help="Database schema of the journal's tables."),
    )
