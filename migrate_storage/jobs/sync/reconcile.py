"""One pass of a sync: two listings in, each key brought level. What is destructive waits until everything is known."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from migrate_storage.application.application import Application
from migrate_storage.core.errors import KeyRefusedError, RunError, StoppedError
from migrate_storage.core.events import Behind, Listed, Noted
from migrate_storage.core.filters import Filters
from migrate_storage.core.model import Location, Note, ObjectMeta, Outcome, OutcomeKind, Severity
from migrate_storage.core.parallel import parallel_unordered
from migrate_storage.core.text import amount
from migrate_storage.database.connection import Database
from migrate_storage.engine.compare import By, Compared, Pair, Relation, is_ours, judge_at, merge
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.plan import Action, Item, MigrationPlan
from migrate_storage.engine.references import ReferencedPlaces, ServiceIdentity, sides_of
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.jobs.sync.deletions import ExtraneousDeleter, SpilledPairs
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.reporting.run_stats import RunStats
from migrate_storage.stores.failures import Failure
from migrate_storage.stores.listing import listing
from migrate_storage.stores.retry import CircuitBreaker, Retry, StoreRequestError
from migrate_storage.translate import unaddressable

__all__ = ("Reconciler",)

_LOOKS = 3
"""How often a key is looked at again because its destination changed meanwhile."""
_CLOUDS = ("s3", "gcs", "azure")


@dataclass
class _Pass:
    """What one pass saw so far."""

    quiet: bool
    cut: bool = False
    held: int = 0
    failed: int = 0
    behind: int = 0
    bytes: int = 0
    oldest: float | None = None
    extras: SpilledPairs = field(default_factory=SpilledPairs)
    later: SpilledPairs = field(default_factory=SpilledPairs)


class Reconciler:
    """Brings a destination level with its source, pass by pass.

    Args:
        route: from where to where.
        carrier: carries one object.
        options: how.
        filters: the keys that it deals with.
        retry: how a failed request is sent again.
        gate: how many objects may be under way at once.
        tally: told of each outcome.
        ended: whether no further object is to be begun.
        tell: told in one line when fsspec had to list a side.
        rows: the application whose rows are asked what they name, and its database; ``None`` where there is none.
        mine: whether a key is one of this process's, where several share the sync; ``None`` where all are.
    """

    def __init__(
        self,
        route: MigrationPlan,
        carrier: ObjectCopier,
        options: SyncOptions,
        filters: Filters,
        *,
        retry: Retry,
        gate: ConcurrencyLimiter,
        tally: RunStats,
        ended: Callable[[], bool],
        tell: Callable[[str], None],
        rows: tuple[Application, Database] | None,
        mine: Callable[[str], bool] | None = None,
    ) -> None:
        self._route, self._carrier, self._options, self._filters = route, carrier, options, filters
        self._retry, self._gate, self._tally, self._over = retry, gate, tally, ended
        source, self._other = (listing(side, retry, tell) for side in (route.source, route.destination))
        self._listed = replace(source, count=lambda count: tally.tell(Listed(objects=count)))
        self._rows, self._patience, self._mine = rows, CircuitBreaker(), mine
        self._remover = ExtraneousDeleter(
            route.source, route.destination, retry, min_age=options.min_age, dry_run=options.dry_run
        )
        self._guesses = route.source.registration.protocol not in _CLOUDS
        #: Entered while objects are deleted: keeps runs and purges of the same rows apart from it.
        self.apart: Callable[[], AbstractContextManager[object]] = nullcontext

    def run_pass(self, *, quiet: bool) -> Behind:
        """Make one pass.

        Args:
            quiet: tell no outcome of an object that was level already.

        Raises:
            IncompleteError: a listing broke off; nothing was deleted.
            StoppedError: told to stop, or a limit is reached; nothing was deleted.
            RunError: nothing works any more, or more would be deleted than may be.
        """
        with ExitStack() as stack:
            seen = _Pass(quiet)
            for aside in (seen.extras, seen.later):
                stack.enter_context(aside)
            began = time.time()
            pairs = stack.enter_context(closing(merge(self._listed, self._other)))
            self._each(self._reconcile, self._planned(pairs, seen), seen)
            named = stack.enter_context(ReferencedPlaces(self._services())) if self._rows else None
            if named is not None and (len(seen.later) or len(seen.extras)):
                # After the listings: what a row names by now was listed as it is, or is seen to have changed since.
                self._read_rows(named)
            self._each(self._reconcile, self._unnamed(seen.later, named, self._occupied), seen)
            self._delete(seen, named)
            seconds = max(0.0, began - seen.oldest) if seen.oldest is not None else 0.0
            return Behind(objects=seen.behind, bytes=seen.bytes, seconds=seconds)

    # -- what is to be done

    def _planned(self, pairs: Iterable[Pair], seen: _Pass) -> Iterator[Pair]:
        """The pairs of which something is to be copied, or that must be read to know."""
        for pair in pairs:
            if self._over():
                seen.cut = True
                return
            if (
                not self._filters.matches(pair.key)
                or is_ours(pair)
                or (self._mine is not None and not self._mine(pair.key))
            ):
                continue
            seen.held += pair.destination is not None
            if pair.source is None:
                if self._options.delete:
                    seen.extras.add(pair)
                continue
            compared = self._judged(pair)
            if compared is not None and compared.relation is Relation.MATCHED:
                if not seen.quiet:
                    self._tally.ended(self._outcome(pair, OutcomeKind.SKIPPED, evidence=compared.evidence))
            elif self._rows is not None and pair.destination is not None:
                seen.later.add(pair)
            else:
                yield pair

    def _judged(self, pair: Pair) -> Compared | None:
        """What the listings alone say; ``None`` where the objects must be read."""
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
        if held.last_modified is None or found.last_modified is None:
            return None
        relation = Relation.DIFFERENT if _newer(held.last_modified, found.last_modified) else Relation.MATCHED
        return replace(compared, relation=relation, evidence="size and time")

    # -- what is done

    def _each(self, work: Callable[[Pair], Outcome], pairs: Iterable[Pair], seen: _Pass) -> None:
        """Do it, several at once, and tell how each ended."""
        for pair, outcome in parallel_unordered(partial(self._let_in, work), pairs, lambda: self._gate.max_limit):
            if outcome is None:
                seen.cut = True
                continue
            seen.failed += not outcome.kind.done
            seen.behind += outcome.kind is not OutcomeKind.SKIPPED
            if outcome.kind is OutcomeKind.COPIED and pair.source is not None:
                seen.bytes += pair.source.size
                times = [moment for moment in (seen.oldest, pair.source.last_modified) if moment is not None]
                seen.oldest = min(times, default=None)
            if not (outcome.kind is OutcomeKind.SKIPPED and seen.quiet):
                self._tally.ended(outcome)
        if seen.cut:
            raise StoppedError("not all was begun")

    def _let_in(self, work: Callable[[Pair], Outcome], pair: Pair) -> tuple[Pair, Outcome | None]:
        """Do one piece of work when its turn comes; ``None`` where none is begun any more."""
        try:
            with self._gate.acquire():
                return pair, None if self._over() else work(pair)
        except StoppedError:
            return pair, None

    def _reconcile(self, pair: Pair) -> Outcome:
        """Bring one key level. What was listed as different is replaced while it still is what was listed."""
        began = time.monotonic()
        for _ in range(_LOOKS):
            compared = self._judged(pair) or judge_at(
                pair, self._route.source, self._route.destination, By.CHECKSUM, self._retry
            )
            if compared.relation is Relation.MATCHED:
                return self._outcome(pair, OutcomeKind.SKIPPED, evidence=compared.evidence)
            if compared.relation is Relation.ERROR:
                return self._outcome(pair, OutcomeKind.FAILED, compared.evidence)
            carried = self._carrier.copy(self._job(pair))
            self._patience.record(Failure(carried.failure, carried.reason) if carried.failure is not None else None)
            if carried.left is not None:
                self._undo(pair.key, carried.left)
            if carried.kind is not OutcomeKind.OCCUPIED:
                return self._ended(pair, carried, time.monotonic() - began)
            try:
                again = self._again(pair.key)
            except (StoreRequestError, KeyRefusedError) as error:
                return self._outcome(pair, OutcomeKind.FAILED, str(error))
            if again.source is None:
                break
            pair = again
        reason = "its destination was written again and again while it was copied: theirs stands"
        return self._outcome(pair, OutcomeKind.CHANGED, reason)

    def _job(self, pair: Pair) -> CopyTask:
        """The engine's job of one key."""
        here, there = (Location(side.key, pair.key) for side in (self._route.source, self._route.destination))
        item = Item(source=here, destination=there, action=self._action(pair.key), slots=())
        guessed = mimetypes.guess_type(pair.key)[0] if self._guesses else None
        replaces = pair.destination.evidence if pair.destination is not None else None
        return CopyTask(pair.key, item, replaces=replaces, content_type=guessed)

    def _action(self, key: str) -> Action:
        """Within one service the service copies by itself, where that was seen to work."""
        place = self._route.source.place(key)
        by_itself = place.root in self._route.copiers and unaddressable(place.key) is None
        return Action.COPY if by_itself else Action.TRANSFER

    def _again(self, key: str) -> Pair:
        """A key as both sides tell it now."""
        sides = (self._route.source, self._route.destination)
        source, destination = (self._retry.or_none_if_missing(side.resolve(key).head) for side in sides)
        return Pair(key=key, source=source, destination=destination)

    def _undo(self, key: str, left: ObjectMeta) -> None:
        """Take away what we wrote and do not believe: by size and time the next pass would."""
        at = self._route.destination.resolve(key)
        with suppress(StoreRequestError):
            found = self._retry.or_none_if_missing(at.head)
            if found is not None and proven_unchanged(left.evidence, found.evidence):
                self._retry.call(at.delete)

    def _ended(self, pair: Pair, carried: CopyResult, seconds: float) -> Outcome:
        verified = carried.verified
        if carried.kind is OutcomeKind.MISSING:
            return self._outcome(pair, OutcomeKind.SKIPPED, "the source holds it no more")
        if verified is None:
            return self._outcome(pair, carried.kind, carried.reason)
        kind = OutcomeKind.COPIED if carried.copied else OutcomeKind.SKIPPED
        return replace(
            self._outcome(pair, kind, evidence=verified.evidence), size=verified.source.size, seconds=seconds
        )

    def _outcome(self, pair: Pair, kind: OutcomeKind, reason: str = "", *, evidence: str = "") -> Outcome:
        return Outcome(
            kind=kind, source=Location(self._route.source.key, pair.key), reason=reason, evidence=evidence,
            destination=Location(self._route.destination.key, pair.key), size=pair.source.size if pair.source is not None else None,
        )  # fmt: skip

    # -- what rows name, and what is deleted

    def _services(self) -> ServiceIdentity:
        assert self._rows is not None
        return ServiceIdentity([*sides_of(self._rows[0].backends).values(), self._route.destination])

    def _read_rows(self, named: ReferencedPlaces) -> None:
        assert self._rows is not None
        application, database = self._rows
        named.add_rows(database, application.columns, sides_of(application.backends))

    def _unnamed(
        self, pairs: Iterable[Pair], named: ReferencedPlaces | None, instead: Callable[[Pair], Outcome]
    ) -> Iterator[Pair]:
        """The pairs whose destination no row names; of the others it is told why they are left."""
        for pair in pairs:
            if named is not None and named.names(self._route.destination.place(pair.key)):
                self._tally.ended(instead(pair))
            else:
                yield pair

    def _occupied(self, pair: Pair) -> Outcome:
        """A row names what would be replaced: the application writes there now."""
        if self._judged(pair) is None:
            compared = judge_at(pair, self._route.source, self._route.destination, By.CHECKSUM, self._retry)
            if compared.relation is Relation.MATCHED:
                return self._outcome(pair, OutcomeKind.SKIPPED, evidence=compared.evidence)
        reason = "it differs, and a row names it there: what the application may have written is not replaced"
        return self._outcome(pair, OutcomeKind.OCCUPIED, reason)

    def _delete(self, seen: _Pass, named: ReferencedPlaces | None) -> None:
        count = len(seen.extras)
        if not count:
            return
        if seen.failed:
            message = f"{amount(seen.failed, 'object')} could not be brought level, so nothing was deleted"
            note = Note(severity=Severity.WARNING, code="sync.kept", message=message, todo="mend that, and sync again")
            self._tally.tell(Noted(note=note))
            return
        most = self._options.most_deleted(seen.held)
        if count > most:
            raise RunError(
                f"{count} of the destination's {seen.held} objects would be deleted, --max-delete {self._options.max_delete} "
                f"allows {most}: none was; raise it if that is right"
            )
        kept = partial(self._remover.outcome, kind=OutcomeKind.SKIPPED, reason="kept: a row names it")
        with self.apart():
            self._each(self._remover.delete, self._unnamed(seen.extras, named, kept), seen)


def _contradict(held: ObjectMeta, found: ObjectMeta) -> bool:
    """Whether both tell what looks like a digest of the whole, and not the same: only the bytes can settle it."""
    tags = [meta.md5 or meta.e_tag or "" for meta in (held, found)]
    return tags[0] != tags[1] and all(len(tag) == 32 and not set(tag) - set("0123456789abcdef") for tag in tags)


def _newer(here: float, there: float) -> bool:
    """Whether the source was written after the destination. Of equal times only those that hold fractions are one moment.

    Services tell whole seconds: what was written twice within one is copied once more rather than missed.
    """
    return here > there or (here == there and here == int(here))
