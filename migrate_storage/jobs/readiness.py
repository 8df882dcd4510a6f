"""Check whether a backend key can be unregistered after a migration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import MIDDLE_PHASES, Phase
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.table import PhaseTable
from migrate_storage.cutover.state import read_state
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.jobs.census import reason_to_refuse, search_all
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.jobs.connections import all_rows, connected
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.journal.find_schema import find_tables
from migrate_storage.journal.schema import PREFIX
from migrate_storage.reporting import Report
from migrate_storage.reporting.census import name_counts

__all__ = ("ReadinessCheck", "ready_to_unregister")


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One condition for unregistering a key."""

    #: ``rows``, ``values``, ``census``, ``work``, ``run``, ``soak``, ``cutover``, ``entries`` or ``phase``.
    name: str
    ready: bool
    #: One line for a person.
    message: str


def ready_to_unregister(
    application: Application,
    key: str | None,
    *,
    soak: float,
    journal: str | None = None,
    schema: str | None = None,
    census: CensusOptions | None = None,
) -> tuple[str, list[ReadinessCheck]]:
    """Check every condition for unregistering a backend key. Nothing is changed.

    Args:
        application: has the rows; all its columns are read.
        key: the backend key; ``None`` means the source of the latest run.
        soak: required seconds since the last row was re-pointed. Choose it longer than the validity of any signed URL,
            and than the life of any process that loaded a row before.
        journal: URL of another database that has the journal.
        schema: database schema of the journal's tables.
        census: how the whole database is searched for the key; ``None`` searches all of it.

    Returns:
        The key and its checks. It can be unregistered when every check is ready.

    Raises:
        ConfigurationError: no key is given, and the journal has no run.
    """
    with connected(application, journal, schema) as (database, book):
        known = book.exists
        if key is None:
            if not known:
                raise ConfigurationError("no run is journaled from which the key is known: give --from KEY")
            key = book.runs.migration_run().source
        runs = [run for run in book.runs.latest(limit=1000) if run.kind == "run" and run.source == key] if known else []
        checks = list(_check_rows(application, database, key))
        found = _check_census(application, database, key, census or CensusOptions(), all(each.ready for each in checks))
        checks += [found, *_check_work(book if known else None)]
        checks.extend(_check_latest_run(runs))
        checks.extend(_check_cutovers(application, database, key))
        last = book.rows.last_repointed([run.id for run in runs]) if runs else None
        checks.append(_check_soak(None if last is None else max(0.0, book.database.time() - last), soak))
    return key, checks


def _check_rows(application: Application, database: Database, key: str) -> Iterator[ReadinessCheck]:
    naming, broken, elsewhere = 0, 0, list[str]()
    with all_rows(application, database) as everywhere:
        columns = [(there, column) for there, columns in everywhere for column in columns]
        for there, column in columns:
            before = naming
            for window in FileColumn(there, column).windows(key, 2000):
                for row in window:
                    try:
                        naming += any(slot.file["backend"] == key for slot in parse_slots(column, row))
                    except BrokenValueError:
                        broken += 1
            elsewhere.extend([f"{column} in {there}"] if naming > before and there is not database else [])
    verb = "names" if naming == 1 else "name"
    message = f"no row of {amount(len(columns), 'column')} names it"
    if naming:
        others = f" (also in {', '.join(elsewhere)})" if elsewhere else ""
        message = f"{amount(naming, 'row')} still {verb} it{others}"
    yield ReadinessCheck("rows", not naming, message)
    if broken:
        message = f"{amount(broken, 'row')} cannot be read as files and may name it: correct them by hand"
        yield ReadinessCheck("values", False, message)


def _check_census(
    application: Application, database: Database, key: str, options: CensusOptions, files_moved: bool
) -> ReadinessCheck:
    """Check that a census finds no row in other columns; where all files were moved, none in the known columns either."""
    excused: list[str] = []
    with all_rows(application, database) as everywhere:
        for there, census in search_all(everywhere, application, (key,), options):
            if reason := reason_to_refuse(census, (key,)):
                return ReadinessCheck("census", False, reason + ("" if there is database else f" ({there})"))
            if files_moved and census is not None and (quoted := census.known(key)):
                message = f"{amount(quoted, 'row')} of known columns quote a file of it in a text, which no run changes"
                return ReadinessCheck("census", False, f"{message}: correct them by hand, or excuse the column")
            excused += [name_counts(census.excused(key), key)] if census is not None and census.excused(key) else []
    besides = f", besides {', '.join(excused)}, which are excused" if excused else ""
    return ReadinessCheck("census", True, f"no row in a column that no model has names it{besides}")


def _check_work(journal: Journal | None) -> Iterator[ReadinessCheck]:
    left = journal.leases.seconds_left() if journal is not None else 0.0
    message = f"a run, revert or purge has the lease for {duration(left)} more" if left else "no job is at work"
    yield ReadinessCheck("work", not left, message)


def _check_cutovers(application: Application, database: Database, key: str) -> Iterator[ReadinessCheck]:
    """Check the cutover backends under the key, and those that have it as a side, in every schema with an outbox."""
    cutovers = [backend for backend in application.backends.values() if isinstance(backend, CutoverBackend)]
    registered = [backend for backend in cutovers if key in (backend.source.key, backend.destination.key)]
    needing = [reason for backend in registered if (reason := _reason_needed(backend, key))]
    if needing:
        yield ReadinessCheck("cutover", False, "; ".join(needing))
    over = {backend.key: backend.outbox for backend in registered}
    found = [table.qualifier for table in find_tables(database, "tombstone") if table.name == f"{PREFIX}outbox"]
    outboxes = [Outbox(database, name, schema) for schema in found for name in sorted({key, *over})]
    elsewhere = (outbox for outbox in over.values() if outbox is not None and outbox.database.url != database.url)
    outboxes = [outbox for outbox in (*outboxes, *elsewhere) if outbox.database.transaction(outbox.tables.exist)]
    if not outboxes:
        return
    entries = sum(outbox.count_open() for outbox in outboxes)
    message = f"{amount(entries, 'key')} of a cutover with an open entry: run 'migrate-storage cutover repair'"
    yield ReadinessCheck("entries", not entries, message if entries else "no key of a cutover has an open entry")
    tables = [PhaseTable(outbox.database, outbox.backend, outbox.tables) for outbox in outboxes]
    processes = [process for table in tables for process in table.database.transaction(table.read_processes)]
    acting = [process.name for process in processes if process.alive]
    count = amount(len(acting), "process", "processes")
    message = f"{count} may be acting in a cutover's phase: {', '.join(acting[:5])}" if acting else ""
    between = [(table.backend, table.snapshot()[0].phase) for table in tables]
    for backend, phase in between if not acting else ():
        if phase in MIDDLE_PHASES:
            message = f"the cutover of {backend!r} is in phase {phase.name}, in which both sides are needed: advance or rollback"
    yield ReadinessCheck("phase", not message, message or "no process acts in a cutover's phase")


def _reason_needed(backend: CutoverBackend, key: str) -> str:
    """Return why a registered cutover needs the key, which is one of its sides; empty where it does not."""
    state = read_state(backend)
    last, side = (Phase.DESTINATION, "source") if key == backend.source.key else (Phase.SOURCE, "destination")
    if state.shared and state.phases == (last,):
        return ""
    return f"it is the {side} of the cutover {backend.key!r}, which is in {state.describe()}"


def _check_latest_run(runs: list[RunRecord]) -> Iterator[ReadinessCheck]:
    if not runs:
        yield ReadinessCheck("run", True, "no run ever went from it")
        return
    latest = runs[0]
    report = Report.from_dict(json.loads(latest.report)) if latest.report else None
    if report is None or latest.state != "completed":
        yield ReadinessCheck("run", False, f"the latest run from it ({latest.id}) is {latest.state}: run again")
    elif report.problem_count:
        message = f"the latest run from it lists {amount(report.problem_count, 'object')}"
        yield ReadinessCheck("run", False, f"{message}: see 'migrate-storage report {latest.id}'")
    else:
        yield ReadinessCheck("run", True, f"the latest run from it ({latest.id}) finished, with nothing listed")


def _check_soak(since: float | None, soak: float) -> ReadinessCheck:
    """Check that enough seconds have passed since the last row was re-pointed."""
    if since is None:
        return ReadinessCheck("soak", True, "no row was ever re-pointed from it")
    message = f"the last row was re-pointed {duration(since)} ago, the soak is {duration(soak)}"
    return ReadinessCheck("soak", since >= soak, message)
