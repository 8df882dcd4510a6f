"""Copy one object: HEAD, copy, verify, HEAD again. A failure is a value."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import Attributes, Capabilities, ObjectMeta, OutcomeKind
from migrate_storage.core.proofs import DESTINATION_READBACK, DRY_RUN, JOURNAL, SAME_OBJECT, split_proof
from migrate_storage.engine.conditions import WriteConditions
from migrate_storage.engine.existing_objects import ExistingObjects, OtherHeadersError
from migrate_storage.engine.guarded_store import GuardedStore, WrittenByAnotherError
from migrate_storage.engine.listing_evidence import SideListings
from migrate_storage.engine.place_proof import is_same_object
from migrate_storage.engine.plan import Action, Item, MigrationPlan
from migrate_storage.engine.preserve import read_preserved
from migrate_storage.engine.server_side_copy import (
    attributes_of_copy,
    can_server_side_copy,
    keeps_attributes,
    verify_server_side_copy,
)
from migrate_storage.engine.task import CopyResult, CopyTask, confirm_copy, is_copy
from migrate_storage.engine.transfer import (
    COPY_ROUNDS,
    SMALL_BYTES,
    CopyPolicy,
    CopyResources,
    DigestPlan,
    SentBody,
    SourceMissingError,
)
from migrate_storage.engine.verify import (
    ContradictedError,
    DestinationExistsError,
    DiffersError,
    NotKeptError,
    OtherObjectError,
    SourceChangedError,
    UnverifiedError,
    Verified,
    compare_content,
    consistent_with,
    copy_verified,
    holds_damaged_copy,
)
from migrate_storage.journal import ObjectRecord, ObjectState
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind, ObjectCheckError, classify
from migrate_storage.stores.retry import StoreRequestError
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.stores.spelling import refuse_other_spelling

__all__ = ("ObjectCopier",)

_KIND_OF_PROBLEM: dict[type[ObjectCheckError], OutcomeKind] = {
    DiffersError: OutcomeKind.MISMATCH,
    NotKeptError: OutcomeKind.MISMATCH,
    UnverifiedError: OutcomeKind.UNVERIFIED,
    ContradictedError: OutcomeKind.UNVERIFIED,
    SourceChangedError: OutcomeKind.MODIFIED,
}


@dataclass(frozen=True, slots=True)
class _Copy:
    """A task with both of its objects resolved."""

    task: CopyTask
    source: ObjectAt
    destination: ObjectAt
    #: Whether a conditional PUT was refused while there was no object.
    refused: bool = False
    #: Our earlier copy, which may be replaced while it is there; ``None`` where a HEAD showed nothing, or was not needed.
    replaced: ObjectMeta | None = None


class ObjectCopier:
    """Copies the objects of one migration plan, from any thread.

    Args:
        plan: the source and the destination.
        capabilities: what the destination was seen to do.
        resources: what all copies of the job share.
        dry_run: send HEAD requests and compare, write nothing.
        listings: listings that may replace the last HEAD of both sides of a copy; ``None`` sends a HEAD for each.
        existing: compares an object with what was at its destination before; ``None`` reads both.
        remembered: whether capabilities that no small object shows were probed before this run.
    """

    def __init__(
        self,
        plan: MigrationPlan,
        capabilities: Capabilities,
        resources: CopyResources,
        *,
        dry_run: bool = False,
        listings: SideListings | None = None,
        existing: ExistingObjects | None = None,
        remembered: bool = False,
    ) -> None:
        self.plan, self.listings, self._existing = plan, listings, existing
        self._resources, self._retry, self._dry_run = resources, resources.retry, dry_run
        self._conditions = WriteConditions(
            create_only=capabilities.create_only, on_contradiction=resources.on_contradiction
        )
        self._digests = DigestPlan.of_capabilities(capabilities, remembered=remembered)
        #: Whether the ETag of an upload in parts is expected to be a digest, because an earlier probe showed it.
        self._expects_digest = remembered and (self._digests.whole or self._digests.parts)

    def copy(self, task: CopyTask) -> CopyResult:
        """Do one task to its end. A failure is part of the result.

        Raises:
            StoppedError: the run was asked to stop; a multipart upload was aborted.
        """
        return self._measure(task, lambda: self._process(task))

    def recheck(self, result: CopyResult) -> CopyResult:
        """HEAD both objects of a copy. Where one of them changed, do the task again.

        Raises:
            StoppedError: the run was asked to stop; a multipart upload was aborted.
        """
        return self._measure(result.task, lambda: self._recheck(result))

    def source_changed(self, filename: str, verified: Verified) -> bool:
        """HEAD a source again; whether it was replaced. A deleted one was not.

        Raises:
            StoreRequestError: the store did not answer.
            StoppedError: the run was asked to stop.
        """
        now = self._retry.or_none_if_missing(self.plan.source.resolve(filename).head)
        return now is not None and not consistent_with(verified.source.evidence, now.evidence)

    def owns_nothing(self, owner: ObjectRecord) -> bool:
        """Whether the record of another source object no longer keeps its destination from others.

        Its copy must be gone: a HEAD finds nothing while the bucket answers. No row may name the copy as far as the journal
        knows, or the source key must be registered for another place by now, so that the copy cannot be made again.

        Args:
            owner: a record of an earlier run.

        Raises:
            StoppedError: the run was asked to stop.
        """
        if owner.state not in (ObjectState.INTENT, ObjectState.UNREFERENCED, ObjectState.VERIFIED):
            return False
        if owner.state == ObjectState.VERIFIED and self.plan.has_id(owner):
            return False
        try:
            return self._head(self.plan.destination.resolve(owner.destination_path)) is None
        except (StoreRequestError, KeyRefusedError):
            return False

    def _measure(self, task: CopyTask, work: Callable[[], CopyResult]) -> CopyResult:
        began = time.monotonic()
        return replace(self._catch_failure(task, work), seconds=time.monotonic() - began)

    @staticmethod
    def _catch_failure(task: CopyTask, work: Callable[[], CopyResult]) -> CopyResult:
        try:
            return work()
        except StoppedError:
            raise
        except SourceMissingError as error:
            return CopyResult(task=task, kind=OutcomeKind.MISSING, reason=str(error), left=error.left)
        except ContradictedError as error:
            return CopyResult(task=task, kind=OutcomeKind.UNVERIFIED, reason=str(error), left=error.left)
        except KeyRefusedError as error:
            return CopyResult(task=task, kind=OutcomeKind.FAILED, reason=str(error))
        except StoreRequestError as error:
            return _failed_result(task, error)
        except Exception as error:  # noqa: BLE001 - a failure of one object is a value
            return _failed_result(task, StoreRequestError(classify(error)))

    def _recheck(self, result: CopyResult) -> CopyResult:
        task = result.task
        source = self.plan.source_of(task.item)
        there = self._head(self.plan.destination_of(task.item))
        now = self._head(source) if result.source_pending else None
        if (confirmed := confirm_copy(result, now, there)) is not None:
            return confirmed
        if there is None or result.verified is None or not is_copy(result.verified, there):
            return self._process(replace(task, no_batching=True))
        # The destination is our copy of an older source. It is replaced; if that fails, it stays known as ours.
        again = replace(task, replaces=there.evidence, no_batching=True)
        second = self._catch_failure(again, lambda: self._process(again))
        return second if second.verified is not None or second.left is not None else replace(second, left=there)

    def _process(self, task: CopyTask) -> CopyResult:
        source = self.plan.source_of(task.item)
        moves = task.item.action.moves
        if task.item.action is not Action.REWRITE and (refusal := self.plan.refusal(task.item.destination.path)):
            raise KeyRefusedError(refusal)
        destination = self.plan.destination_of(task.item)
        if moves:
            return self._copy(_Copy(task, source, destination))
        if task.item.action is Action.SKIP or self.plan.by_objects:
            # The application reads through its filesystem; the translation of it is what is to be checked.
            source = self.plan.source.resolve_live(task.item.source.path)
        held, found = self._head_source(source), self._head(destination)
        if found is None or held.size != found.size:
            seen = "is not there" if found is None else f"has {found.size} bytes instead of {held.size}"
            reason = f"seen through {destination.store.name} it {seen}"
            return CopyResult(task=task, kind=OutcomeKind.MISMATCH, reason=reason)
        if self.plan.by_objects and not is_same_object(held, found, local=source.store.is_local):
            reason = f"{destination.store.name} shows another tag, date or version of it than {source.store.name}: nothing proves that it is the same object"
            return CopyResult(task=task, kind=OutcomeKind.MISMATCH, reason=reason)
        if task.item.action is Action.REWRITE and not self.plan.by_objects:
            verified = Verified(source=held, destination=found, evidence=SAME_OBJECT, written_by_us=False)
            return CopyResult(task=task, verified=verified)
        equal = compare_content(source, destination, self._retry)
        if equal is None:
            reason = f"opened through {destination.store.name} it has other bytes than through {source.store.name}"
            return CopyResult(task=task, kind=OutcomeKind.MISMATCH, reason=reason)
        if task.item.action is Action.SKIP:
            return CopyResult(task=task, kind=OutcomeKind.UNCHANGED, verified=equal)
        # One object: what the destination reports of it is what the source reports through obstore.
        return CopyResult(task=task, verified=replace(equal, source=equal.destination, evidence=SAME_OBJECT))

    def _copy(self, copy: _Copy) -> CopyResult:
        task = copy.task
        copier = self._conditions.usable(self.plan.copier(task.item))
        refuses = self._conditions.create_only if copier is None else copier.create_only
        may_be_occupied = not refuses or self._dry_run or _has_known_copy(task.record) or task.replaces is not None
        # A refused server-side copy costs no read of the source, a refused PUT does.
        may_be_occupied |= copier is None and self._existing is not None and self._existing.expected
        existing = self._head(copy.destination) if may_be_occupied else None
        if self._existing is not None and may_be_occupied:
            self._existing.count_head(found=existing is not None)
        if existing is not None:
            reused = self._reuse_verified(copy, existing)
            if reused is not None:
                return reused
            if not _is_our_copy(task.record, existing) and not _may_replace(task, existing):
                return self._destination_exists(copy)
        if self._dry_run:
            found = self._head_source(copy.source)
            verified = Verified(source=found, destination=found, evidence=DRY_RUN)
            return CopyResult(task=task, verified=verified, copied=True)
        # A store that cannot refuse to replace was asked by HEAD just now: what it gets from here on is ours.
        replace_existing = existing is not None or not refuses
        if copier is None and existing is not None:
            copy = replace(copy, replaced=existing)
        if copier is not None:
            result, replace_existing = self._server_side_copy(copy, copier, replace_existing=replace_existing)
            if result is not None:
                return result
            # The service would have refused to replace an object; a PUT without a condition replaces it.
            if not (replace_existing or self._conditions.create_only) and self._head(copy.destination) is not None:
                return self._destination_exists(copy)
        return self._copy_with_retries(copy, replace_existing=replace_existing)

    def _server_side_copy(
        self, copy: _Copy, copier: ServerSideCopier, *, replace_existing: bool
    ) -> tuple[CopyResult | None, bool]:
        """Let the service copy.

        Returns:
            The result, or ``None`` where the object must pass through this process; and whether what is at the
            destination may be replaced then.
        """
        left: ObjectMeta | None = None
        try:
            for _ in range(COPY_ROUNDS):
                done = self._copy_within_service(copy, copier, create=copier.create_only and not replace_existing)
                if isinstance(done, CopyResult):
                    return done, replace_existing
                if done is None:
                    return None, replace_existing
                replace_existing = True
                before, wanted = done
                now = self._retry.or_none_if_missing(copy.destination.head_with_attributes)
                left = now and now[0]
                verified = verify_server_side_copy(before, left)
                if now is None or verified is None:
                    break
                if not keeps_attributes(wanted, now[1]):
                    copier.loses_attributes = True
                    break
                if self._may_list_source(copy.task):
                    return CopyResult(task=copy.task, verified=verified, copied=True, source_pending=True), True
                if consistent_with(before.evidence, self._head_source(copy.source).evidence):
                    return CopyResult(task=copy.task, verified=verified, copied=True), True
        except (SourceMissingError, StoreRequestError) as error:
            error.left = left
            raise
        return None, replace_existing

    def _copy_within_service(
        self, copy: _Copy, copier: ServerSideCopier, *, create: bool
    ) -> tuple[ObjectMeta, Attributes] | CopyResult | None:
        """Send one server-side copy.

        Returns:
            The source as it was before, and the attributes that the copy must have; a result where the destination exists
            already; ``None`` where the service cannot copy this object.
        """
        before_and_attributes = self._retry.or_none_if_missing(copy.source.head_with_attributes)
        if before_and_attributes is None:
            raise SourceMissingError(copy.source)
        before, attributes = before_and_attributes
        content_type = _content_type_for(copy.task)
        wanted = attributes_of_copy(attributes, content_type)
        source, destination = copy.source.key, copy.destination.key
        try:
            if copier.loses_attributes and attributes != Attributes(content_type=attributes.content_type):
                return None
            if can_server_side_copy(before, attributes, content_type):
                sent = None if attributes.content_type or content_type is None else wanted
                self._retry.call(lambda: copier.copy(source, destination, attributes=sent, create=create))
            else:
                return None
        except StoreRequestError as error:
            kind = error.failure.kind
            if kind is FailureKind.EXISTS and create:
                if self._head(copy.destination) is not None:
                    return self._destination_exists(copy)
                self._conditions.drop_copies(
                    copier, f"a copy to {destination}, where nothing is, was refused as if there were an object"
                )
                return None
            if kind.retriable or kind is FailureKind.NO_BUCKET:
                raise
            # A missing right, or an object that the service does not copy: the copy through this process fails with the reason.
            return None
        return before, wanted

    def _copy_with_retries(self, copy: _Copy, *, replace_existing: bool) -> CopyResult:
        """Copy through this process."""
        task, create = copy.task, self._conditions.create_only and not replace_existing
        source_pending, list_copy = self._may_list_source(task), self._may_list_copy(task)
        content_type = _content_type_for(task)
        if content_type is None and replace_existing and not task.item.slots and _has_known_copy(task.record):
            # The last recheck of a run has no row that gives the content type; our first copy has it.
            content_type = self._retry.call(copy.destination.open).attributes.content_type
        policy = CopyPolicy(
            content_type=content_type,
            preserved=self._read_preserved(copy),
            create=create,
            head_copy=not list_copy,
            digests=self._digests,
            recheck_source=not source_pending,
            opaque_source=self.plan.source.opaque_etags,
        )
        try:
            verified = self._put_verified(copy, policy)
        except WrittenByAnotherError:
            return self._destination_exists(copy)
        except DestinationExistsError as error:
            return self._after_refused_put(copy, error.sent)
        except StoreRequestError as error:
            if error.failure.kind is not FailureKind.PERMANENT or not create:
                raise
            return self._without_condition(copy, error)
        except (DiffersError, UnverifiedError, SourceChangedError) as problem:
            if isinstance(problem, OtherObjectError):
                return CopyResult(task=task, kind=OutcomeKind.MISMATCH, reason=str(problem))
            reason, left = f"{problem} ({COPY_ROUNDS} times)", self._head(copy.destination)
            return CopyResult(task=task, kind=_KIND_OF_PROBLEM[type(problem)], reason=reason, left=left)
        self._check_expected_digest(copy, verified)
        # A large copy has been seen by a HEAD.
        destination_pending = list_copy and verified.destination.last_modified is None
        reason = f"not preserved, because obstore could not read it back: {', '.join(verified.not_preserved)}"
        return CopyResult(
            task=task, verified=verified, copied=True,
            source_pending=source_pending, destination_pending=destination_pending,
            reason=reason if verified.not_preserved else "",
        )  # fmt: skip

    def _check_expected_digest(self, copy: _Copy, verified: Verified) -> None:
        """Report once that an upload in parts did not get the digest that an earlier probe showed."""
        in_parts = verified.destination.size > SMALL_BYTES
        if self._expects_digest and in_parts and DESTINATION_READBACK in split_proof(verified.evidence):
            self._expects_digest = False
            self._resources.on_contradiction(
                f"the ETag of {copy.destination.key} is no digest, although a probe of the last hour showed one for uploads in parts"
            )

    def _read_preserved(self, copy: _Copy) -> Attributes | None:
        """Return the storage class and the tags that the copy gets; ``None`` where no option is about them."""
        if not (asked := self.plan.preservation).is_asked:
            return None
        places, source = copy.task.item.places, self.plan.source
        place = places[0] if places else source.place(copy.task.item.source.path)
        return read_preserved(asked, source, copy.source, place, self._retry)

    def _put_verified(self, copy: _Copy, policy: CopyPolicy) -> Verified:
        """Copy; an earlier copy is replaced only while a HEAD right before the PUT shows it."""
        if copy.replaced is None:
            return copy_verified(copy.source, copy.destination, policy, self._resources)
        guarded = GuardedStore(copy.destination, copy.replaced, lambda: self._head(copy.destination))
        policy = replace(policy, before_attempt=guarded.begin_attempt)
        return copy_verified(copy.source, ObjectAt(guarded, copy.destination.key), policy, self._resources)

    def _after_refused_put(self, copy: _Copy, sent: tuple[SentBody, ...]) -> CopyResult:
        """Handle a conditional PUT that was refused as if there were an object."""
        if self._head(copy.destination) is not None:
            return self._destination_exists(copy, sent)
        # Another process may have deleted it since. A second refusal contradicts the probe.
        if copy.refused:
            self._conditions.drop_puts(
                f"a PUT of {copy.destination.key}, where nothing is, was refused as if there were an object"
            )
        return self._copy_with_retries(replace(copy, refused=True), replace_existing=False)

    def _without_condition(self, copy: _Copy, error: StoreRequestError) -> CopyResult:
        """Try an object without the condition, where a conditional PUT failed for good."""
        if self._head(copy.destination) is not None:
            return self._destination_exists(copy)
        try:
            # A HEAD has just shown that there is nothing to replace.
            result = self._copy_with_retries(copy, replace_existing=True)
        except StoreRequestError:
            raise error from None
        self._conditions.drop_puts(
            f"a conditional PUT failed ({error.failure.message}), and one without a condition did not"
        )
        return result

    def _may_list_source(self, task: CopyTask) -> bool:
        """Whether one listing may replace the last HEAD of this and many other sources."""
        return self.listings is not None and not task.no_batching and self.listings.source.ready

    def _may_list_copy(self, task: CopyTask) -> bool:
        """Whether one listing may replace the HEAD of this and many other copies."""
        return self.listings is not None and not task.no_batching and self.listings.destination.ready

    def _reuse_verified(self, copy: _Copy, existing: ObjectMeta) -> CopyResult | None:
        """Reuse what an earlier run verified, where both objects are unchanged."""
        record = copy.task.record
        if (
            record is None
            or record.state != ObjectState.VERIFIED
            or not _has_known_copy(record)
            or not consistent_with(record.destination_evidence, existing.evidence)
        ):
            return None
        now = self._head_source(copy.source)
        if not consistent_with(record.source_evidence, now.evidence):
            return None
        verified = Verified(
            source=now,
            destination=existing,
            evidence=JOURNAL,
            sha256=record.sha256,
            written_by_us=record.written_by_us,
        )
        return CopyResult(task=copy.task, verified=verified)

    def _destination_exists(self, copy: _Copy, sent: tuple[SentBody, ...] = ()) -> CopyResult:
        """Use an object at the destination if it is equal; replace it if it is what we sent, damaged; else leave it."""
        refuse_other_spelling(self.plan.destination.place(copy.task.item.destination.path))
        now = self._head_source(copy.source)
        try:
            verified = self._compare_existing(copy)
        except OtherHeadersError as error:
            advice = "give it those headers, or delete it, then run again"
            return CopyResult(task=copy.task, kind=OutcomeKind.DESTINATION_EXISTS, reason=f"{error}; {advice}")
        if verified is not None:
            return CopyResult(task=copy.task, verified=verified)
        if holds_damaged_copy(sent, copy.source, copy.destination, self._retry):
            return self._copy_with_retries(copy, replace_existing=True)
        record = copy.task.record
        if record is not None and _has_known_copy(record):
            kind, reason = self._judge_difference(copy, record, now)
        else:
            kind = OutcomeKind.DESTINATION_EXISTS
            reason = f"another object is at {copy.task.item.destination} already: move it away or choose another prefix, then run again"
        return CopyResult(task=copy.task, kind=kind, reason=reason)

    def _compare_existing(self, copy: _Copy) -> Verified | None:
        """Compare the source with the object at the destination; ``None`` where their bytes differ."""
        if self._existing is None:
            opaque = self.plan.source.opaque_etags
            return compare_content(copy.source, copy.destination, self._retry, opaque_source=opaque)
        self._existing.count_head(found=True)
        # The application may have written new headers to a copy of ours.
        return self._existing.compare(copy.source, copy.destination, headers=not _has_known_copy(copy.task.record))

    def _judge_difference(self, copy: _Copy, record: ObjectRecord, now: ObjectMeta) -> tuple[OutcomeKind, str]:
        """Return what became of a copy of ours that has other bytes than its source, and may not be replaced."""
        existing = self._head(copy.destination)
        source_moved = not consistent_with(record.source_evidence, now.evidence)
        copy_moved = existing is None or not consistent_with(record.destination_evidence, existing.evidence)
        if source_moved and not copy_moved:
            return OutcomeKind.CONFLICT, (
                f"the source was changed since the copy, and nothing proves that we wrote {copy.task.item.destination}; both are kept: "
                "decide by hand which one is right"
            )
        if copy_moved and not source_moved and record.state == ObjectState.VERIFIED:
            return OutcomeKind.MODIFIED, (
                f"its copy {copy.task.item.destination} was replaced since it was verified (by the application, perhaps), and is left"
            )
        return OutcomeKind.CONFLICT, (
            "source and destination were both changed since the copy; both are kept: decide by hand which one is right"
        )

    def _head(self, at: ObjectAt) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(at.head)

    def _head_source(self, source: ObjectAt) -> ObjectMeta:
        found = self._head(source)
        if found is None:
            raise SourceMissingError(source)
        return found


def _has_known_copy(record: ObjectRecord | None) -> bool:
    """Whether the journal records that we wrote the destination, verified or not."""
    return (
        record is not None
        and record.state in (ObjectState.VERIFIED, ObjectState.UNREFERENCED)
        and record.size is not None
    )


def _is_our_copy(record: ObjectRecord | None, existing: ObjectMeta) -> bool:
    if record is None or not record.written_by_us or not _has_known_copy(record):
        return False
    known = record.destination_etag is not None or record.destination_modified is not None
    return known and consistent_with(record.destination_evidence, existing.evidence)


def _may_replace(task: CopyTask, existing: ObjectMeta) -> bool:
    return task.replaces is not None and consistent_with(task.replaces, existing.evidence)


def _content_type_for(task: CopyTask) -> str | None:
    return _content_type_of_rows(task.item) or task.content_type


def _content_type_of_rows(item: Item) -> str | None:
    value = item.slots[0].file.get("content_type") if item.slots else None
    return value if isinstance(value, str) and value else None


def _failed_result(task: CopyTask, error: StoreRequestError) -> CopyResult:
    failure = error.failure
    if failure.kind is FailureKind.ARCHIVED:
        reason = f"restore it from its archive class first, then run again: {failure.message}"
        return CopyResult(task=task, kind=OutcomeKind.ARCHIVED, reason=reason, left=error.left)
    # MISSING is an outcome for the source only, see SourceMissingError. A destination that answers so may have lost one
    # object or its bucket; many such answers in a row open the circuit breaker.
    kind = FailureKind.TRANSIENT if failure.kind is FailureKind.MISSING else failure.kind
    store_wide = kind if kind.is_store_wide else None
    return CopyResult(task=task, kind=OutcomeKind.FAILED, reason=failure.message, failure=store_wide, left=error.left)
