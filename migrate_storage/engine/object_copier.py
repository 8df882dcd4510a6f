"""One object's way through the steps: looked at, transferred, verified, looked at again. What went wrong is a value."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import Capabilities, ObjectMeta, OutcomeKind
from migrate_storage.engine.listing_evidence import SideListings
from migrate_storage.engine.plan import Action, Item, MigrationPlan
from migrate_storage.engine.server_side_copy import can_server_side_copy, verify_server_side_copy
from migrate_storage.engine.task import CopyResult, CopyTask, confirmed, is_copy
from migrate_storage.engine.transfer import SourceMissingError, copy_bytes, part_size
from migrate_storage.engine.verify import (
    DiffersError,
    UnverifiedError,
    Verified,
    compare_content,
    consistent_with,
    verify,
)
from migrate_storage.journal import SAME_PLACE, ObjectRecord
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import FailureKind, classify
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.stores.server_side_copy import ServerSideCopier

__all__ = ("ObjectCopier",)


_ROUNDS = 4
"""How often one object is copied again because it changed meanwhile or did not verify."""


class ObjectCopier:
    """Carries jobs of one route, from any thread.

    Args:
        route: from where to where.
        capabilities: what the destination was seen to do.
        retry: how a failed request is sent again.
        budget: bytes in memory.
        moved: called with the bytes that passed.
        checkpoint: called between the pieces of a large object; it raises to stop half-way.
        dry_run: look and compare, write nothing.
        sights: what listings may tell in place of the last looks at both sides of a copy; ``None`` looks at each.
    """

    def __init__(
        self,
        route: MigrationPlan,
        capabilities: Capabilities,
        *,
        retry: Retry,
        budget: Callable[[int], AbstractContextManager[None]],
        moved: Callable[[int], None],
        checkpoint: Callable[[], None],
        dry_run: bool = False,
        sights: SideListings | None = None,
    ) -> None:
        self._sights = sights
        self._route = route
        self._create = capabilities.create_only
        self._whole, self._parts = capabilities.large_etag_is_md5, capabilities.large_etag_is_of_parts
        self._retry = retry
        self._budget = budget
        self._moved, self._checkpoint = moved, checkpoint
        self._dry_run = dry_run

    def copy(self, job: CopyTask) -> CopyResult:
        """Carry one job to its end. Only being told to stop is raised.

        Raises:
            StoppedError: the run is to stop; nothing is half done.
        """
        return self._timed(job, lambda: self._copy_either_way(job))

    def recheck(self, carried: CopyResult) -> CopyResult:
        """The last looks at a copy that is ``unseen``. Where a side is another than it was, the job is done again.

        Raises:
            StoppedError: the run is to stop; nothing is half done.
        """
        job = carried.task

        def looked() -> CopyResult:
            source, source_path = self._route.source.resolve(job.item.source.path)
            there = self._head(*self._route.destination.resolve(job.item.destination.path))
            now = self._head(source, source_path)
            if (seen := confirmed(carried, now, there)) is not None:
                return seen
            if there is None or carried.verified is None or not is_copy(carried.verified, there):
                return self._copy_either_way(replace(job, no_batching=True))
            # Our own copy of what the source held before: to be replaced, and if that fails to be known as ours.
            again = replace(job, replaces=there.evidence, no_batching=True)
            result = self._safely(again, lambda: self._copy_either_way(again))
            return result if result.verified is not None or result.left is not None else replace(result, left=there)

        return self._timed(job, looked)

    def source_changed(self, filename: str, verified: Verified) -> bool:
        """A later look: whether the source object is another than the one that was copied. A deleted one is not."""
        store, path = self._route.source.resolve(filename)
        try:
            return not consistent_with(verified.source.evidence, self._retry.call(lambda: store.head(path)).evidence)
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.MISSING:
                return False
            raise

    def _timed(self, job: CopyTask, work: Callable[[], CopyResult]) -> CopyResult:
        began = time.monotonic()
        return replace(self._safely(job, work), seconds=time.monotonic() - began)

    def _safely(self, job: CopyTask, work: Callable[[], CopyResult]) -> CopyResult:
        try:
            return work()
        except StoppedError:
            raise
        except SourceMissingError as error:
            return CopyResult(task=job, kind=OutcomeKind.MISSING, reason=str(error))
        except KeyRefusedError as error:
            return CopyResult(task=job, kind=OutcomeKind.FAILED, reason=str(error))
        except StoreRequestError as error:
            return _failed(job, error)
        except Exception as error:  # noqa: BLE001 - one item's failure is a value
            return _failed(job, StoreRequestError(classify(error)))

    def _copy_either_way(self, job: CopyTask) -> CopyResult:
        source, source_path = self._route.source.resolve(job.item.source.path)
        try:
            return self._process(job, source, source_path)
        except StoreRequestError as error:
            # obstore cannot read every object (a gzip-encoded one on GCS, say) that the old filesystem can.
            other = self._route.source.fallback(job.item.source.path)
            if error.failure.kind is not FailureKind.PERMANENT or other is None or not job.item.action.moves:
                raise
            other_way = replace(job, no_batching=True, item=replace(job.item, action=Action.TRANSFER))
            try:
                return self._with_source_evidence(source, source_path, lambda: self._process(other_way, *other))
            except StoreRequestError:
                raise error from None

    def _with_source_evidence(self, source: Store, path: str, carry: Callable[[], CopyResult]) -> CopyResult:
        """Carry by another way, with the evidence of the store that later looks will ask: each has tags of its own."""
        try:
            before = self._head(source, path)
        except StoreRequestError:
            return carry()
        result = carry()
        now = self._head(source, path)
        if (
            result.verified is None
            or before is None
            or now is None
            or not consistent_with(before.evidence, now.evidence)
        ):
            return result
        return replace(result, verified=replace(result.verified, source=now))

    def _process(self, job: CopyTask, source: Store, source_path: str) -> CopyResult:
        if job.item.action.moves and (refusal := self._route.refusal(job.item.destination.path)):
            raise KeyRefusedError(refusal)
        destination, path = self._route.destination.resolve(job.item.destination.path)
        if job.item.action.moves:
            return self._copy(job, source, source_path, destination, path)
        held, found = self._head_source(source, source_path), self._head(destination, path)
        if found is None or held.size != found.size:
            seen = "is not there" if found is None else f"has {found.size} bytes instead of {held.size}"
            return CopyResult(task=job, kind=OutcomeKind.DIFFERS, reason=f"seen through {destination.name} it {seen}")
        if job.item.action is Action.REWRITE:
            verified = Verified(source=held, destination=found, evidence=SAME_PLACE, ours=False)
            return CopyResult(task=job, verified=verified)
        same_bytes = self._retry.call(lambda: compare_content(source, source_path, destination, path))
        if same_bytes is None:
            reason = f"opened through {destination.name} it holds other bytes than through {source.name}"
            return CopyResult(task=job, kind=OutcomeKind.DIFFERS, reason=reason)
        return CopyResult(task=job, kind=OutcomeKind.SKIPPED, verified=same_bytes)

    def _copy(self, job: CopyTask, source: Store, source_path: str, destination: Store, path: str) -> CopyResult:
        over = False
        copier = self._route.copier(job.item)
        refuses = self._create if copier is None else copier.create_only
        unasked = refuses and not self._dry_run and not _held(job.entry) and job.replaces is None
        existing = None if unasked else self._head(destination, path)
        if existing is not None:
            settled = self._reuse_verified(job, source, source_path, existing)
            if settled is not None:
                return settled
            over = _is_our_copy(job.entry, existing) or _may_replace(job, existing)
            if not over:
                return self._destination_exists(job, source, source_path, destination, path)
        if self._dry_run:
            found = self._head_source(source, source_path)
            return CopyResult(
                task=job, verified=Verified(source=found, destination=found, evidence="dry run"), copied=True
            )
        # A store that cannot refuse to replace was asked just now: what appears there from here on is ours.
        over = over or (not refuses and existing is None)
        if copier is not None:
            copied = self._server_side_copy(job, copier, source, source_path, destination, path, over=over)
            if isinstance(copied, CopyResult):
                return copied
            over = copied
        return self._copy_with_retries(job, source, source_path, destination, path, over=over)

    def _server_side_copy(
        self,
        job: CopyTask,
        copier: ServerSideCopier,
        source: Store,
        source_path: str,
        destination: Store,
        path: str,
        *,
        over: bool,
    ) -> CopyResult | bool:
        """Let the service copy.

        Returns:
            What became of it; or, where it is to go through this process, whether what stands there may be replaced.
        """
        for _ in range(_ROUNDS):
            try:
                before, attributes = self._retry.call(lambda: source.head_with_attributes(source_path))
            except StoreRequestError as error:
                if error.failure.kind is FailureKind.MISSING:
                    raise SourceMissingError(source_path, source.name) from error
                raise
            wanted = _content_type(job.item) or job.content_type
            if not can_server_side_copy(before, attributes, wanted):
                return over
            content_type = None if attributes.content_type else wanted
            create = copier.create_only and not over
            try:
                self._retry.call(
                    lambda: copier.copy(source_path, path, content_type=content_type, create=create)  # noqa: B023
                )
            except StoreRequestError as error:
                if error.failure.kind is FailureKind.EXISTS and create:
                    return self._destination_exists(job, source, source_path, destination, path)
                if error.failure.kind.retriable or error.failure.kind is FailureKind.NO_BUCKET:
                    raise
                # A right that is missing, an object that the service does not copy: the other way tells what is wrong.
                return over
            over = True
            verified = verify_server_side_copy(before, self._head(destination, path))
            if verified is None:
                return over
            if self._waits(job):
                return CopyResult(task=job, verified=verified, copied=True, recheck_pending=True)
            if consistent_with(before.evidence, self._head_source(source, source_path).evidence):
                return CopyResult(task=job, verified=verified, copied=True)
        return over

    def _copy_with_retries(
        self, job: CopyTask, source: Store, source_path: str, destination: Store, path: str, *, over: bool
    ) -> CopyResult:
        problem, waits = (OutcomeKind.FAILED, ""), self._waits(job)
        unlooked = waits and self._sights is not None and self._sights.destination.ready
        content_type = _content_type(job.item) or job.content_type
        if content_type is None and over and not job.item.slots and _held(job.entry):
            # No row tells it to a last look; what we wrote with the first copy still does.
            content_type = self._retry.call(lambda: destination.open(path)).attributes.content_type
        for _ in range(_ROUNDS):
            create = self._create and not over

            def once(create: bool = create) -> Verified:
                copied = copy_bytes(
                    source, source_path, destination, path,
                    content_type=content_type, create=create, look=not unlooked, whole=self._whole, parts=self._parts, moved=self._moved, hold=self._hold, checkpoint=self._checkpoint,
                )  # fmt: skip
                verified = self._retry.call(lambda: verify(copied, source, source_path, destination, path))
                return verified if unlooked else self._with_mtime(verified, destination, path)

            try:
                verified = self._retry.call(once)
            except StoreRequestError as error:
                if error.failure.kind is FailureKind.EXISTS and create:
                    return self._destination_exists(job, source, source_path, destination, path)
                raise
            except DiffersError as error:
                problem = (OutcomeKind.DIFFERS, str(error))
            except UnverifiedError as error:
                problem = (OutcomeKind.UNVERIFIED, str(error))
            else:
                if waits:
                    return CopyResult(task=job, verified=verified, copied=True, recheck_pending=True)
                now = self._head_source(source, source_path)
                if consistent_with(verified.source.evidence, now.evidence):
                    return CopyResult(task=job, verified=verified, copied=True)
                problem = (OutcomeKind.CHANGED, "the source kept changing while it was copied")
            over = True
        return CopyResult(
            task=job, kind=problem[0], reason=f"{problem[1]} ({_ROUNDS} times)", left=self._head(destination, path)
        )

    def _waits(self, job: CopyTask) -> bool:
        """Whether a copy's last look at its source may wait for a listing of many."""
        return self._sights is not None and not job.no_batching and self._sights.source.ready

    def _with_mtime(self, verified: Verified, destination: Store, path: str) -> Verified:
        """With the time that the destination tells, where the look right after the put got no answer."""
        if verified.destination.last_modified is not None:
            return verified
        found = self._head(destination, path)
        ours = found is not None and found.e_tag == verified.destination.e_tag
        return replace(verified, destination=found) if found is not None and ours else verified

    def _reuse_verified(
        self, job: CopyTask, source: Store, source_path: str, existing: ObjectMeta
    ) -> CopyResult | None:
        """What an earlier run verified, and what still is as it was on both sides, needs no bytes."""
        entry = job.entry
        if (
            entry is None
            or entry.state != "held"
            or not _held(entry)
            or not consistent_with(entry.destination_evidence, existing.evidence)
        ):
            return None
        now = self._head_source(source, source_path)
        if not consistent_with(entry.source_evidence, now.evidence):
            return None
        return CopyResult(
            task=job,
            verified=Verified(
                source=now, destination=existing, evidence="journal", sha256=entry.sha256, ours=entry.ours
            ),
        )

    def _destination_exists(
        self, job: CopyTask, source: Store, source_path: str, destination: Store, path: str
    ) -> CopyResult:
        """Something stands at the destination: equal, it is used and never removed by us; different, it is left."""
        self._head_source(source, source_path)
        verified = self._retry.call(lambda: compare_content(source, source_path, destination, path))
        if verified is not None:
            return CopyResult(task=job, verified=verified)
        if _held(job.entry):
            return CopyResult(
                task=job,
                kind=OutcomeKind.CONFLICT,
                reason="source and destination were both changed since the copy; both are kept: decide by hand which one is right",
            )
        return CopyResult(
            task=job,
            kind=OutcomeKind.OCCUPIED,
            reason=f"another object stands at {job.item.destination} already: move it away or choose another prefix, then run again",
        )

    @contextmanager
    def _hold(self, size: int) -> Iterator[None]:
        with self._budget(min(size, 6 * part_size(size))):
            yield

    def _head(self, store: Store, path: str) -> ObjectMeta | None:
        try:
            return self._retry.call(lambda: store.head(path))
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.MISSING:
                return None
            raise

    def _head_source(self, store: Store, path: str) -> ObjectMeta:
        found = self._head(store, path)
        if found is None:
            raise SourceMissingError(path, store.name)
        return found


def _held(entry: ObjectRecord | None) -> bool:
    """Whether the journal knows a copy of ours at the destination, believed or left over."""
    return entry is not None and entry.state in ("held", "leftover") and entry.size is not None


def _is_our_copy(entry: ObjectRecord | None, existing: ObjectMeta) -> bool:
    if entry is None or not entry.ours or not _held(entry):
        return False
    known = entry.destination_etag is not None or entry.destination_modified is not None
    return known and consistent_with(entry.destination_evidence, existing.evidence)


def _may_replace(job: CopyTask, existing: ObjectMeta) -> bool:
    return job.replaces is not None and consistent_with(job.replaces, existing.evidence)


def _content_type(item: Item) -> str | None:
    value = item.slots[0].file.get("content_type") if item.slots else None
    return value if isinstance(value, str) and value else None


def _failed(job: CopyTask, error: StoreRequestError) -> CopyResult:
    failure = error.failure
    if failure.kind is FailureKind.ARCHIVED:
        return CopyResult(
            task=job,
            kind=OutcomeKind.ARCHIVED,
            reason=f"restore it from its archive class first, then run again: {failure.message}",
        )
    # Only the source's own absence is Missing (it was asked for by name). A destination that answers so may have lost
    # one object or its whole bucket: many in a row tell.
    kind = FailureKind.TRANSIENT if failure.kind is FailureKind.MISSING else failure.kind
    return CopyResult(
        task=job, kind=OutcomeKind.FAILED, reason=failure.message, failure=kind if kind.is_store_wide else None
    )
