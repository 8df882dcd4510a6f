"""The options that commands share, each declared once, and the values that they become.

Precedence is flag, environment (``MIGRATE_STORAGE_<OPTION>``), configuration file, default.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from migrate_storage.cli.mounting import application_of
from migrate_storage.differences import KINDS
from migrate_storage.errors import ConfigurationError
from migrate_storage.filters import patterns_in
from migrate_storage.options import KEY_RULES, MiB, RunOptions
from migrate_storage.settings import DEFAULT_FILE, Settings, load_settings
from migrate_storage.text import visible

if TYPE_CHECKING:
    from migrate_storage.application import AnyEngine, Application

__all__ = (
    "BYTES",
    "EXCLUDE",
    "INCLUDE",
    "SECONDS",
    "Age",
    "Door",
    "Output",
    "Patterns",
    "Request",
    "allowance_options",
    "attempts_option",
    "decorated",
    "door_options",
    "example",
    "journal_options",
    "option",
    "output_options",
    "pace_options",
    "reports_options",
    "route_options",
    "run_options",
)

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_Command = TypeVar("_Command", bound=Callable[..., Any])
_SETTINGS = "migrate_storage.settings"
_PARAMETERS: dict[str, str] = {}
"""Options of the configuration file, without the dashes, with the parameter of the function that each becomes."""


class _Names(click.ParamType):  # type: ignore[type-arg]
    """Names, separated by commas; a list where they come from the configuration file."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        del param, ctx
        if isinstance(value, list | tuple):
            return tuple(map(str, value))
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class Patterns(click.ParamType):  # type: ignore[type-arg]
    """Patterns of filenames, separated by commas outside of braces; a list where they come from the configuration file."""

    name = "patterns"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The patterns, not read yet."""
        del param, ctx
        return tuple(map(str, value)) if isinstance(value, list | tuple) else patterns_in(str(value))


class _Bytes(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with a unit or without: ``64MiB``, ``1G``, ``67108864``."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is no number of bytes, such as 64MiB", param, ctx)
        return int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    """A time, with units or in seconds: ``2h``, ``1h30m``, ``90``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
        if not text or found is None:
            self.fail(f"{value!r} is no time, such as 2h, 1h30m or 90s", param, ctx)
        return sum(int(part or 0) * unit for part, unit in zip(found.groups(), (86400, 3600, 60, 1), strict=True))


BYTES, SECONDS = _Bytes(), _Seconds()
INCLUDE = (
    "Only files whose name matches one of these, separated by commas, in rclone's language: '*.jpg' anywhere, "
    "'/docs/*.{pdf,txt}' in a folder, 'docs/**' below it."
)
EXCLUDE = "Leave files alone whose name matches one of these, included or not."


class Age(click.ParamType):  # type: ignore[type-arg]
    """A time span such as ``30d``, ``12h`` or ``45`` seconds."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The span in seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no time span: write 30d, 12h, 90m or 45s", param, ctx)
        return float(found.group(1)) * _UNITS[found.group(2) or "s"]

    @staticmethod
    def typed(seconds: float) -> str:
        """The span as it can be typed again: in the largest unit of which it is a whole number."""
        fitting = [(unit, letter) for letter, unit in _UNITS.items() if seconds % unit == 0]
        unit, letter = max(fitting, default=(1.0, "s")) if seconds else (1.0, "s")
        return f"{seconds / unit:g}{letter}"


def option(*declarations: str, in_file: bool = True, **attributes: Any) -> Callable[[_Command], _Command]:
    """Declare an option that the environment, and the configuration file unless told otherwise, know by its name."""
    name = next(each for each in declarations if each.startswith("--")).partition("/")[0].removeprefix("--")
    parameter = next((each for each in declarations if not each.startswith("-")), name.replace("-", "_"))
    if in_file:
        _PARAMETERS[name] = parameter
    return click.option(*declarations, envvar=f"MIGRATE_STORAGE_{parameter_variable(name)}", **attributes)


def example(*commands: str) -> str:
    """Return the end of a command's help: what to type, kept as it is when the text around it is wrapped."""
    return "\n".join(("\b", "Example:", *(f"  {command}" for command in commands)))


def parameter_variable(name: str) -> str:
    """Return the part of the environment variable's name that an option's name becomes."""
    return name.replace("-", "_").upper()


@dataclass(frozen=True, kw_only=True)
class Door:
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
        from migrate_storage.application import from_database, load_application, take_application

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
        from migrate_storage.application import engine_from_url

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


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command speaks."""

    json: bool
    quiet: bool
    #: Where a job writes what it counts, for Prometheus.
    metrics: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run as it was asked for; the application completes it."""

    source: str | None
    values: Mapping[str, Any]

    def options(self, application: Application, *, dry_run: bool = False) -> RunOptions:
        """Return the options of the run.

        Raises:
            ConfigurationError: when the keys are not among the application's backends, or a value is out of range.
        """
        if self.source is None:
            raise ConfigurationError(f"say which backend to leave: --from KEY; {_known(application)}")
        _require(application, "--from", self.source)
        if self.values["destination"] is not None:
            _require(application, "--to", self.values["destination"])
        return RunOptions(source=self.source, **{**self.values, "dry_run": dry_run or self.values["dry_run"]})


def _known(application: Application) -> str:
    shown = ", ".join(f"{visible(key)} ({backend.driver})" for key, backend in sorted(application.backends.items()))
    return f"there is {shown}" if shown else "no backend is registered"


def _require(application: Application, name: str, key: str) -> None:
    if key not in application.backends:
        near = difflib.get_close_matches(key, application.backends, n=1)
        hint = f"did you mean {visible(near[0])!r}? " if near else ""
        raise ConfigurationError(f"{name} {visible(key)}: no backend has this key: {hint}{_known(application)}")


class _Refused(click.ClickException):
    """What is wrong before a command begins, in click's terms: programs that hold the command know no others."""

    exit_code = 2


def _read_settings(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """Make the configuration file the defaults of this command; runs before any other option is looked at."""
    try:
        settings = load_settings(value, _PARAMETERS)
    except ConfigurationError as error:
        raise _Refused(str(error)) from None
    context.meta[_SETTINGS] = settings
    defaults = {_PARAMETERS[name]: setting for name, setting in settings.options.items()}
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


def _warn_of_password(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
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


def decorated(command: Callable[..., Any], *decorators: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a command with decorators around it, the first of them outermost."""
    return functools.reduce(lambda decorated, decorate: decorate(decorated), reversed(decorators), command)


def pace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the limits of how fast the stores are spoken to."""
    default = RunOptions(source="")
    return decorated(
        command,
        option(
            "--concurrency", metavar="N", type=int, default=default.concurrency, show_default=True,
            help="Objects under way at once, at most: fewer while a service asks to slow down.",
        ),
        option(
            "--bandwidth", metavar="BYTES", type=BYTES,
            help="Content read in a second, over all objects under way: 10M.  [default: no limit]",
        ),
        option(
            "--max-requests-per-second", metavar="N", type=float,
            help="Requests to the stores in a second, about: parts of large uploads are not counted one by one.  "
            "[default: no limit]",
        ),
    )  # fmt: skip


def attempts_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``attempts``."""
    default = RunOptions(source="").attempts
    return option(
        "--attempts", metavar="N", type=int, default=default, show_default=True,
        help="Attempts for one request, the first included.",
    )(command)  # fmt: skip


def allowance_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the limits of how much it may do before it stops."""
    return decorated(
        command,
        option(
            "--max-bytes", metavar="BYTES", type=BYTES,
            help="Begin no further object after so much content, and stop with exit code 4: 500G.",
        ),
        option(
            "--max-duration", metavar="TIME", type=SECONDS,
            help="Begin no further object after this time, and stop with exit code 4: 2h, 1h30m.",
        ),
    )  # fmt: skip


def reports_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the report files, see :mod:`migrate_storage.differences`, as ``files`` by their parameters' names."""

    @functools.wraps(command)
    def with_files(*args: Any, **others: Any) -> Any:
        files = {kind.replace("-", "_"): others.pop(kind.replace("-", "_")) for kind in KINDS}
        return command(*args, files=files, **others)

    helps = {
        "combined": "All objects with a sign: = - + * !",
        "match": "Objects that are equal.",
        "differ": "Objects that differ.",
        "missing-on-dst": "Objects that the destination does not hold, or that rows name and no store holds.",
        "missing-on-src": "Objects of the other side only.",
        "error": "Objects that could not be compared.",
    }
    kind = click.Path(path_type=Path)
    return decorated(with_files, *(option(f"--{name}", type=kind, metavar="FILE", help=helps[name]) for name in helps))


def door_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
        door = Door(
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
            callback=_warn_of_password,
            help="SQLAlchemy URL, instead of the application's own engine.",
        ),
        option(
            "--columns",
            metavar="NAMES",
            type=_Names(),
            help="Only these columns: table.column, separated by commas.  [default: all that hold files]",
        ),
    )


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``--quiet``, as ``output``."""

    @functools.wraps(command)
    def with_output(*args: Any, json: bool, quiet: bool, **others: Any) -> Any:
        return command(*args, output=Output(json=json, quiet=quiet), **others)

    return decorated(
        with_output,
        option("--json", in_file=False, is_flag=True, help="Speak JSON, one value a line, on standard output."),
        option("--quiet", "-q", in_file=False, is_flag=True, help="Say nothing unless there is something to do."),
    )


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what :func:`output_options` gives, and ``--metrics-file``."""

    @functools.wraps(command)
    def with_metrics(*args: Any, output: Output, metrics_file: Path | None, **others: Any) -> Any:
        return command(*args, output=replace(output, metrics=metrics_file), **others)

    return output_options(
        option(
            "--metrics-file",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write counts and times for Prometheus to this file, again and again, each time whole.",
        )(with_metrics)
    )


def journal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``journal`` and ``journal_schema``."""
    return decorated(
        command,
        option(
            "--journal",
            metavar="URL",
            callback=_warn_of_password,
            help="Keep the journal in another database.  [default: the application's own]",
        ),
        option("--journal-schema", metavar="NAME", help="Database schema of the journal's tables."),
    )


def route_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``source`` and ``destination``, both optional."""
    return decorated(
        command,
        option("--from", "source", metavar="KEY", help="Backend key that the rows name now."),
        option(
            "--to",
            "destination",
            metavar="KEY",
            help="Backend key that the rows shall name.  [default: the same key, translated to obstore: the swap]",
        ),
    )


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a run, as ``request``; ``door_options`` goes above."""
    names = tuple(RunOptions.__dataclass_fields__.keys() - {"source", "columns"})

    @functools.wraps(command)
    def with_request(*args: Any, source: str | None, door: Door, dry_run: bool = False, **others: Any) -> Any:
        values = {name: others.pop(name) for name in names if name in others}
        request = Request(source=source, values={**values, "dry_run": dry_run, "columns": door.columns})
        return command(*args, door=door, request=request, **others)

    default = RunOptions(source="")
    return decorated(
        journal_options(with_request),
        route_options,
        option("--where", metavar="SQL", help="Only rows that meet this condition."),
        option("--limit", metavar="N", type=int, help="Only the first N rows, then stop with exit code 4."),
        option(
            "--include", metavar="PATTERNS", type=Patterns(), default=(), help=INCLUDE,
        ),
        option(
            "--exclude", metavar="PATTERNS", type=Patterns(), default=(), help=EXCLUDE,
        ),
        option(
            "--key-rule", type=click.Choice(KEY_RULES), default=default.key_rule, show_default=True,
            help="A key that the destination cannot address, such as a//b: list it, or percent-encode what cannot be "
            "said.",
        ),
        option("--copy-only", is_flag=True, help="Copy and verify; leave the rows for a later run."),
        option("--keep-rows", is_flag=True, help="Take over: copy everything, never re-point a row."),
        pace_options,
        allowance_options,
        option(
            "--throttle-query", metavar="SQL",
            help="Pause while this query on the rows' database answers true or a number above zero; asked about once "
            "a second.",
        ),
        option(
            "--max-replica-lag", metavar="SECONDS", type=float,
            help="Pause while a replica of the rows' database is further behind. A PostgreSQL primary knows (the user "
            "needs pg_monitor); MariaDB and MySQL need --replicas.",
        ),
        option(
            "--replicas", metavar="URLS", type=_Names(), default=(), callback=_warn_of_password,
            help="Replicas to ask how far behind they are, separated by commas.",
        ),
        option(
            "--window", metavar="N", type=int, default=default.window, show_default=True,
            help="Rows read in one short transaction.",
        ),
        option(
            "--memory", metavar="BYTES", type=BYTES, default=f"{default.memory // MiB}MiB", show_default=True,
            help="Content held in memory at once, over all objects under way.",
        ),
        attempts_option,
        option(
            "--settle", metavar="SECONDS", type=float, default=default.settle, show_default=True,
            help="Time to let late writes arrive before the last look at the sources.",
        ),
        option(
            "--grace", metavar="SECONDS", type=float, default=default.grace, show_default=True,
            help="Time that objects in flight get after Ctrl-C.",
        ),
        option(
            "--lease", metavar="SECONDS", type=float, default=default.lease, show_default=True,
            help="Time after which a run that died no longer holds up the next one.",
        ),
    )  # fmt: skip
