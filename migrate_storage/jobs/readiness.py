"""May the old key be unregistered? Only when nothing names it, nobody works on it, and the soak is over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.table import PhaseTable
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.jobs.connections import connected
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.journal.schema import Tables
from migrate_storage.reporting import Report

__all__ = ("Check", "ready_to_unregister")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so."""

    #: ``rows``, ``values``, ``work``, ``run``, ``soak``, ``entries`` or ``phase``.
    name: str
    ready: bool
    #: One line for a person.
    message: str


def ready_to_unregister(
    application: Application, key: str | None, *, soak: float, journal: str | None = None, schema: str | None = None
) -> tuple[str, list[Check]]:
    """Look at everything that speaks against unregistering a backend key. Nothing is changed.

    Args:
        application: its rows, all columns of them.
        key: the backend key; ``None`` means what the latest run went from.
        soak: seconds since the last row was re-pointed: longer than the longest signed URL, and than any process lives
            that loaded a row before.
        journal: URL of another database that holds the journal.
        schema: database schema of the journal's tables.

    Returns:
        The key, and what was found; it may go when every check is ready.

    Raises:
        ConfigurationError: no key is given, and no run is journaled that tells one.
    """
    with connected(application, journal, schema) as (database, book):
        known = book.exists
        if key is None:
            if not known:
                raise ConfigurationError("no run is journaled that tells the key: say --from KEY")
            key = book.runs.migration_run().source
        runs = [run for run in book.runs.latest(limit=1000) if run.kind == "run" and run.source == key] if known else []
        checks = [*_rows(application, database, key), *_work(book if known else None)]
        checks.extend(_run(runs))
        checks.extend(_cutover(application, database, key, schema))
        checks.append(_soak(book.rows.last_repointed([run.id for run in runs]) if runs else None, soak))
    return key, checks


def _rows(application: Application, database: Database, key: str) -> Iterator[Check]:
    naming, broken = 0, 0
    for column in application.columns:
        rows = FileColumn(database, column)
        for window in rows.windows(key, 2000):
            for row in window:
                try:
                    naming += any(slot.file["backend"] == key for slot in parse_slots(column, row))
                except BrokenValueError:
                    broken += 1
    verb = "names" if naming == 1 else "name"
    message = (
        f"{amount(naming, 'row')} still {verb} it"
        if naming
        else f"no row of {amount(len(application.columns), 'column')} names it"
    )
    yield Check("rows", not naming, message)
    if broken:
        yield Check(
            "values", False, f"{amount(broken, 'row')} cannot be read as files and may name it: correct them by hand"
        )


def _work(journal: Journal | None) -> Iterator[Check]:
    left = journal.leases.seconds_left() if journal is not None else 0.0
    message = f"a run, revert or purge holds the lease for {duration(left)} more" if left else "nobody is at work"
    yield Check("work", not left, message)


def _cutover(application: Application, database: Database, key: str, schema: str | None) -> Iterator[Check]:
    """A cutover backend under the key, and those that stand over it."""
    if not database.transaction(Tables(schema).exist):
        return
    over = (each for each in application.backends.values() if isinstance(each, CutoverBackend))
    keys = sorted({key, *(each.key for each in over if key in (each.source.key, each.destination.key))})
    outboxes = [Outbox(database, each, schema) for each in keys]
    entries = sum(each.count_open() for each in outboxes)
    message = f"{amount(entries, 'key')} of a cutover not settled: run 'migrate-storage cutover repair'"
    yield Check("entries", not entries, message if entries else "no key of a cutover is unsettled")
    tables = [PhaseTable(database, each.backend, each.tables) for each in outboxes]
    acting = [member.name for each in tables for member in database.transaction(each.read_processes) if member.alive]
    message = (
        f"{amount(len(acting), 'process', 'processes')} may be acting in a cutover's phase: {', '.join(acting[:5])}"
    )
    yield Check("phase", not acting, message if acting else "no process acts in a cutover's phase")


def _run(runs: list[RunRecord]) -> Iterator[Check]:
    if not runs:
        yield Check("run", True, "no run ever went from it")
        return
    latest = runs[0]
    report = Report.from_dict(json.loads(latest.report)) if latest.report else None
    if report is None or latest.state != "finished":
        yield Check("run", False, f"the latest run from it ({latest.id}) is {latest.state}: run again")
    elif report.listed_total:
        yield Check(
            "run",
            False,
            f"the latest run from it lists {amount(report.listed_total, 'object')}: see 'migrate-storage report {latest.id}'",
        )
    else:
        yield Check("run", True, f"the latest run from it ({latest.id}) finished, with nothing listed")


def _soak(last: float | None, soak: float) -> Check:
    if last is None:
        return Check("soak", True, "no row was ever re-pointed from it")
    since = max(0.0, time.time() - last)
    message = f"the last row was re-pointed {duration(since)} ago, the soak is {duration(soak)}"
    return Check("soak", since >= soak, message)
