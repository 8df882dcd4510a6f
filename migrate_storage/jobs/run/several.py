"""Several runs, one after the other, whose pre-flights are all made before the first of them begins.

Each run is one for itself: with an id, a lease and a report of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from threading import Event
from typing import Protocol

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, MigrateStorageError, StoppedError
from migrate_storage.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_LIMIT_REACHED, EXIT_USAGE
from migrate_storage.core.model import Strategy
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, parse_slots
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.new_names import NewName, NewNames
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.preflight import RunPreflight
from migrate_storage.journal import object_id
from migrate_storage.reporting import Report
from migrate_storage.reporting.combined import CombinedReport, PairNotDone, describe_pair

__all__ = ("SeveralRuns", "check_pairs")


class _Job(Protocol):
    def run(self) -> Report: ...

    def stop(self) -> None: ...


def check_pairs(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Check that several pairs of keys can be done in any order.

    Raises:
        ConfigurationError: a key is a source twice, or a source is the destination of another pair.
    """
    sources = [source for source, _ in pairs]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigurationError(f"--from names {source!r} twice: its rows can go to one key only")
    for source, destination in pairs:
        if destination != source and destination in sources:
            raise ConfigurationError(
                f"{destination!r} is the destination of {source!r} and a source itself, so that its rows would move twice: run one "
                "pair after the other, each with a command of its own"
            )


class SeveralRuns:
    """Several runs of one application.

    Args:
        application: what to migrate.
        options: of each run. Limits of time and bytes are those of all runs together, and a limit of rows is that of each.
        make: makes the job of a run.
    """

    def __init__(
        self, application: Application, options: Sequence[RunOptions], make: Callable[[RunOptions], _Job]
    ) -> None:
        check_pairs([(each.source, each.destination) for each in options])
        self._application, self._options, self._make = application, options, make
        self._stopping = Event()
        self._current: _Job | None = None

    def stop(self) -> None:
        """End soon, from any thread or a signal handler; a second call aborts."""
        self._stopping.set()
        if self._current is not None:
            self._current.stop()

    def run(self) -> CombinedReport:
        """Check all pairs, then do one after the other.

        A run that fails or is stopped is the last one; one that reaches its limit of rows, or has problems, is not.

        Raises:
            ConfigurationError: a pair cannot be done: nothing was changed.
            StoppedError: a stop was requested before the first run began.
        """
        self._check_all()
        reports: list[Report] = []
        left, ended = list(self._options), None
        began, copied = time.monotonic(), 0
        while left and ended is None:
            how = _take_limits(left[0], time.monotonic() - began, copied)
            if self._stopping.is_set():
                ended = _not_done(left.pop(0), "a stop was requested", EXIT_INTERRUPTED)
            elif how is None:
                ended = _not_done(left.pop(0), "the limit of time or bytes was reached", EXIT_LIMIT_REACHED)
            else:
                try:
                    report = self._do(how)
                except MigrateStorageError as error:
                    if not reports:
                        raise
                    ended = _not_done(left.pop(0), str(error), _code_of(error))
                    continue
                reports.append(report)
                copied += report.bytes_copied
                del left[0]
                if left and report.exit_code in (EXIT_FAILED, EXIT_INTERRUPTED):
                    word = "failed" if report.exit_code == EXIT_FAILED else "was interrupted"
                    ended = _not_done(left.pop(0), f"the run of {report.source!r} {word} before", report.exit_code)
        not_done = (
            () if ended is None else (ended, *(_not_done(each, _reason_after(ended), ended.exit_code) for each in left))
        )
        combined = CombinedReport(reports=tuple(reports), not_done=not_done)
        unfinished = combined.exit_code or any(each.dry_run for each in reports)
        runs = " ".join(each.run for each in reports)
        return replace(combined, next_command="migrate-storage run" if unfinished else f"migrate-storage report {runs}")

    def _do(self, options: RunOptions) -> Report:
        self._current = job = self._make(options)
        if self._stopping.is_set():
            job.stop()
        return job.run()

    def _check_all(self) -> None:
        """Make the pre-flight of each pair, and compare the names of their copies."""
        first = self._options[0]
        with connected(self._application, first.journal, first.journal_schema) as (database, journal):
            found: list[tuple[RunOptions, RunPreflight]] = []
            for options in self._options:
                job = self._current = RunJob(self._application, options)
                if self._stopping.is_set():
                    raise StoppedError("a stop was requested, before anything was changed")
                with _naming_pair(options):
                    found.append((options, job.examine(database, journal)))
            self._current = None
            _check_copies([each for each in found if each[1].route.strategy is not Strategy.IN_PLACE], self._stopping)


@contextmanager
def _naming_pair(options: RunOptions) -> Iterator[None]:
    """Name the pair of keys in the message of an error."""
    try:
        yield
    except StoppedError:
        raise
    except ConfigurationError as error:
        pair = describe_pair(options.source, options.destination or options.source)
        raise ConfigurationError(f"{pair}: {error}") from error


def _not_done(options: RunOptions, reason: str, exit_code: int) -> PairNotDone:
    to = options.destination or options.source
    return PairNotDone(source=options.source, destination=to, reason=reason, exit_code=exit_code)


def _reason_after(ended: PairNotDone) -> str:
    """Return why the pairs after one that was not done were not done either."""
    if ended.exit_code in (EXIT_INTERRUPTED, EXIT_LIMIT_REACHED):
        return ended.reason
    return f"{describe_pair(ended.source, ended.destination)} was not done before"


def _take_limits(options: RunOptions, seconds: float, copied: int) -> RunOptions | None:
    """Return options with what is left of the limits of all runs; ``None`` where nothing is left."""
    duration = None if options.max_duration is None else options.max_duration - seconds
    size = None if options.max_bytes is None else options.max_bytes - copied
    if (duration is not None and duration <= 0) or (size is not None and size <= 0):
        return None
    return replace(options, max_duration=duration, max_bytes=size)


def _code_of(error: MigrateStorageError) -> int:
    if isinstance(error, StoppedError):
        return EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILED


def _check_copies(pairs: Sequence[tuple[RunOptions, RunPreflight]], stop: Event) -> None:
    """Check that no two objects of different pairs would be copied to one place.

    Only pairs whose destinations overlap are read. Within one pair the run lists such objects.

    Raises:
        ConfigurationError: two objects would.
    """
    shared: list[tuple[RunOptions, RunPreflight]] = []
    for one, other in combinations(pairs, 2):
        if _overlap(one[1].route, other[1].route):
            shared += [each for each in (one, other) if each not in shared]
    with NewNames() as names:
        for number, (options, preflight) in enumerate(shared):
            for rows in preflight.rows:
                for window in rows.windows(options.source, options.batch_size):
                    if stop.is_set():
                        raise StoppedError("a stop was requested, before anything was changed")
                    for name, owner in names.add(list(_name_copies(preflight.route, rows, window, number))):
                        (first, its_file), (_, file) = (each.split(" ", 1) for each in (owner, name.source))
                        if first != str(number):
                            raise ConfigurationError(
                                f"{its_file} and {file} would both be copied to {name.place}: give one of their destinations a prefix "
                                "of its own, or run them one after the other; nothing was changed"
                            )


def _overlap(one: MigrationPlan, other: MigrationPlan) -> bool:
    """Whether the destinations of two plans may have a place in common."""
    here, there = one.destination.root, other.destination.root
    if (here.service, here.endpoint, here.root) != (there.service, there.endpoint, there.root):
        return False
    return here.key.startswith(there.key) or there.key.startswith(here.key)


def _name_copies(plan: MigrationPlan, rows: FileColumn, window: Sequence[Row], number: int) -> Iterator[NewName]:
    """Yield the place of each copy, with the number of its pair in front of its source; a row that cannot be read is left to the run, which lists it."""
    for row in window:
        try:
            items = plan.items([slot for slot in parse_slots(rows.column, row) if plan.includes(slot)])
        except ValueError:
            continue
        for item in items.values():
            id_ = object_id(plan.source.place(item.source.path), "")
            place = plan.destination.place(item.destination.path)
            yield NewName(place, id_, f"{number} {item.source}", item.destination.path)
