"""List objects that no row names, and rows whose object is missing; quarantine the former, and put them back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.events import DiagnosticRaised, Listener, silent
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Slot
from migrate_storage.core.object_keys import is_unfinished_upload
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.text import MiB
from migrate_storage.core.timetable import Bandwidth, check_bandwidth
from migrate_storage.cutover.resolved import sides_of
from migrate_storage.database.connection import Database
from migrate_storage.engine.known_losses import KnownLosses, find_stale, known_loss_of, stale_note
from migrate_storage.engine.probe import check_source
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.census import refuse_where_named
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.jobs.connections import all_rows, connected, find_backend
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.cutovers import (
    describe_unread,
    find_unread,
    overlapping_cutovers,
    refuse_moves_in_cutovers,
    refuse_unregistered_cutovers,
)
from migrate_storage.jobs.orphans.quarantine import Quarantine, check_prefix, reason_not_to_move
from migrate_storage.jobs.orphans.quarantine_batches import QuarantineBatches
from migrate_storage.jobs.orphans.reachability import IN_QUARANTINE, Reachability
from migrate_storage.journal import Journal, KnownLoss, new_run_id
from migrate_storage.reporting import Report
from migrate_storage.stores.find_read import find_read
from migrate_storage.stores.listing import ListedObject
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError

__all__ = ("OrphansJob", "OrphansOptions")

KNOWN_LOSSES_BATCH = 1000
"""Known losses that are written together."""
MAX_STALE_NOTES = 100
MAX_EARLIER_JOBS = 10_000
"""Jobs whose unfinished uploads are recognised in the quarantine."""
UNFINISHED_UPLOAD = "an unfinished upload of a killed job"
NOT_NAMED = "no row names it"
_NOWHERE = Location("", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class OrphansOptions(CensusOptions):
    """What is checked, and what is done with orphans and missing objects.

    Raises:
        ConfigurationError: two options contradict each other, or a number is out of its range.
    """

    #: Backend keys whose objects are listed; empty means all that are registered.
    keys: tuple[str, ...] = ()
    #: Seconds below which an object may be an upload whose row is not committed yet.
    min_age: float = 86400.0
    #: A file with a filename a line, or a SELECT: names that something other than rows uses.
    references: tuple[str, ...] = ()
    #: Move orphans below this prefix of their backend.
    quarantine: str | None = None
    #: More orphans than this, and none is moved.
    max_quarantine: int = 1000
    #: Put back what this run quarantined, by its id or the beginning of it; ``all`` for every run.
    restore: str | None = None
    #: Mark the missing objects of rows as known losses, for this reason.
    acknowledge_missing: str | None = None
    #: Forget known losses: ``all``, or the ``stale`` ones, whose rows or objects changed since.
    forget_acknowledged: str | None = None
    #: Really move, acknowledge or forget; without it nothing is changed.
    yes: bool = False
    concurrency: int = 16
    bandwidth: Bandwidth | None = None
    max_requests_per_second: float | None = None
    #: Backend keys whose ETags are no digests, see :class:`migrate_storage.jobs.run.options.RunOptions`.
    opaque_etags: tuple[str, ...] = ()
    journal: str | None = None
    journal_schema: str | None = None
    lease_ttl: float = 15.0

    @property
    def acts(self) -> bool:
        """Whether the options ask for more than a report."""
        done = (self.quarantine, self.restore, self.acknowledge_missing, self.forget_acknowledged)
        return any(each is not None for each in done)

    def __post_init__(self) -> None:
        CensusOptions.__post_init__(self)
        modes = {
            "quarantine": self.quarantine,
            "restore": self.restore,
            "forget-acknowledged": self.forget_acknowledged,
        }
        given = [name for name, value in modes.items() if value is not None]
        if len(given) > 1 or (self.acknowledge_missing is not None and given in (["restore"], ["forget-acknowledged"])):
            names = " and ".join(
                f"--{name}" for name in (*given, *(("acknowledge-missing",) if len(given) < 2 else ()))
            )
            raise ConfigurationError(f"{names} are different jobs: do one after the other")
        if self.acknowledge_missing is not None and not self.acknowledge_missing.strip():
            raise ConfigurationError(
                "--acknowledge-missing needs a reason: why is it known that these objects are lost?"
            )
        if self.concurrency < 1 or self.max_quarantine < 0 or self.min_age < 0:
            raise ConfigurationError("--concurrency must be at least 1, --max-quarantine and --min-age at least 0")
        check_bandwidth(self.bandwidth)
        if self.max_requests_per_second is not None and self.max_requests_per_second <= 0:
            raise ConfigurationError(
                f"--max-requests-per-second must be more than 0, not {self.max_requests_per_second}; leave it out for no limit"
            )


@dataclass(frozen=True, kw_only=True)
class _Facts:
    run: str
    database: Database
    #: ``None`` where there is none.
    journal: Journal | None
    sides: Mapping[str, ResolvedBackend]
    #: The backend keys whose objects are listed.
    keys: Sequence[str]
    #: Where orphans are moved; ``None`` moves none.
    prefix: str | None
    #: The run whose quarantined objects are put back, by ``--restore``; ``None`` means every run.
    restore_run: str | None
    quarantine: QuarantineBatches
    #: ``None`` where nothing is listed, only restored or forgotten.
    reachability: Reachability | None


class OrphansJob(Job[_Facts]):
    """One comparison of what the stores of some backends contain with what rows name, and what is done about the difference.

    Args:
        application: its rows, and all backends that any row may name.
        options: what is checked and done.
        listener: called with each event; every object in a store is an ``ObjectFinished``, and so is every missing one.
    """

    kind = "orphans"

    def __init__(self, application: Application, options: OrphansOptions, *, listener: Listener = silent) -> None:
        super().__init__(listener, JobPace.from_options(options))
        self._application, self._options = application, options
        self._breaker = CircuitBreaker()
        self._notes: list[Note] = []
        self._movable = True

    def run(self) -> Report:
        """Do it.

        Returns:
            What was found and done. A job that could not list or read everything has failed, and calls nothing an orphan.

        Raises:
            ConfigurationError: no such key, something that cannot be resolved or listed, or more orphans than allowed:
                nothing was moved.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        sides = sides_of(self._application.backends, self.context.limits, opaque_etags=options.opaque_etags)
        keys = self._find_keys(sides)
        self._movable = not overlapping_cutovers(keys, sides)
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            if options.yes:
                journal.prepare()
            with (
                self.hold_lease(journal, options.lease_ttl) if options.yes else nullcontext(),
                self._find_facts(database, journal, sides, keys) as facts,
            ):
                return self.execute(facts, journal if options.yes else None)

    def _find_keys(self, sides: Mapping[str, ResolvedBackend]) -> tuple[str, ...]:
        for key in self._options.keys:
            find_backend(sides, key)
        return tuple(dict.fromkeys(self._options.keys)) or tuple(sorted(sides))

    @contextmanager
    def _find_facts(
        self, database: Database, journal: Journal, sides: Mapping[str, ResolvedBackend], keys: Sequence[str]
    ) -> Iterator[_Facts]:
        options, context, known = self._options, self.context, journal if journal.exists else None
        restore_run = options.restore
        if restore_run is not None and known is not None:
            restore_run = None if restore_run == "all" else known.runs.find(restore_run).id
        if options.quarantine is not None or options.restore is not None:
            refuse_moves_in_cutovers(keys, sides)
            refuse_unregistered_cutovers([database], sides, "nothing was moved")
        prefix = check_prefix(options.quarantine, sides, keys) if options.quarantine is not None else None
        resources = context.copy_resources(64 * MiB)
        quarantine = Quarantine(sides, resources, clock=journal.database.time, dry_run=not options.yes)
        facts = _Facts(
            run=new_run_id(), database=database, journal=known, sides=sides, keys=keys, prefix=prefix, restore_run=restore_run,
            reachability=None,
            quarantine=QuarantineBatches(
                quarantine, journal, sides, limiter=context.limiter, stopping=context.stop, on_outcome=context.stats.add_outcome
            ),
        )  # fmt: skip
        if options.restore is not None or options.forget_acknowledged is not None:
            yield facts
            return
        with (
            all_rows(self._application, database) as rows,
            Reachability(sides, keys, rows, known, min_age=options.min_age) as reachability,
        ):
            if options.quarantine is not None:
                refuse_unregistered_cutovers([where for where, _ in rows[1:]], sides, "nothing was moved")
                named = ServiceIdentity(sides.values()).keys_at([sides[key] for key in keys], sides)
                refuse_where_named(
                    rows, self._application, named, options, "nothing was moved", context,
                    journal if options.yes else None,
                )  # fmt: skip
            for part in (part for key in keys for part in sides[key].parts):
                check_source(part, [part.root], context.retry)
            yield replace(facts, reachability=reachability)

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        options = self._options
        keys = ", ".join(facts.keys) if options.keys else "all keys"
        keys = keys if len(keys) < 250 else f"{len(facts.keys)} keys"
        reason = "objects that no row names, and rows whose object is missing"
        if options.restore is not None:
            reason = "put back from quarantine"
        elif options.forget_acknowledged is not None:
            reason = f"{options.forget_acknowledged} known losses forgotten"
        return JobDescription(
            run=facts.run, source=keys, destination=keys, reason=reason,
            dry_run=options.acts and not options.yes, read_only=not options.yes,
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Restore, forget known losses, or list everything and quarantine the orphans: what the options ask for."""
        options = self._options
        if options.restore is not None:
            if facts.journal is not None:
                facts.quarantine.put_back(facts.restore_run, dry_run=not options.yes)
        elif options.forget_acknowledged is not None:
            self._forget_known_losses(facts)
        elif (reachability := facts.reachability) is not None:
            self._find_missing(facts, reachability)
            self._find_orphans(facts, reachability)
            if facts.prefix is not None and options.yes:
                facts.quarantine.move(reachability, reachability.inventory.chosen, facts.prefix, facts.run)
        return "completed"

    def complete(self, facts: _Facts, report: Report) -> Report:
        """Add the notes."""
        del facts
        return replace(report, passes=1, notes=tuple(self._notes))

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        options, counts = self._options, report.counts
        finished = report.state in ("completed", "planned")
        if options.acts and (options.yes is not finished):
            moves = counts.get(OutcomeKind.QUARANTINED) or counts.get(OutcomeKind.RESTORED)
            marks = options.acknowledge_missing is not None or options.forget_acknowledged is not None
            return "migrate-storage orphans --yes" if moves or marks or not finished else ""
        if not finished:
            return "migrate-storage orphans"
        if options.quarantine and counts.get(OutcomeKind.QUARANTINED):
            return f"migrate-storage orphans --restore {report.run}"
        return "migrate-storage orphans --quarantine PREFIX" if counts.get(OutcomeKind.ORPHAN) and self._movable else ""

    def _find_missing(self, facts: _Facts, reachability: Reachability) -> None:
        """List everything, read the rows, and report those whose object is missing."""
        context, journal, sides = self.context, facts.journal, facts.sides
        reachability.list(self._note_fallback, context.checkpoint)
        reachability.read(self._options.references, facts.keys)
        known = KnownLosses(journal)
        losses: list[KnownLoss] = []
        for _, outcome in parallel_map(
            lambda slot: self._check_unlisted(slot, sides), reachability.unlisted(facts.keys), self._options.concurrency
        ):
            context.checkpoint()
            if outcome is None:
                continue
            outcome = _note_quarantined(known.mark_known(outcome), reachability)
            # The journal's database may be unable to store a NUL character, and such a name is never found.
            storable = "\0" not in outcome.source.path
            if outcome.kind is OutcomeKind.MISSING and self._options.acknowledge_missing is not None and storable:
                losses.append(known_loss_of(outcome, self._options.acknowledge_missing))
                outcome = replace(
                    outcome,
                    kind=OutcomeKind.KNOWN_MISSING,
                    reason=f"acknowledged now: {self._options.acknowledge_missing}",
                )
                if journal is not None and self._options.yes and len(losses) >= KNOWN_LOSSES_BATCH:
                    journal.known_losses.add(losses)
                    losses.clear()
            context.stats.add_outcome(outcome)
        if journal is not None and self._options.yes:
            journal.known_losses.add(losses)
        if known:
            self._notes.extend(stale_note(*each) for each in islice(self._ended_losses(facts), MAX_STALE_NOTES))

    def _check_unlisted(self, slot: Slot, sides: Mapping[str, ResolvedBackend]) -> Outcome | None:
        """Send HEAD for an object that no listing showed; ``None`` where it exists."""
        here = slot.location

        def outcome(kind: OutcomeKind, reason: str) -> Outcome:
            return Outcome(kind=kind, source=here, destination=_NOWHERE, reason=reason, refs=(slot.ref,))

        try:
            with self.context.limiter.acquire():
                found = find_read(sides[here.backend], here.path, self.context.retry)
                unread = () if found else find_unread(sides[here.backend], here.path, self.context.retry)
        except KeyRefusedError as error:
            return outcome(OutcomeKind.FAILED, str(error))
        except StoreRequestError as error:
            self._breaker.record(error.failure)
            return outcome(OutcomeKind.FAILED, str(error))
        self._breaker.record(None)
        if found:
            return None
        if unread:
            # Not lost, and never to be marked as lost.
            return outcome(OutcomeKind.CONFLICT, describe_unread(sides[here.backend], here.path, unread))
        return outcome(OutcomeKind.MISSING, f"the row names an object that {here.backend!r} does not have")

    def _find_orphans(self, facts: _Facts, reachability: Reachability) -> None:
        """Report every object; orphans that are to be moved are only chosen here, and reported once moved."""
        chosen, prefix = 0, facts.prefix
        jobs = {run.id for run in facts.journal.runs.latest(MAX_EARLIER_JOBS)} if facts.journal is not None else set()
        for listed in reachability.inventory:
            self.context.checkpoint()
            in_use = reachability.reason_in_use(listed)
            below = prefix is not None and listed.location.path.startswith(f"{prefix}/")
            if below and _is_left_by_killed_job(listed, f"{prefix}/", jobs):
                in_use = UNFINISHED_UPLOAD
            if below and in_use not in (IN_QUARANTINE, UNFINISHED_UPLOAD):
                raise ConfigurationError(
                    f"--quarantine {prefix}: there is {listed.location} already, which no quarantine put there; choose another prefix: nothing was moved"
                )
            if in_use:
                self.context.stats.add_outcome(_outcome_of(listed, OutcomeKind.IN_USE, in_use))
            elif prefix is None:
                self.context.stats.add_outcome(_outcome_of(listed, OutcomeKind.ORPHAN, NOT_NAMED))
            elif obstacle := reason_not_to_move(listed, facts.sides[listed.location.backend]):
                self.context.stats.add_outcome(_outcome_of(listed, OutcomeKind.ORPHAN, f"{NOT_NAMED}; {obstacle}"))
            else:
                chosen += 1
                reachability.inventory.choose(listed)
        if chosen > self._options.max_quarantine:
            raise ConfigurationError(
                f"{chosen} objects would be moved, --max-quarantine allows {self._options.max_quarantine}: nothing was moved; raise it if that is right"
            )
        if prefix is not None and not self._options.yes:
            for listed in reachability.inventory.chosen:
                self.context.stats.add_outcome(_outcome_of(listed, OutcomeKind.QUARANTINED, NOT_NAMED))

    def _ended_losses(self, facts: _Facts) -> Iterator[tuple[KnownLoss, str]]:
        if facts.journal is None:
            return iter(())
        return find_stale(facts.journal, facts.database, self._application.columns, facts.sides, self.context.retry)

    def _forget_known_losses(self, facts: _Facts) -> None:
        journal = facts.journal
        if journal is None:
            return
        every = ((loss, "") for batch in journal.known_losses.all() for loss in batch)
        for loss, reason in self._ended_losses(facts) if self._options.forget_acknowledged == "stale" else every:
            self.context.checkpoint()
            if loss.location.backend not in facts.keys and self._options.keys:
                continue
            if self._options.yes:
                journal.known_losses.remove([loss.id])
            text = f"unmarked: {reason}" if reason else "unmarked"
            outcome = Outcome(kind=OutcomeKind.UNCHANGED, source=loss.location, destination=_NOWHERE, reason=text)
            self.context.stats.add_outcome(outcome)

    def _note_fallback(self, message: str) -> None:
        note = Note(severity=Severity.INFO, code="listing.fallback", message=message)
        self._notes.append(note)
        self.context.stats.send(DiagnosticRaised(note=note))


def _note_quarantined(outcome: Outcome, reachability: Reachability) -> Outcome:
    """Return a missing object that is in quarantine as a conflict: it is not lost, and never to be marked as lost."""
    if outcome.kind is not OutcomeKind.MISSING:
        return outcome
    if not reachability.in_quarantine(outcome.source):
        return outcome
    reason = "a row names an object that is in quarantine: --restore puts it back"
    return replace(outcome, kind=OutcomeKind.CONFLICT, reason=reason)


def _is_left_by_killed_job(listed: ListedObject, prefix: str, jobs: Collection[str]) -> bool:
    """Whether a killed quarantine was writing this file: a disk shows uploads that are not finished."""
    run = listed.location.path.removeprefix(prefix).partition("/")[0]
    return listed.place.service == "file" and run in jobs and is_unfinished_upload(listed.location.path)


def _outcome_of(listed: ListedObject, kind: OutcomeKind, reason: str) -> Outcome:
    return Outcome(kind=kind, source=listed.location, destination=_NOWHERE, reason=reason, size=listed.meta.size)
