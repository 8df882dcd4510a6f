"""One pass of a sync: two listings are merged, each key is reconciled, and deletions come after both listings."""

from __future__ import annotations

import math
import mimetypes
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from migrate_storage.application.application import Application
from migrate_storage.core.errors import KeyRefusedError, RunError, StoppedError
from migrate_storage.core.events import DiagnosticRaised, SourceListed, SyncLag
from migrate_storage.core.model import Location, Note, ObjectMeta, Outcome, OutcomeKind, Severity
from migrate_storage.core.parallel import parallel_unordered
from migrate_storage.core.proofs import SIZE_AND_TIME
from migrate_storage.core.text import amount
from migrate_storage.cutover.resolved import sides_of
from migrate_storage.database.connection import Database
from migrate_storage.engine.compare import By, Compared, Pair, Relation, is_ours, judge_at, merge
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.plan import Item
from migrate_storage.engine.references import ReferencedPlaces, ServiceIdentity
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.jobs.connections import all_rows
from migrate_storage.jobs.context import JobContext
from migrate_storage.jobs.sync.backup import BackupCopier
from migrate_storage.jobs.sync.deletions import ExtraneousDeleter, SpilledPairs
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.stores.base import lower_digest
from migrate_storage.stores.failures import Failure
from migrate_storage.stores.listing import Listing, describe_slash_key, refuse_slash_key
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError

__all__ = ("Reconciler",)

MAX_RECONCILE_ATTEMPTS = 3
"""How often a key is reconciled again because its destination changed meanwhile."""
_CLOUDS = ("s3", "gcs", "azure")


@dataclass
class _Pass:
    """Counts and collected pairs of one pass."""

    quiet: bool
    #: Seconds since the epoch.
    began: float = field(default_factory=time.time)
    incomplete: bool = False
    at_destination: int = 0
    failed: int = 0
    reconciled: int = 0
    bytes: int = 0
    oldest: float = math.inf
    #: Pairs of which only the destination has an object.
    extraneous: SpilledPairs = field(default_factory=SpilledPairs)
    #: Pairs that wait until it is known which objects rows name.
    deferred: SpilledPairs = field(default_factory=SpilledPairs)

    def count(self, pair: Pair, outcome: Outcome) -> None:
        """Count how a pair ended."""
        self.failed += not outcome.kind.done
        self.reconciled += outcome.kind is not OutcomeKind.UNCHANGED
        if outcome.kind is OutcomeKind.COPIED and pair.source is not None:
            self.bytes += pair.source.size
            if pair.source.last_modified is not None:
                self.oldest = min(self.oldest, pair.source.last_modified)


class Reconciler:
    """Makes a destination equal to its source, pass by pass.

    Args:
        copier: copies and verifies one object from the source to the destination.
        options: how.
        context: the job's pace and statistics.
        is_over: whether no further object is to be begun.
        rows: the application whose rows protect objects at the destination, and its database; ``None`` where there is none.
        is_mine: whether a key belongs to this process's shard; ``None`` where all keys do.
        backup: keeps what is replaced or deleted; ``None`` keeps nothing.
    """

    def __init__(
        self,
        copier: ObjectCopier,
        options: SyncOptions,
        context: JobContext,
        *,
        is_over: Callable[[], bool],
        rows: tuple[Application, Database] | None,
        is_mine: Callable[[str], bool] | None = None,
        backup: BackupCopier | None = None,
    ) -> None:
        route = copier.plan
        self._route, self._copier, self._options, self._context = route, copier, options, context
        self._is_over, self._rows, self._is_mine, self._backup = is_over, rows, is_mine, backup
        self._retry, self._stats, self._breaker = context.retry, context.stats, CircuitBreaker()
        sides = (route.source, route.destination)
        source, self._other = (Listing.of_backend(side, context.retry, context.note_fallback) for side in sides)
        self._listed = replace(source, on_end=lambda count: context.stats.send(SourceListed(objects=count)))
        self._deleter = ExtraneousDeleter(
            *sides, context.retry, min_age=options.min_age, dry_run=options.dry_run, backup=backup
        )
        self._guesses_content_type = route.source.registration.protocol not in _CLOUDS

    def run_pass(
        self, *, quiet: bool, exclude_runs: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> SyncLag:
        """Make one pass.

        Args:
            quiet: report no outcome of an object that was equal already.
            exclude_runs: entered while objects are deleted: excludes runs and purges of the same rows.

        Raises:
            IncompleteError: a listing broke off; nothing was deleted.
            StoppedError: a stop was requested, or a limit is reached; nothing was deleted.
            RunError: nothing works any more, or more would be deleted than may be.
        """
        with ExitStack() as stack:
            seen = _Pass(quiet)
            for aside in (seen.extraneous, seen.deferred):
                stack.enter_context(aside)
            pairs = stack.enter_context(closing(merge(self._listed, self._other)))
            self._process(self._reconcile, self._plan(pairs, seen), seen)
            # After the listings: what a row names by now was listed as it is, or is seen to have changed since.
            named = self._find_named(stack, seen)
            self._process(self._reconcile, self._without_named(seen.deferred, named, self._outcome_of_named), seen)
            self._delete_extraneous(seen, named, exclude_runs)
            seconds = max(0.0, seen.began - seen.oldest)
            return SyncLag(objects=seen.reconciled, bytes=seen.bytes, seconds=seconds)

    def _plan(self, pairs: Iterable[Pair], seen: _Pass) -> Iterator[Pair]:
        """Yield the pairs that must be copied, or read to compare them."""
        for pair in pairs:
            if self._is_over():
                seen.incomplete = True
                return
            mine = self._is_mine is None or self._is_mine(pair.key)
            if not mine or is_ours(pair) or not self._options.filters.matches(pair.key):
                continue
            meta = pair.source or pair.destination
            if meta is not None and not self._options.bounds.admits(meta, seen.began):
                continue
            seen.at_destination += pair.destination is not None
            if pair.source is None:
                if self._options.delete:
                    seen.extraneous.add(pair)
                continue
            compared = self._compare_listed(pair)
            if compared is not None and compared.relation is Relation.MATCHED:
                if not seen.quiet:
                    self._stats.add_outcome(self._outcome(pair, OutcomeKind.UNCHANGED, evidence=compared.evidence))
            elif self._rows is not None and pair.destination is not None:
                seen.deferred.add(pair)
            else:
                yield pair

    def _compare_listed(self, pair: Pair) -> Compared | None:
        """Compare by the listings alone; ``None`` where the objects must be read."""
        held, found = pair.source, pair.destination
        compared = judge_at(
            pair, self._route.source, self._route.destination,
            By.SIZE if self._options.by == "size" else By.EVIDENCE, self._retry,
        )  # fmt: skip
        if compared.relation is not Relation.UNPROVED:
            return compared
        assert held is not None
        assert found is not None
        if self._options.by == "checksum" or _contradict(held, found):
            return None
        now = time.time()
        if (
            held.last_modified is None
            or found.last_modified is None
            or max(held.last_modified, found.last_modified) > now
        ):
            return None  # A time from the future does not show which side was written later.
        relation = Relation.DIFFERENT if _newer(held.last_modified, found.last_modified) else Relation.MATCHED
        return replace(compared, relation=relation, evidence=SIZE_AND_TIME)

    def _compare_bytes(self, pair: Pair) -> Compared:
        return judge_at(pair, self._route.source, self._route.destination, By.CHECKSUM, self._retry)

    def _process(self, work: Callable[[Pair], Outcome], pairs: Iterable[Pair], seen: _Pass) -> None:
        """Do ``work`` for each pair, several at once, and report the outcomes."""
        for pair, outcome in parallel_unordered(
            partial(self._process_one, work), pairs, lambda: self._context.limiter.max_limit
        ):
            if outcome is None:
                seen.incomplete = True
                continue
            seen.count(pair, outcome)
            if not (outcome.kind is OutcomeKind.UNCHANGED and seen.quiet):
                self._stats.add_outcome(outcome)
        if seen.incomplete:
            raise StoppedError("not all was begun")

    def _process_one(self, work: Callable[[Pair], Outcome], pair: Pair) -> tuple[Pair, Outcome | None]:
        """Do ``work`` for one pair under the limiter; ``None`` once no further object is to be begun."""
        try:
            with self._context.limiter.acquire():
                return pair, None if self._is_over() else work(pair)
        except StoppedError:
            return pair, None

    def _reconcile(self, pair: Pair) -> Outcome:
        """Make one key equal. A different destination object is replaced only while it is as it was listed."""
        began = time.monotonic()
        try:
            refuse_slash_key(pair.key)
        except KeyRefusedError as error:
            return self._outcome(pair, OutcomeKind.FAILED, str(error))
        for _ in range(MAX_RECONCILE_ATTEMPTS):
            compared = self._compare_listed(pair) or self._compare_bytes(pair)
            if compared.relation is Relation.MATCHED:
                return self._outcome(pair, OutcomeKind.UNCHANGED, evidence=compared.evidence)
            if compared.relation is Relation.ERROR:
                return self._outcome(pair, OutcomeKind.FAILED, compared.evidence)
            if self._backup is not None and not self._options.dry_run and (reason := self._backup.save(pair)):
                return self._outcome(pair, OutcomeKind.FAILED, reason)
            result = self._copier.copy(self._task_for(pair))
            self._breaker.record(Failure(result.failure, result.reason) if result.failure is not None else None)
            if result.left is not None:
                self._delete_own_copy(pair.key, result.left)
            if result.kind is not OutcomeKind.DESTINATION_EXISTS:
                return self._outcome_of_copy(pair, result, time.monotonic() - began)
            try:
                again = self._stat_both(pair.key)
            except (StoreRequestError, KeyRefusedError) as error:
                return self._outcome(pair, OutcomeKind.FAILED, str(error))
            if again.source is None:
                break
            pair = again
        reason = "its destination was written again and again while it was copied: that write stays"
        return self._outcome(pair, OutcomeKind.MODIFIED, reason)

    def _task_for(self, pair: Pair) -> CopyTask:
        """Return the copy task of one key."""
        here, there = (Location(side.key, pair.key) for side in (self._route.source, self._route.destination))
        action = self._route.choose_copy(self._route.source.place(pair.key))
        item = Item(source=here, destination=there, action=action, slots=())
        guessed = mimetypes.guess_type(pair.key)[0] if self._guesses_content_type else None
        replaces = pair.destination.evidence if pair.destination is not None else None
        return CopyTask(pair.key, item, replaces=replaces, content_type=guessed)

    def _stat_both(self, key: str) -> Pair:
        """Send HEAD for a key to both sides."""
        sides = (self._route.source, self._route.destination)
        source, destination = (self._retry.or_none_if_missing(side.resolve(key).head) for side in sides)
        return Pair(key=key, source=source, destination=destination)

    def _delete_own_copy(self, key: str, left: ObjectMeta) -> None:
        """Delete an unverified copy of ours: by size and time the next pass would take it as equal."""
        at = self._route.destination.resolve(key)
        with suppress(StoreRequestError):
            found = self._retry.or_none_if_missing(at.head)
            if found is not None and proven_unchanged(left.evidence, found.evidence):
                self._retry.call(at.delete)

    def _outcome_of_copy(self, pair: Pair, result: CopyResult, seconds: float) -> Outcome:
        verified = result.verified
        if result.kind is OutcomeKind.MISSING:
            return self._outcome_of_missing(pair)
        if verified is None:
            return self._outcome(pair, result.kind, result.reason)
        kind = OutcomeKind.COPIED if result.copied else OutcomeKind.UNCHANGED
        outcome = self._outcome(pair, kind, evidence=verified.evidence)
        return replace(outcome, size=verified.source.size, seconds=seconds)

    def _outcome_of_missing(self, pair: Pair) -> Outcome:
        """Return the outcome of an object that was listed and cannot be found."""
        try:
            at = self._route.source.resolve(pair.key)
            reason = self._retry.call(partial(describe_slash_key, at))
        except (StoreRequestError, KeyRefusedError) as error:
            return self._outcome(pair, OutcomeKind.FAILED, str(error))
        if reason:
            return self._outcome(pair, OutcomeKind.FAILED, reason)
        return self._outcome(pair, OutcomeKind.UNCHANGED, "the source has it no more")

    def _outcome(self, pair: Pair, kind: OutcomeKind, reason: str = "", *, evidence: str = "") -> Outcome:
        return Outcome(
            kind=kind, source=Location(self._route.source.key, pair.key), reason=reason, verified_by=evidence,
            destination=Location(self._route.destination.key, pair.key), size=pair.source.size if pair.source is not None else None,
        )  # fmt: skip

    def _find_named(self, stack: ExitStack, seen: _Pass) -> ReferencedPlaces | None:
        """Return the places that rows name by now; ``None`` where there are no rows."""
        if self._rows is None:
            return None
        application, database = self._rows
        sides = sides_of(application.backends)
        services = ServiceIdentity([*sides.values(), self._route.destination])
        named = stack.enter_context(ReferencedPlaces(services))
        if len(seen.deferred) or len(seen.extraneous):
            with all_rows(application, database) as everywhere:
                for where, columns in everywhere:
                    named.add_rows(where, columns, sides)
        return named

    def _without_named(
        self, pairs: Iterable[Pair], named: ReferencedPlaces | None, instead: Callable[[Pair], Outcome]
    ) -> Iterator[Pair]:
        """Yield the pairs whose destination no row names; report the outcome of all others."""
        for pair in pairs:
            if named is not None and named.names(self._route.destination.place(pair.key)):
                self._stats.add_outcome(instead(pair))
            else:
                yield pair

    def _outcome_of_named(self, pair: Pair) -> Outcome:
        """Return the outcome of a pair whose destination a row names: the application writes there now."""
        if self._compare_listed(pair) is None:
            compared = self._compare_bytes(pair)
            if compared.relation is Relation.MATCHED:
                return self._outcome(pair, OutcomeKind.UNCHANGED, evidence=compared.evidence)
        reason = "it differs, and a row names it there: what the application may have written is not replaced"
        return self._outcome(pair, OutcomeKind.DESTINATION_EXISTS, reason)

    def _delete_extraneous(
        self, seen: _Pass, named: ReferencedPlaces | None, exclude_runs: Callable[[], AbstractContextManager[object]]
    ) -> None:
        count = len(seen.extraneous)
        if not count:
            return
        if seen.failed:
            message = f"{amount(seen.failed, 'object')} could not be brought level, so nothing was deleted"
            note = Note(severity=Severity.WARNING, code="sync.kept", message=message, todo="fix that, and sync again")
            self._stats.send(DiagnosticRaised(note=note))
            return
        most = self._options.most_deleted(seen.at_destination)
        if count > most:
            raise RunError(
                f"{count} of the destination's {seen.at_destination} objects would be deleted, --max-delete {self._options.max_delete} "
                f"allows {most}: none was; raise it if that is right"
            )
        kept = partial(self._deleter.outcome, kind=OutcomeKind.UNCHANGED, reason="kept: a row names it")
        with exclude_runs():
            self._process(self._deleter.delete, self._without_named(seen.extraneous, named, kept), seen)


def _contradict(held: ObjectMeta, found: ObjectMeta) -> bool:
    """Whether both report a digest of the whole object, and they differ: then only the bytes decide."""
    tags = [meta.md5 or lower_digest(meta.e_tag) or "" for meta in (held, found)]
    return tags[0] != tags[1] and all(len(tag) == 32 and not set(tag) - set("0123456789abcdef") for tag in tags)


def _newer(here: float, there: float) -> bool:
    """Whether the source was written after the destination."""
    # Most services report whole seconds. Equal times without a fraction count as newer: one copy too many is harmless.
    return here > there or (here == there and here == int(here))
