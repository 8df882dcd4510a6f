"""Look at what rows name, any time: does it exist, is it what the row and the journal say, do both sides hold the same?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.application.columns import select_columns
from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.core.model import Outcome, RowRef, Slot, Way
from migrate_storage.core.parallel import parallel_map
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.distributed.shard import ShardedJob
from migrate_storage.jobs.distributed.shards import ShardRef, cut_rows, plan_of
from migrate_storage.jobs.old_base import SharedJob
from migrate_storage.jobs.verify.check_object import (
    VERIFIED_STATES,
    AuditOptions,
    NamedObject,
    ObjectCheck,
    location_of,
    outcome_of_broken_row,
)
from migrate_storage.journal import Journal, RunRecord, new_run_id
from migrate_storage.reporting import LISTED, Report
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("LEASE", "Audit")


LEASE = 15.0
"""Seconds after which a process that died is not waited for, where several look together."""


class Audit(SharedJob):
    """One look at all objects that rows name. Nothing is written, the journal is only read.

    Args:
        application: its rows and backends.
        options: what and how.
        listener: called with each event; every object is an ``ItemFinished``, equal ones too.
        part: which range of the rows this one looks at, where several processes share the look; ``None`` looks at all.
            Then the journal is written too: what was cut how, and how far each is.
    """

    def __init__(
        self,
        application: Application,
        options: AuditOptions,
        *,
        listener: Listener = silent,
        part: ShardRef | None = None,
    ) -> None:
        super().__init__(listener, part=part, concurrency=options.concurrency)
        self._application, self._options = application, options

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such key or column.
        """
        options = self._options
        sides = {key: ResolvedBackend(backend, pace=self._pace) for key, backend in self._application.backends.items()}
        for key in (options.key, options.through):
            if key is not None and key not in sides:
                raise ConfigurationError(
                    f"no storage backend is registered under {key!r}; registered: {', '.join(sorted(sides))}"
                )
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            if self._part is None:
                return self._job(sides, self._rows(database), database, journal, new_run_id())
            journal.prepare()
            with self._taken(journal, self._work(database), self._part) as share:
                if share.done:
                    return share.found()
                return self._job(sides, share.rows(self._rows(database)), database, journal, share.run)

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the look of several processes that is under way, or begin one, cut into so many ranges; do none of them.

        Returns:
            Its id, and the name of the lease that whoever sees to it is to hold in its name.
        """
        with connected(self._application, self._options.journal, self._options.journal_schema) as (database, journal):
            journal.prepare()
            return self._begin(journal, self._work(database), ranges)

    def _rows(self, database: Database) -> tuple[FileColumn, ...]:
        columns = select_columns(self._application.columns, self._options.columns)
        return tuple(FileColumn(database, column, where=self._options.where) for column in columns)

    def _work(self, database: Database) -> ShardedJob:
        """What several processes share."""
        options = self._options
        plan = plan_of(
            "verify", options.key, options.columns, options.where, options.deep, options.through, options.sample
        )

        def line(run: str) -> RunRecord:
            began = time.time()
            return RunRecord(id=run, kind="verify", state="running", started=began, updated=began, **self._named)

        return ShardedJob(
            lease=f"verify-{plan}", seconds=LEASE, plan=plan, limits=JobPace.from_options(options), line=line,
            cut=lambda into: cut_rows(self._rows(database), into), ends=False,
        )  # fmt: skip

    @property
    def _named(self) -> dict[str, Any]:
        options = self._options
        return {
            "source": options.key or "all keys",
            "destination": options.through or options.key or "all keys",
            "way": Way.SWAP,
        }

    def _job(
        self,
        sides: dict[str, ResolvedBackend],
        rows: Sequence[FileColumn],
        database: Database,
        journal: Journal,
        name: str,
    ) -> Report:
        options, began, named = self._options, time.time(), self._named
        how = (
            "both sides read"
            if options.deep
            else f"opened through {options.through} too"
            if options.through
            else "looked at"
        )
        self._tally.tell(
            RunStarted(kind="verify", run=name, reason=how, dry_run=True, resumed=False, rows=None, **named)
        )
        known = KnownLosses(journal)
        look = ObjectCheck(sides, options, self._retry, known)
        with self._steered(database):
            state, error = self._each(look, rows, journal if journal.exists else None)
        state, error = self._final_state(state, error)
        counts = dict(self._tally.counts)
        report = Report(
            kind="verify", run=name, way_reason=how, state=state, error=error, started=began, finished=time.time(), passes=1,
            counts=counts, evidence=self._tally.evidence, listed=self._tally.listed[:LISTED],
            next_command="",
            notes=tuple(known.stale.values()), **named,
        )  # fmt: skip
        if self._share is not None:
            report = self._share.finish(report)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _steered(self, database: Database) -> AbstractContextManager[None]:
        """A hand on it, where it is known to the journal."""
        share = self._share
        return nullcontext() if share is None else self._helm(share, share.run, LoadMonitor(database)).running()

    def _each(self, look: ObjectCheck, rows: Sequence[FileColumn], journal: Journal | None) -> tuple[str, str]:
        """Look at one after the other; how it ended, and why."""

        def let_in(given: NamedObject | Outcome) -> Outcome:
            with self._gate.acquire():
                return look.check(given)

        try:
            for _, outcome in parallel_map(let_in, self._slots(rows, journal), self._options.concurrency):
                self._tally.ended(outcome)
                if self._stopping.is_set():
                    return "stopped", ""
        except (StoppedError, KeyboardInterrupt):
            return "stopped", ""
        except RunError as failure:
            return "failed", str(failure)
        return "finished", ""

    def _slots(self, tables: Sequence[FileColumn], journal: Journal | None) -> Iterator[NamedObject | Outcome]:
        """The slots of all rows, each with what the journal knows of it; asked of the database on this thread only."""
        options = self._options
        for rows in tables:
            for window in rows.windows(options.key, 1000):
                found: list[Slot] = []
                for row in window:
                    try:
                        slots = parse_slots(rows.column, row)
                    except BrokenValueError as error:
                        yield outcome_of_broken_row(RowRef(rows.column, row.pk), str(error))
                        continue
                    found.extend(
                        slot
                        for slot in slots
                        if (options.key is None or slot.file["backend"] == options.key) and self._sampled(slot)
                    )
                entries = journal.objects.at_destinations([location_of(slot) for slot in found]) if journal else {}
                for slot in found:
                    entry = entries.get(location_of(slot))
                    yield NamedObject(slot, entry if entry is not None and entry.state in VERIFIED_STATES else None)
                if self._stopping.is_set():
                    return

    def _sampled(self, slot: Slot) -> bool:
        name = f"{slot.file['backend']}\0{slot.file['filename']}".encode("utf-8", "surrogatepass")
        share = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") / 2**32
        return share * 100 < self._options.sample
