"""The options of ``run``, ``plan`` and ``doctor``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrate_storage.cli.application_options import ApplicationOptions, JournalOptions, warn_of_password
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import fill, group, option
from migrate_storage.cli.param_types import Names
from migrate_storage.cli.shared_options import (
    CensusFlags,
    LimitOptions,
    PaceOptions,
    PairOptions,
    PatternOptions,
    PreserveOptions,
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
    route: PairOptions = group(PairOptions)
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
            ConfigurationError: the keys are not among the application's backends, or several pairs are named, or a value is out
                of range.
        """
        first, *more = self.options_of_each(application, **others)
        if more:
            raise ConfigurationError("this command is for one pair of keys: give one --from KEY")
        return first

    def options_of_each(self, application: Application, **others: Any) -> tuple[RunOptions, ...]:
        """Return the options of the run of each pair of keys, with ``others`` among them.

        Raises:
            ConfigurationError: the keys are not among the application's backends, or a value is out of range.
        """
        pairs = self._registered(application) if self.route.all_pairs else self._named(application)
        for flag, keys in (
            ("--opaque-etags", self.opaque_etags), ("--consistent-listings", self.consistent_listings)
        ):  # fmt: skip
            for key in keys:
                self._check_key(application, flag, key)
        return tuple(fill(RunOptions, self, source=source, destination=to, **others) for source, to in pairs)

    def _named(self, application: Application) -> list[tuple[str, str | None]]:
        """Return the pairs that ``--from`` and ``--to`` name."""
        if not self.route.source:
            raise ConfigurationError(f"name the backend to leave: --from KEY; {_describe_backends(application)}")
        pairs = [_split_pair(text, application.backends) for text in self.route.source]
        lone = [source for source, to in pairs if to is None]
        typed = click.get_current_context().get_parameter_source("destination") is ParameterSource.COMMANDLINE
        if not lone and typed:
            raise ConfigurationError(f"--from {visible(self.route.source[0])} names its destination: leave --to out")
        for source, to in pairs:
            self._check_key(application, "--from", source)
            if to is not None:
                self._check_key(application, "--from", to)
        if lone and self.route.destination is not None:
            self._check_key(application, "--to", self.route.destination)
        return [(source, self.route.destination if to is None else to) for source, to in pairs]

    def _registered(self, application: Application) -> list[tuple[str, str | None]]:
        """Return the pairs that the application registers."""
        from migrate_storage.application.pair_registration import registered_pairs

        context = click.get_current_context()
        for flag, name in (("--from", "source"), ("--to", "destination")):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise ConfigurationError(f"--all names the pairs itself: leave {flag} out")
        pairs = registered_pairs(application.backends)
        if not pairs:
            raise ConfigurationError(
                "--all takes the pairs that the application registers with register_pair, and it registers none: name each pair "
                f"with --from OLD=NEW; {_describe_backends(application)}"
            )
        return [*pairs]

    def _check_key(self, application: Application, flag: str, key: str) -> None:
        if key not in application.backends:
            near = difflib.get_close_matches(key, application.backends, n=1)
            hint = f"did you mean {visible(near[0])!r}? " if near else ""
            late = self.application.app and not self.application.lifespan and not near
            advice = "; if the application registers it in its lifespan, add --lifespan" if late else ""
            raise ConfigurationError(
                f"{flag} {visible(key)}: no backend has this key: {hint}{_describe_backends(application)}{advice}"
            )


def _split_pair(text: str, backends: Mapping[str, object]) -> tuple[str, str | None]:
    """Split ``old=new`` into two keys; a key may have the sign in it itself."""
    if text in backends or "=" not in text:
        return text, None
    places = [number for number, sign in enumerate(text) if sign == "="]
    splits = [(text[:at], text[at + 1 :]) for at in places]
    return next((each for each in splits if set(each) <= set(backends)), splits[0])


def _describe_backends(application: Application) -> str:
    shown = ", ".join(f"{visible(key)} ({backend.driver})" for key, backend in sorted(application.backends.items()))
    return f"there is {shown}" if shown else "no backend is registered"
