"""Move one object to quarantine and back: copy, verify, delete the original.

The state of the journal record shows where the object may be. ``QUARANTINE_COPYING``: at its own key. ``QUARANTINE_DELETING``: at
its own key or in quarantine only. ``QUARANTINED``: in quarantine. ``RESTORING``: in quarantine, and perhaps at its own key.
``RESTORED``: at its own key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError
from migrate_storage.core.model import Attributes, ObjectMeta, Outcome, OutcomeKind
from migrate_storage.engine.probe import SCRATCH, refuses_to_replace
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.engine.task import with_objects
from migrate_storage.engine.transfer import CopyPolicy, CopyResources
from migrate_storage.engine.verify import (
    Verified,
    compare_content,
    copy_verified,
    is_as_recorded,
    proven_unchanged,
)
from migrate_storage.journal import ObjectRecord, ObjectState, digest
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind, ObjectCheckError, classify
from migrate_storage.stores.listing import ListedObject
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError
from migrate_storage.translate import encode_key, unaddressable
from migrate_storage.translate.places import resolve_links

__all__ = ("Quarantine", "StepResult", "check_prefix", "moving_record", "reason_not_to_move")

COPY_RETENTION_AFTER_CRASH_SECONDS = 900.0
"""Seconds for which a copy stays whose original a killed job may still delete."""


def check_prefix(prefix: str, sides: Mapping[str, ResolvedBackend], keys: Sequence[str]) -> str:
    """Check the quarantine folder; return it without slashes at its ends.

    Args:
        prefix: the folder below each backend's root, as it was typed.
        sides: every registered backend.
        keys: the backends whose orphans go there.

    Raises:
        ConfigurationError: a store cannot have such a folder, or files of a backend are there.
    """
    folder = prefix.strip("/")
    reason = unaddressable(folder, local=True)
    if reason is not None or folder.split("/")[0] == SCRATCH:
        raise ConfigurationError(
            f"--quarantine {prefix!r} {reason or 'is where stores are tried'}: name a folder of its own, such as .quarantine"
        )
    services = ServiceIdentity(sides.values())
    for key in keys:
        root, inside_folder = sides[key].root, resolve_links(sides[key].place(f"{folder}/x"))
        there = inside_folder.key[:-1]
        for other in (part for side in sides.values() for part in side.parts):
            theirs = other.root
            if not theirs.root or not services.may_be_same(replace(theirs, key=""), replace(inside_folder, key="")):
                continue
            inside = there.startswith(theirs.key) and len(theirs.key) > len(root.key)
            if inside or theirs.key.startswith(there):
                raise ConfigurationError(
                    f"--quarantine {prefix!r} of {key!r} is where the files of {other.key!r} are: name a folder of its own"
                )
        if not there.startswith(root.key):
            raise ConfigurationError(f"--quarantine {prefix!r} leads out of {key!r}: name a folder of its own")
    return folder


def reason_not_to_move(held: ListedObject, side: ResolvedBackend) -> str:
    """Return why an object could not be put back after a move; empty where it could."""
    local = held.place.service in ("file", "memory")
    if not local and (reason := unaddressable(held.place.key)) is not None:
        return f"it is not moved, for its key {reason}"
    if resolve_links(side.place(held.location.path)) != resolve_links(held.place):
        return f"it is not moved, for {held.location.backend!r} cannot name it"
    return ""


def moving_record(held: ListedObject, prefix: str, run: str) -> ObjectRecord:
    """Return the record of an object to be moved below ``prefix`` and the run's id."""
    key, name, place = held.location.backend, held.location.path, held.place
    return ObjectRecord(
        id=digest("quarantine", run, place.service, place.endpoint, place.root, place.key), run=run, state=ObjectState.QUARANTINE_COPYING,
        source_key=key, source_path=name, destination_key=key,
        destination_path=f"{prefix}/{run}/{encode_key(name, local=place.service == 'file')}",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """An object's journal record after a step, and how the step ended."""

    record: ObjectRecord
    kind: OutcomeKind
    reason: str = ""
    evidence: str = ""

    @property
    def outcome(self) -> Outcome:
        """The outcome for listener and report."""
        record = self.record
        return Outcome(
            kind=self.kind, source=record.source, destination=record.destination, reason=self.reason, size=record.size,
            verified_by=self.evidence,
        )  # fmt: skip


class Quarantine:
    """Does each step for one object, from any thread; writes nothing to the journal.

    Args:
        sides: every registered backend.
        resources: what all copies of the job share.
        clock: the time by the journal's database, in seconds since the epoch.
        dry_run: :meth:`put_back` sends HEAD requests and compares, and writes nothing.
    """

    def __init__(
        self,
        sides: Mapping[str, ResolvedBackend],
        resources: CopyResources,
        *,
        clock: Callable[[], float],
        dry_run: bool = False,
    ) -> None:
        self._sides, self._resources, self._retry, self._dry_run = sides, resources, resources.retry, dry_run
        self._clock, self._breaker = clock, CircuitBreaker()

    def try_step(self, step: Callable[[ObjectRecord], StepResult], record: ObjectRecord) -> StepResult:
        """Do one of the steps below for one object; a failure of the object is a result.

        Raises:
            StoppedError: the job was asked to stop.
            RunError: too many objects in a row failed.
        """
        try:
            result = step(record)
            self._breaker.record(None)
            return result
        except RunError:
            raise
        except StoreRequestError as error:
            self._breaker.record(error.failure)
            reason = str(error)
        except (ObjectCheckError, KeyRefusedError) as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a failure of one object is a value
            failure = classify(error)
            self._breaker.record(failure)
            reason = failure.message
        return StepResult(record=record, kind=OutcomeKind.FAILED, reason=reason)

    def copy_to_quarantine(self, record: ObjectRecord) -> StepResult:
        """Copy an object to quarantine and verify it; the new record has the evidence."""
        original, copy = self._resolve_objects(record)
        opaque = self._sides[record.source_key].opaque_etags
        verified = self._copy(original, copy, create=False, opaque=opaque)
        found = self._head(copy)
        if found is None or found.size != verified.source.size:
            raise ObjectCheckError(f"the copy {record.destination} is not what was written")
        if not self._have_same_attributes(original, copy):
            raise ObjectCheckError("the store does not keep what the object has beside its bytes: it was not moved")
        record = with_objects(record, verified.source, found, verified.sha256)
        record = replace(record, evidence=verified.evidence[:64], written_by_us=True)
        return StepResult(record=record, kind=OutcomeKind.QUARANTINED, evidence=verified.evidence)

    def delete_original(self, record: ObjectRecord) -> StepResult:
        """Delete an object that was copied, if it and its copy are unchanged."""
        original, copy = self._resolve_objects(record)
        found = self._head(copy)
        if found is None or not proven_unchanged(record.destination_evidence, found.evidence):
            reason = f"its copy {record.destination} was touched: it was not moved"
            return StepResult(record=record, kind=OutcomeKind.MODIFIED, reason=reason)
        now = self._head(original)
        if now is not None and not proven_unchanged(record.source_evidence, now.evidence):
            reason = "it was replaced meanwhile, or no evidence shows whether it was"
            return StepResult(record=record, kind=OutcomeKind.MODIFIED, reason=reason)
        if now is not None:
            self._retry.call(original.delete)
        return _quarantined_result(record, record.evidence or "")

    def put_back(self, record: ObjectRecord) -> StepResult:
        """Copy an object back and delete the copy, from any state that a job left."""
        original, copy = self._resolve_objects(record)
        existing, found = self._head(original), self._head(copy)
        if existing is not None:
            return self._settle_existing(record, existing, found)
        if found is None and record.size is None:
            return _closed_result(record, "another program deleted it before it was moved")
        if found is None:
            reason = f"it and its copy {record.destination} are both gone: another program emptied the quarantine"
            return StepResult(record=record, kind=OutcomeKind.MISSING, reason=reason)
        intact = partial(is_as_recorded, copy, found, record.destination_evidence, record.sha256)
        if record.size is None or not self._retry.call(intact):
            reason = f"{record.destination} is not what was put there: check it before you move it back by hand"
            return StepResult(record=record, kind=OutcomeKind.MODIFIED, reason=reason)
        if self._dry_run:
            return self.delete_copy(record)
        try:
            side = self._sides[record.source_key]
            create = refuses_to_replace(side, self._retry)
            self._copy(copy, original, create=create, opaque=side.opaque_etags)
        except StoreRequestError as error:
            if error.failure.kind is not FailureKind.EXISTS:
                raise
            now = self._head(original)
            if now is None:
                raise
            # Another copy of it may have been put back just now.
            return self._settle_existing(record, now, found)
        if not self._have_same_attributes(original, copy):
            message = "the store does not keep what the object has beside its bytes: the copy stays as well"
            raise ObjectCheckError(message)
        return self.delete_copy(record)

    def recover(self, record: ObjectRecord) -> StepResult:
        """Finish the step of a killed job: delete the copy where the original exists."""
        original, _ = self._resolve_objects(record)
        if self._head(original) is None and record.size is not None:
            return _quarantined_result(record, "")
        result = self.put_back(record)
        if result.record.state == ObjectState.RESTORING:
            return replace(result, record=replace(record, state=ObjectState.QUARANTINED))
        return result

    def _settle_existing(self, record: ObjectRecord, existing: ObjectMeta, found: ObjectMeta | None) -> StepResult:
        """Decide about the copy, if it was found, where an object is at the original's key."""
        never_deleted = record.size is None or proven_unchanged(record.source_evidence, existing.evidence)
        age_seconds = self._clock() - record.updated
        if (
            never_deleted
            and record.state == ObjectState.QUARANTINE_DELETING
            and age_seconds < COPY_RETENTION_AFTER_CRASH_SECONDS
        ):
            # A suspended job may wake up and delete the original.
            reason = "it is at its own key; the copy is kept for a while"
            return StepResult(record=record, kind=OutcomeKind.RESTORED, reason=reason)
        if never_deleted:
            return self.delete_copy(record)
        if found is None:
            return _closed_result(record, f"another object is there now, and {record.destination} is gone")
        original, copy = self._resolve_objects(record)
        equal = compare_content(original, copy, self._retry) is not None
        if equal and self._have_same_attributes(original, copy):
            return self.delete_copy(record)
        reason = f"another object is there now; {record.destination} is kept: decide by hand which one is right"
        return StepResult(record=record, kind=OutcomeKind.DESTINATION_EXISTS, reason=reason)

    def delete_copy(self, record: ObjectRecord) -> StepResult:
        """Delete the copy of an object that is at its own key."""
        _, copy = self._resolve_objects(record)
        if not self._dry_run:
            self._retry.call(copy.delete)
        restored = replace(record, state=ObjectState.RESTORED)
        return StepResult(record=restored, kind=OutcomeKind.RESTORED, evidence=record.evidence or "")

    def _resolve_objects(self, record: ObjectRecord) -> tuple[ObjectAt, ObjectAt]:
        """Return the object at its own key, and its copy."""
        side = self._sides.get(record.source_key)
        if side is None:
            raise KeyRefusedError(f"no backend is registered under {record.source_key!r} any more: register it again")
        return side.resolve(record.source_path), side.resolve(record.destination_path)

    def _copy(self, source: ObjectAt, destination: ObjectAt, *, create: bool, opaque: bool) -> Verified:
        policy = CopyPolicy(create=create, recheck_source=False, rounds=1, opaque_source=opaque)
        return copy_verified(source, destination, policy, self._resources)

    def _have_same_attributes(self, original: ObjectAt, copy: ObjectAt) -> bool:
        def read_attributes(at: ObjectAt) -> Attributes:
            return self._retry.call(lambda: at.open().attributes)

        return read_attributes(original) == read_attributes(copy)

    def _head(self, at: ObjectAt) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(at.head)


def _quarantined_result(record: ObjectRecord, evidence: str) -> StepResult:
    return StepResult(
        record=replace(record, state=ObjectState.QUARANTINED), kind=OutcomeKind.QUARANTINED, evidence=evidence
    )


def _closed_result(record: ObjectRecord, reason: str) -> StepResult:
    """Close the record of an object that needs no copy any more."""
    return StepResult(record=replace(record, state=ObjectState.RESTORED), kind=OutcomeKind.UNCHANGED, reason=reason)
