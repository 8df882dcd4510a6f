"""A run as it is asked for: its options, and what they become where the application is known."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import MiB, visible
from migrate_storage.jobs.run.options import KEY_RULES, RunOptions

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
from migrate_storage.cli.application_options import ApplicationOptions, journal_options, warn_of_password
from migrate_storage.cli.option import decorated, option
from migrate_storage.cli.param_types import BYTES, Names, Patterns
from migrate_storage.cli.shared_options import EXCLUDE, INCLUDE, allowance_options, attempts_option, pace_options

__all__ = (
    "RunRequest",
    "route_options",
    "run_options",
)


@dataclass(frozen=True, kw_only=True)
class RunRequest:
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
    def with_request(
        *args: Any, source: str | None, door: ApplicationOptions, dry_run: bool = False, **others: Any
    ) -> Any:
        values = {name: others.pop(name) for name in names if name in others}
        request = RunRequest(source=source, values={**values, "dry_run": dry_run, "columns": door.columns})
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
            "--replicas", metavar="URLS", type=Names(), default=(), callback=warn_of_password,
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
