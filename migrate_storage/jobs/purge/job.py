"""Delete migrated source objects, or with ``--unreferenced-copies`` destination copies that no row names.

An object is deleted only when it passes every rule of :class:`migrate_storage.jobs.purge.rules.PurgeRules`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice

from migrate_storage.application.application import Application
from migrate_storage.core.census import Census
from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Strategy
from migrate_storage.core.text import amount
from migrate_storage.cutover.resolved import sides_of
from migrate_storage.database.connection import Database
from migrate_storage.engine.place_proof import prove_places
from migrate_storage.engine.pull_through import refuse_pull_through
from migrate_storage.engine.references import ReferencedPlaces, ServiceIdentity
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.census import refuse_where_named
from migrate_storage.jobs.connections import all_rows, connected
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.cutovers import cutovers_among, refuse_unregistered_cutovers
from migrate_storage.jobs.purge.rules import PurgeOptions, PurgeRules
from migrate_storage.journal import Journal, ObjectRecord, ObjectState, RunRecord, new_run_id
from migrate_storage.reporting import Report
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import StoreRequestError
from migrate_storage.translate.registration import DIRECT

__all__ = ("PurgeJob",)

MIN_REREAD_SECONDS = 60.0
"""The rows are read again at the earliest after this time: a row may have been re-pointed to the old key."""
_PROOF_FILENAMES = 20
"""Recorded objects by which the places are proved."""
REREAD_TIME_RATIO = 10
"""The rows are read again at the earliest after this many times the duration of the last reading."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
    journal: Journal
    #: The run that was asked for, or the latest one.
    first: RunRecord
    runs: Sequence[str]
    rules: PurgeRules
    census: Census | None
    #: Reads the rows again; returns the time, by the monotonic clock, from which on that is due once more.
    read_rows: Callable[[], float]
    rows_fresh_until: float


class PurgeJob(Job[_Facts]):
    """One purge of what one run, or all runs between its two keys, left behind.

    Args:
        application: its rows, and all backends that any row may name.
        options: what and how much.
        run: id of a run, or the beginning of it; ``None`` means the latest.
        listener: called with each event.
    """

    kind = "purge"

    def __init__(
        self, application: Application, options: PurgeOptions, *, run: str | None = None, listener: Listener = silent
    ) -> None:
        super().__init__(listener, JobPace())
        self._application, self._options, self._wanted = application, options, run
        self._versioned = self._freed = 0

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, something that cannot be resolved or read, or more candidates than allowed:
                nothing was deleted.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            first = journal.runs.migration_run(self._wanted)
            with (
                self.hold_lease(journal, options.lease_ttl) if options.yes else nullcontext(),
                self._find_facts(database, journal, first) as facts,
            ):
                if options.yes:
                    return self.execute(facts, journal)
                return self._record_plan(journal, self.execute(facts, None))

    @contextmanager
    def _find_facts(self, database: Database, journal: Journal, first: RunRecord) -> Iterator[_Facts]:
        options = self._options
        runs = [first] if self._wanted else journal.runs.migration_runs(first)
        _refuse_hidden(journal, first)
        sides = sides_of(self._application.backends)
        missing = [key for key in (first.source, first.destination) if key not in sides]
        if missing:
            raise ConfigurationError(
                f"the run went between keys of which {', '.join(missing)} is not registered: register it to purge; "
                "if the application registers it in its lifespan, add --lifespan"
            )
        source, destination = sides[first.source], sides[first.destination]
        for side in cutovers_among({side.key: side for side in (source, destination)}):
            raise ConfigurationError(
                f"run {first.id} went from {first.source!r} to {first.destination!r}, and {side.key!r} is a cutover now "
                f"({side.state.describe()}): nothing was deleted; end it, and register under {side.key!r} the side that the run knew"
            )
        _refuse_own_deletes(destination if options.unreferenced_copies else source)
        filenames = self._sample_filenames(journal, [run.id for run in runs])
        proof = prove_places(source, destination, filenames, self.context.retry, probe=options.yes)
        if proof.by_objects:
            raise ConfigurationError(
                f"the destination {destination.key!r} may not be written, so that nothing proves that it is another place than {source.key!r}: "
                "grant the right to write below .migrate-storage/ there; nothing was deleted"
            )
        services = ServiceIdentity(sides.values(), apart=None if proof.shared else (source, destination))
        if options.yes and not options.unreferenced_copies:
            refuse_pull_through(source, destination, filenames, services, self.context.retry)
        with ReferencedPlaces(services) as references, all_rows(self._application, database) as everywhere:

            def read_rows() -> float:
                began = time.monotonic()
                for where, columns in everywhere:
                    references.add_rows(where, columns, sides)
                return time.monotonic() + max(MIN_REREAD_SECONDS, REREAD_TIME_RATIO * (time.monotonic() - began))

            refuse_unregistered_cutovers([where for where, _ in everywhere], sides, "nothing was deleted")
            fresh_until = read_rows()
            for listed in options.references:
                references.add_listed(listed, database, (source, destination))
            for batch in journal.links.named_objects():
                # Texts name these copies by their public addresses.
                references.add_places(
                    part.place(path) for key, path in batch if key in sides for part in sides[key].parts
                )
            keys = services.keys_at([destination if options.unreferenced_copies else source], sides)
            census = refuse_where_named(
                everywhere, self._application, keys, options, "nothing was deleted", self.context,
                journal if options.yes else None,
            )  # fmt: skip
            facts = _Facts(
                journal=journal, first=first, runs=[run.id for run in runs], read_rows=read_rows, rows_fresh_until=fresh_until,
                census=census,
                rules=PurgeRules(
                    source, destination, references, services, options, self.context.retry, now=journal.database.time()
                ),
            )  # fmt: skip
            candidates = sum(1 for record in self._records(facts) if not facts.rules.reason_to_keep(record))
            if candidates > options.max_delete:
                raise ConfigurationError(
                    f"{amount(candidates, 'object')} would be deleted, --max-delete allows {options.max_delete}: nothing was deleted; raise it if that is right"
                )
            yield facts

    def _sample_filenames(self, journal: Journal, runs: Sequence[str]) -> list[str]:
        """Return filenames of source objects that a run recorded."""
        batches = (batch for run in runs for batch in journal.objects.of_run(run))
        return [record.source_path for batch in islice(batches, 1) for record in batch[:_PROOF_FILENAMES]]

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        return JobDescription(
            run=new_run_id(), source=facts.first.source, destination=facts.first.destination, strategy=Strategy(facts.first.way),
            reason="copies that no row names" if self._options.unreferenced_copies else "source objects whose copies serve",
            dry_run=not self._options.yes,
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Judge and delete one object after the other."""
        fresh_until = facts.rows_fresh_until
        try:
            for record in self._records(facts):
                if self.context.stop.is_set():
                    return "interrupted"
                if time.monotonic() > fresh_until:
                    fresh_until = facts.read_rows()
                self._purge_object(facts, record)
        except StoppedError:
            raise
        except (RunError, StoreRequestError) as failure:
            raise RunError(f"{failure}; nothing after this object was deleted") from failure
        return "completed"

    def complete(self, facts: _Facts, report: Report) -> Report:
        """Add the freed bytes, why objects were kept, and a note where the bucket keeps versions."""
        versions = Note(
            severity=Severity.WARNING, code="purge.versions", subject=amount(self._versioned, "object"),
            message="the bucket keeps versions: what was deleted stays there as an old version, and is paid for",
            todo="let a lifecycle rule expire old versions, or delete them by their version",
        )  # fmt: skip
        notes = (versions,) if self._versioned else ()
        return replace(report, passes=1, census=facts.census, bytes_copied=self._freed, notes=notes)

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        if report.state == "completed":
            return "migrate-storage verify"
        if report.state == "planned" and not report.counts.get(OutcomeKind.DELETED):
            return ""
        acts = self._options.yes or report.state == "planned"
        return " ".join(
            ("migrate-storage purge", *([self._wanted] if self._wanted else ()), *(["--yes"] if acts else ()))
        )

    def _record_plan(self, journal: Journal, report: Report) -> Report:
        """Record the report of a dry purge, where the role may write to the journal; ``report`` shows it again."""
        record = self.new_record(report.run, report.started, report.source, report.destination, report.strategy)
        text = json.dumps(report.to_dict())
        with suppress(RunError):
            journal.runs.begin(replace(record, state=report.state, report=text, finished=report.finished))
        return report

    def _records(self, facts: _Facts) -> Iterator[ObjectRecord]:
        # An object that a killed purge was deleting comes first: its record means that it may be gone. There are few.
        objects = facts.journal.objects
        begun, whole = (
            (ObjectState.COPY_DELETING, ObjectState.UNREFERENCED)
            if self._options.unreferenced_copies
            else (ObjectState.SOURCE_DELETING, ObjectState.VERIFIED)
        )
        first = [record for run in facts.runs for batch in objects.of_run(run, state=begun) for record in batch]
        yield from first
        seen = {record.id for record in first}
        for run in facts.runs:
            for batch in objects.of_run(run, state=whole):
                yield from (record for record in batch if record.id not in seen)

    def _purge_object(self, facts: _Facts, record: ObjectRecord) -> None:
        objects, leftover = facts.journal.objects, self._options.unreferenced_copies
        begun, over = (
            (ObjectState.COPY_DELETING, ObjectState.COPY_DELETED)
            if leftover
            else (ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED)
        )
        decision = facts.rules.decide(record)
        deleted = decision.kind is OutcomeKind.DELETED
        if deleted:
            if self._options.yes:
                # The intent is written first: after a kill the record means that the object may be gone.
                objects.set_state(record.id, begun)
                if not decision.gone:
                    facts.rules.delete(record)
                objects.set_state(record.id, over)
            self._versioned += decision.versioned
            self._freed += 0 if decision.versioned or decision.gone else record.size or 0
        elif record.state == begun and self._options.yes:
            # The killed purge did not delete it, and it must not be deleted now.
            objects.set_state(record.id, ObjectState.UNREFERENCED if leftover else ObjectState.VERIFIED)
        self.context.stats.add_outcome(
            Outcome(
                kind=decision.kind, source=record.destination if leftover else record.source, destination=Location("", "deleted"),
                size=record.size, reason="" if deleted else decision.reason, verified_by=decision.reason if deleted else "",
            )
        )  # fmt: skip


def _refuse_own_deletes(side: ResolvedBackend) -> None:
    """Refuse a class whose ``delete_object`` is the application's: a DELETE of the store may not be what it does."""
    if side.registration.overrides:
        methods = " and ".join(side.registration.overrides)
        raise ConfigurationError(
            f"the class {type(side.backend).__name__} of {side.key!r} overrides {methods}, and purge deletes from the store directly: "
            f"delete the objects through the class, or set '{DIRECT} = True' in it if that is the same"
        )


def _refuse_hidden(journal: Journal, first: RunRecord) -> None:
    """Refuse where the latest run from this key left out the rows that its role could not see."""
    latest = journal.runs.migration_runs(first)[0]
    hidden = json.loads(latest.report).get("hidden_rows") if latest.report else None
    if hidden:
        raise ConfigurationError(
            f"run {latest.id} was given --visible-rows-only, and row level security hides rows of {', '.join(hidden)}: "
            "run it again as a role with BYPASSRLS, then purge"
        )
