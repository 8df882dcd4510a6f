"""The options of ``run``, ``plan`` and ``doctor``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, JournalOptions, warn_of_password
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import fill, group, option
from migrate_storage.cli.param_types import Names
from migrate_storage.cli.shared_options import (
    CensusFlags,
    LimitOptions,
    PaceOptions,
    PatternOptions,
    PreserveOptions,
    RouteOptions,
    lease_ttl_option,
    max_attempts_option,
    max_memory_option,
    opaque_etags_option,
    shutdown_timeout_option,
)
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import visible
from migrate_storage.jobs.run.options import INVALID_KEYS, RunOptions

if TYPE_CHECKING:
    from migrate_storage.application.application import Application

__all__ = ("RunRequest",)

_DEFAULT = RunOptions(source="")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The application and the options of a run."""

    application: ApplicationOptions = group(ApplicationOptions)
    route: RouteOptions = group(RouteOptions)
    where: str | None = option(metavar="SQL", help="Only rows that meet this condition.")
    limit: int | None = option(metavar="N", type=int, help="Only the first N rows, then stop with exit code 4.")
    patterns: PatternOptions = group(PatternOptions)
    invalid_keys: str = option(
        renamed={"key-rule": "invalid-keys", "refuse": "fail"},
        type=click.Choice(INVALID_KEYS), default=_DEFAULT.invalid_keys, show_default=True,
        help="A key that the destination cannot address, such as a//b: list it, or percent-encode what cannot be "
        "said.",
    )  # fmt: skip
    rename: str | None = option(
        metavar="RULE",
        help="Give copies other filenames. PATTERN=>REPLACEMENT: a regular expression that matches the whole name, such as "
        r"'(\d{4})-(.*)=>\1/\2'. Or MODULE:FUNCTION, from the old name to the new one. All names are checked before the first byte is copied.",
    )
    preservation: PreserveOptions = group(PreserveOptions)
    copy_only: bool = option(is_flag=True, help="Copy and verify; leave the rows for a later run.")
    keep_rows: bool = option(is_flag=True, help="Mirror: copy everything, never re-point a row.")
    pace: PaceOptions = group(PaceOptions)
    limits: LimitOptions = group(LimitOptions)
    census: CensusFlags = group(CensusFlags)
    throttle_query: str | None = option(
        metavar="SQL",
        help="Pause while this query on the rows' database answers true or a number above zero; asked about once "
        "a second.",
    )
    max_replica_lag: float | None = option(
        metavar="SECONDS", type=float,
        help="Pause while a replica of the rows' database is further behind. A PostgreSQL primary knows (the user "
        "needs pg_monitor); MariaDB and MySQL need --replicas.",
    )  # fmt: skip
    replicas: tuple[str, ...] = option(
        metavar="URLS", type=Names(), default=(), callback=warn_of_password,
        help="Replicas to ask how far behind they are, separated by commas.",
    )  # fmt: skip
    batch_size: int = option(
        renamed={"window": "batch-size"},
        metavar="N",
        type=int,
        default=_DEFAULT.batch_size,
        show_default=True,
        help="Rows read in one short transaction.",
    )
    max_memory: int = max_memory_option(_DEFAULT.max_memory)
    max_attempts: int = max_attempts_option()
    settle_time: float = option(
        renamed={"settle": "settle-time"},
        metavar="SECONDS", type=float, default=_DEFAULT.settle_time, show_default=True,
        help="Time to let late writes arrive before the last HEADs of the sources.",
    )  # fmt: skip
    opaque_etags: tuple[str, ...] = opaque_etags_option()
    consistent_listings: tuple[str, ...] = option(
        metavar="KEYS", type=Names(), default=(), shell_complete=complete_keys,
        help="Backends whose listings show each write that was acknowledged before. There one LIST replaces the HEADs of "
        "many sources, as it does on Amazon's, Google's and Azure's own hosts.",
    )  # fmt: skip
    canary_prefix: str | None = option(
        metavar="PREFIX",
        help="Where listings of the source are not known to be fresh: write small objects there, and delete them. They are "
        "behind files whose name begins with PREFIX ('' for any). A page of a listing that shows one replaces HEADs.",
    )
    shutdown_timeout: float = shutdown_timeout_option(default=_DEFAULT.shutdown_timeout)
    lease_ttl: float = lease_ttl_option(_DEFAULT.lease_ttl, "run")
    journal: JournalOptions = group(JournalOptions)

    def options(self, application: Application, **others: Any) -> RunOptions:
        """Return the options of the run, with ``others`` among them.

        Raises:
            ConfigurationError: when the keys are not among the application's backends, or a value is out of range.
        """
        if self.route.source is None:
            raise ConfigurationError(f"name the backend to leave: --from KEY; {_describe_backends(application)}")
        self._check_key(application, "--from", self.route.source)
        if self.route.destination is not None:
            self._check_key(application, "--to", self.route.destination)
        for flag, keys in (
            ("--opaque-etags", self.opaque_etags), ("--consistent-listings", self.consistent_listings)
        ):  # fmt: skip
            for key in keys:
                self._check_key(application, flag, key)
        return fill(RunOptions, self, **others)

    def _check_key(self, application: Application, flag: str, key: str) -> None:
        if key not in application.backends:
            near = difflib.get_close_matches(key, application.backends, n=1)
            hint = f"did you mean {visible(near[0])!r}? " if near else ""
            late = self.application.app and not self.application.lifespan and not near
            advice = "; if the application registers it in its lifespan, add --lifespan" if late else ""
            raise ConfigurationError(
                f"{flag} {visible(key)}: no backend has this key: {hint}{_describe_backends(application)}{advice}"
            )


def _describe_backends(application: Application) -> str:
    shown = ", ".join(f"{visible(key)} ({backend.driver})" for key, backend in sorted(application.backends.items()))
    return f"there is {shown}" if shown else "no backend is registered"
