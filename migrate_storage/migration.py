"""The main job: every object that a row names under one backend key is moved, verified, and the row re-pointed."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from migrate_storage.application import Application, load_application
from migrate_storage.carry import Budget, Carrier
from migrate_storage.database import Database
from migrate_storage.errors import LeaseHeldError, RunError, StoppedError
from migrate_storage.events import (
    BytesMoved,
    ItemFinished,
    Listener,
    Noted,
    PassStarted,
    RunFinished,
    RunStarted,
    silent,
)
from migrate_storage.journal import Entry, Journal, Run, new_run_id
from migrate_storage.model import Action, Item, Outcome, OutcomeKind, Slot, Way
from migrate_storage.options import RunOptions
from migrate_storage.pipeline import Pipeline
from migrate_storage.preflight import Facts, examine
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rows import BrokenValueError, Row, Rows, load_key, parse_slots

__all__ = ("Migration",)

LEASE = 15.0
"""Seconds after which a run that died without a word no longer holds up the next one."""


class Migration:
    """One migration of an application's rows from one backend key to another.

    Args:
        application: what to migrate: see :func:`migrate_storage.application.load_application`.
        options: how.
        listener: called with each event, one at a time.
    """

    def __init__(self, application: Application, options: RunOptions, listener: Listener = silent) -> None:
        self._application, self._options = application, options
        self._listener, self._telling = listener, threading.Lock()
        self._stopping, self._aborting = threading.Event(), threading.Event()
        self._fatal: RunError | None = None
        self._bytes = 0
        self._counts: dict[OutcomeKind, int] = {}
        self._evidence: dict[str, int] = {}
        self._listed: dict[tuple[str, str], Outcome] = {}
        self._listed_total = 0

    @classmethod
    def for_app(
        cls, spec: str, *, source: str, destination: str | None = None, listener: Listener = silent, **options: Any
    ) -> Migration:
        """A migration of the application that ``spec`` names, as the command line's ``--app`` does.

        Args:
            spec: ``module`` or ``module:name``.
            source: backend key that rows name now.
            destination: backend key that they shall name; left out, the swap.
            listener: called with each event.
            options: fields of :class:`migrate_storage.options.RunOptions`.
        """
        return cls(load_application(spec), RunOptions(source=source, destination=destination, **options), listener)

    def stop(self) -> None:
        """End the run soon: small objects in flight finish, large ones stop. A second call also drops the small ones."""
        if self._stopping.is_set():
            self._aborting.set()
        self._stopping.set()

    def run(self) -> Report:
        """Do it.

        Returns:
            What was done and what is left; ``exit_code`` says whether a person is needed.

        Raises:
            ConfigurationError: bad options or configuration, found before anything was touched.
            LeaseHeldError: another run is at work on this database.
        """
        options = self._options
        database = Database(self._application.engine)
        journal_database = database
        try:
            database.connect()
            if options.journal:
                journal_database = Database(options.journal)
                journal_database.connect()
            journal = Journal(journal_database, options.journal_schema)
            retry = Retry(options.attempts, self._stopping)
            facts = examine(self._application, options, database, retry)
            if options.dry_run:
                return self._job(facts, database, None, retry, run=new_run_id(), resumed=False)
            journal.prepare()
            with self._lease(journal):
                self._settle_intents(journal, database)
                return self._job(
                    facts, database, journal, retry, run=new_run_id(), resumed=self._resumes(journal, facts)
                )
        finally:
            if journal_database is not database:
                journal_database.close()
            database.close()

    # -- the job

    def _job(
        self, facts: Facts, database: Database, journal: Journal | None, retry: Retry, *, run: str, resumed: bool
    ) -> Report:
        options, route = self._options, facts.route
        began = time.time()
        estimate = sum(rows.estimate(options.source) for rows in facts.rows)
        if journal is not None:
            journal.begin(
                Run(
                    id=run, kind="run", source=route.source.key, destination=route.destination.key, way=route.way,
                    state="running", started=began, updated=began,
                )
            )  # fmt: skip
        self._tell(
            RunStarted(
                run=run, source=route.source.key, destination=route.destination.key, way=route.way, reason=route.reason,
                dry_run=options.dry_run, resumed=resumed, rows=estimate if options.limit is None else min(estimate, options.limit),
            )
        )  # fmt: skip
        for note in (*facts.notes, *facts.not_carried):
            self._tell(Noted(note=note))
        pipeline = Pipeline(
            route,
            Carrier(
                route, facts.capabilities, retry=retry, budget=Budget(options.memory), moved=self._moved,
                checkpoint=self._checkpoint, dry_run=options.dry_run,
            ),
            database=database, journal=journal, run=run, keep_rows=options.copy_only or options.keep_rows,
            concurrency=options.concurrency, tell=self._ended, stopping=self._stopping, grace=options.grace,
        )  # fmt: skip
        state, error, passes = "finished", "", 0
        try:
            state, passes = self._passes(pipeline, facts, journal, run, retry)
        except RunError as failure:
            state, error = ("stopped", "") if isinstance(failure, StoppedError) else ("failed", str(failure))
            self._stopping.set()
        except KeyboardInterrupt:
            state = "stopped"
            self._stopping.set()
        finally:
            pipeline.close()
        if self._fatal is not None:
            state, error = "failed", str(self._fatal)
        report = Report(
            run=run, way=route.way, way_reason=route.reason, source=route.source.key, destination=route.destination.key,
            state="planned" if options.dry_run and state == "finished" else state, error=error, dry_run=options.dry_run,
            resumed=resumed, started=began, finished=time.time(), passes=passes, rows_moved=pipeline.rows_moved,
            rows_left=self._left(facts, state), bytes_moved=self._bytes, not_carried=facts.not_carried, notes=facts.notes,
            **self._tally(journal, run, state), next_command="",
        )  # fmt: skip
        report = replace(report, next_command=self._next(report))
        if journal is not None and state != "failed":
            journal.progress(run, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        elif journal is not None:
            self._write_down_failure(journal, run, report)
        self._tell(RunFinished(run=run, state=report.state))
        return report

    def _passes(
        self, pipeline: Pipeline, facts: Facts, journal: Journal | None, run: str, retry: Retry
    ) -> tuple[str, int]:
        """Pass after pass until one finds nothing new; then the last looks, and a last pass after them."""
        options = self._options
        number, settled, seen = 0, False, 0
        while True:
            number += 1
            self._tell(PassStarted(number=number))
            before = pipeline.news
            for rows in facts.rows:
                for window in rows.windows(options.source, options.window):
                    if options.limit is not None:
                        window = window[: options.limit - seen]  # noqa: PLW2901
                        seen += len(window)
                    if window:
                        pipeline.window(rows, window)
                    if self._stopping.is_set() or (options.limit is not None and seen >= options.limit):
                        break
                if self._stopping.is_set():
                    break
            pipeline.finish()
            if self._stopping.is_set():
                return "stopped", number
            if options.limit is not None and seen >= options.limit:
                return "limited" if self._remain(facts) else "finished", number
            if journal is None:
                return "finished", number
            if pipeline.news > before:
                settled = False
                continue
            if settled:
                return "finished", number
            if number > 1 or self._listed_total:
                self._wait(options.settle)
            self._last_looks(pipeline, facts, journal, run, retry)
            settled = True

    def _last_looks(self, pipeline: Pipeline, facts: Facts, journal: Journal, run: str, retry: Retry) -> None:
        """Look at each source once more; what was replaced since its copy is copied again."""
        if facts.route.way is Way.SWAP:
            return
        by_name = {(rows.column.schema, rows.column.table, rows.column.column): rows for rows in facts.rows}
        outcomes = (OutcomeKind.REWRITTEN, OutcomeKind.COPIED)
        for batch in journal.objects(run, state="held", outcomes=outcomes):
            for entry, changed in zip(
                batch, pipeline.each(lambda entry: self._moved_on(facts, entry, retry), batch), strict=True
            ):
                if changed:
                    self._mend(pipeline, journal, by_name, entry, run)
            if self._stopping.is_set():
                break
        pipeline.finish()

    def _moved_on(self, facts: Facts, entry: Entry, retry: Retry) -> bool:
        from migrate_storage.verify import unchanged

        if entry.evidence in ("same place", "same place".title()):
            return False
        store, path = facts.route.source.at(entry.source_path)
        try:
            now = retry(lambda: store.head(path))
        except StoreFailure:
            return False
        return not unchanged(entry.source_evidence, now.evidence)

    def _mend(self, pipeline: Pipeline, journal: Journal, by_name: dict[Any, Rows], entry: Entry, run: str) -> None:
        item = Item(source=entry.source, destination=entry.destination, action=Action.TRANSFER, slots=())
        rows: list[tuple[Rows, Row, tuple[int | None, ...]]] = []
        slots: list[Slot] = []
        latest = {line["row_id"]: line for line in journal.rows_of(entry.id, run=run)}
        for line in latest.values():
            table = by_name.get((line["table_schema"], line["table_name"], line["column_name"]))
            if table is None:
                continue
            row = Row(load_key(line["pk"]), line["new_value"])
            try:
                naming = [slot for slot in parse_slots(table.column, row) if _names(slot, entry)]
            except BrokenValueError:
                continue
            slots.extend(naming)
            rows.append((table, row, tuple(slot.ref.index for slot in naming)))
        pipeline.mend(entry, replace(item, slots=tuple(slots)), rows)

    # -- the lease

    @contextmanager
    def _lease(self, journal: Journal) -> Iterator[None]:
        owner = uuid.uuid4().hex
        self._take_lease(journal, owner)
        over = threading.Event()
        beat = threading.Thread(target=self._heartbeat, args=(journal, owner, over), name="lease", daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()
            if self._fatal is None:
                try:
                    journal.release(owner)
                except RunError:
                    # The database is gone; the lease ends by itself.
                    pass

    def _take_lease(self, journal: Journal, owner: str) -> None:
        """Take the lease, waiting out one whose holder died: it is not renewed."""
        left = journal.acquire(owner, seconds=LEASE)
        until = time.monotonic() + LEASE + 1
        while left:
            if time.monotonic() > until:
                raise LeaseHeldError(
                    f"another run, revert or purge is at work on {journal.database}: see 'migrate-storage status', and wait until it is done or stop it"
                )
            self._wait(min(left, 0.5))
            left = journal.acquire(owner, seconds=LEASE)

    def _heartbeat(self, journal: Journal, owner: str, over: threading.Event) -> None:
        while not over.wait(LEASE / 3):
            try:
                journal.renew(owner, seconds=LEASE)
            except RunError as error:
                self._fatal = error
                self._stopping.set()
                return

    # -- news

    def _tell(self, event: Any) -> None:
        with self._telling:
            self._listener(event)

    def _moved(self, count: int) -> None:
        with self._telling:
            self._bytes += count
            self._listener(BytesMoved(count=count))

    def _checkpoint(self) -> None:
        if self._stopping.is_set():
            raise StoppedError("the run was told to stop: a large object was left half-way, its upload aborted")

    def _ended(self, outcome: Outcome) -> None:
        key = (str(outcome.source), str(outcome.destination))
        if not outcome.kind.done and (len(self._listed) < LISTED or key in self._listed):
            self._listed[key] = outcome
        elif outcome.kind.done:
            self._listed.pop(key, None)
        self._counts[outcome.kind] = self._counts.get(outcome.kind, 0) + 1
        if outcome.kind.done and outcome.evidence:
            self._evidence[outcome.evidence] = self._evidence.get(outcome.evidence, 0) + 1
        self._listed_total = len(self._listed)
        self._tell(ItemFinished(outcome=outcome))

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise StoppedError("stopped while waiting")

    # -- the report

    def _tally(self, journal: Journal | None, run: str, state: str) -> dict[str, Any]:
        """Counts of the run: of the journal, where an object counts once however many passes saw it."""
        counts = self._counts
        if journal is not None:
            try:
                counts = {OutcomeKind(kind): count for kind, count in journal.count(run).items()}
            except RunError:
                if state != "failed":
                    raise
        total = sum(count for kind, count in counts.items() if not kind.done)
        return {
            "counts": counts,
            "evidence": self._evidence,
            "listed": tuple(self._listed.values())[:LISTED],
            "listed_total": total,
        }

    def _left(self, facts: Facts, state: str) -> int | None:
        if self._options.dry_run or state == "failed" or facts.route.way in (Way.SWAP, Way.TAKE_OVER):
            return None
        return sum(
            1
            for rows in facts.rows
            for window in rows.windows(self._options.source, 5000)
            for row in window
            if _still(rows, row, self._options.source)
        )

    def _remain(self, facts: Facts) -> bool:
        return any(True for rows in facts.rows for window in rows.windows(self._options.source, 500) if window)

    def _next(self, report: Report) -> str:
        return _next_command(report, self._options)

    def _write_down_failure(self, journal: Journal, run: str, report: Report) -> None:
        try:
            journal.progress(run, state="failed", report=json.dumps(report.to_dict()), finished=report.finished)
        except RunError:
            # The database itself is what failed: the run's line stays "running" until somebody looks.
            pass

    def _resumes(self, journal: Journal, facts: Facts) -> bool:
        return any(
            run.kind == "run"
            and run.source == facts.route.source.key
            and run.destination == facts.route.destination.key
            for run in journal.runs()
        )

    def _settle_intents(self, journal: Journal, database: Database) -> None:
        """A journal in another database may have been left with intents: each row says what became of it."""
        settle = _intent_settler(journal, database, {str(column): column for column in self._application.columns})
        for batch in journal.rows_in("intent"):
            settle(batch)


def _still(rows: Rows, row: Row, key: str) -> bool:
    try:
        return any(slot.file["backend"] == key for slot in parse_slots(rows.column, row))
    except BrokenValueError:
        return True


def _names(slot: Slot, entry: Entry) -> bool:
    return bool(slot.file["backend"] == entry.destination_key and slot.file["filename"] == entry.destination_path)


def _intent_settler(
    journal: Journal, database: Database, columns: dict[str, Any]
) -> Callable[[list[dict[str, Any]]], None]:
    tables = {name: Rows(database, column) for name, column in columns.items()}

    def settle(batch: list[dict[str, Any]]) -> None:
        for line in batch:
            name = f"{line['table_name']}.{line['column_name']}"
            rows = tables.get(f"{line['table_schema']}.{name}" if line["table_schema"] else name)
            if rows is None:
                continue
            swapped = database.transaction(partial(rows.holds, pk=load_key(line["pk"]), value=line["new_value"]))
            journal.mark_row(line["id"], "swapped" if swapped else "kept")

    return settle


def _next_command(report: Report, options: RunOptions) -> str:
    to = f" --to {options.destination}" if options.destination else ""
    again = f"migrate-storage run --from {options.source}{to}"
    if report.dry_run:
        return again
    if report.state != "finished" or report.listed_total or report.rows_left:
        return again
    return "migrate-storage report"
