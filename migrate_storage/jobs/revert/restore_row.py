"""Decide whether the old value of a row may be written back; copy objects back."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.errors import KeyRefusedError, RunError
from migrate_storage.core.model import Location, ObjectMeta, OutcomeKind
from migrate_storage.core.proofs import CONTENT_COMPARED, COPIED_BACK, JOURNAL, SAME_OBJECT
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import (
    BrokenValueError,
    Row,
    SlotPath,
    exchange_files,
    parse_slots,
    rewrite_value,
    same_json,
)
from migrate_storage.engine.guarded_store import GuardedStore
from migrate_storage.engine.probe import check_present, refuses_to_replace
from migrate_storage.engine.repoint import file_fields_for
from migrate_storage.engine.task import with_objects
from migrate_storage.engine.transfer import CopyPolicy, CopyResources
from migrate_storage.engine.verify import (
    SourceChangedError,
    Verified,
    compare_content,
    consistent_with,
    copy_verified,
    proven_unchanged,
)
from migrate_storage.journal import ObjectRecord, object_id
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import ObjectCheckError, classify
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError
from migrate_storage.translate.places import resolve_links

__all__ = ("RestoreDecision", "RestoreTask", "RowRestorer", "updated_record", "value_before_runs")

_LOCKS = 64
"""Locks that keep two threads from the same object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreTask:
    """One row to restore."""

    rows: FileColumn
    pk: tuple[Any, ...]
    #: Ids of all its journal records.
    record_ids: tuple[int, ...]
    #: The value that it must have now.
    now: str
    #: The value that it had before the run.
    before: str
    #: Journal records of the objects that it was re-pointed to; ``None`` for those that were pruned.
    records: Mapping[str, ObjectRecord | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreDecision:
    """The value to write to one row, or the reason why the row is left."""

    task: RestoreTask
    kind: OutcomeKind = OutcomeKind.REVERTED
    reason: str = ""
    value: str = ""
    #: New journal records of objects that differ from their records and were verified on both sides.
    records: tuple[ObjectRecord, ...] = ()
    evidence: str = ""
    #: The object because of which the row is left; ``None`` where it is the row itself.
    problem: ObjectRecord | None = None


def value_before_runs(records: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """Return the value that a row had before the runs, from its journal records.

    A record is undone only as far as the next record started from it: what the application wrote between two runs stays.

    Args:
        records: the row's journal records, oldest first, never empty.

    Returns:
        The value before, and the records that lead from it to the latest value.

    Raises:
        BrokenValueError: a recorded value cannot be parsed.
    """
    value: str = records[-1]["new_value"]
    used = []
    for record in reversed(records):
        back = (
            record["old_value"]
            if same_json(value, record["new_value"])
            else exchange_files(value, record["new_value"], record["old_value"])
        )
        if back is not None:
            value = back
            used.append(record)
    return value, tuple(used)


class RowRestorer:
    """Decides about rows, from any thread, and copies back changed or lost objects.

    Args:
        source: the side that rows are to name again.
        destination: the side that they name now.
        resources: what all copies of the job share.
        dry_run: send HEAD requests and compare, write nothing.
    """

    def __init__(
        self, source: ResolvedBackend, destination: ResolvedBackend, resources: CopyResources, *, dry_run: bool
    ) -> None:
        self._source, self._destination = source, destination
        self._resources, self._retry, self._dry_run = resources, resources.retry, dry_run
        self._breaker = CircuitBreaker()
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._copied_back: dict[str, Verified] = {}
        self._destination_answers = False
        self._answers_lock = threading.Lock()

    def restore(self, task: RestoreTask) -> RestoreDecision:
        """Decide about one row.

        Raises:
            StoppedError: the job was asked to stop.
            RunError: too many objects in a row failed.
        """
        try:
            decision = self._decide_row(task)
            self._breaker.record(None)
            return decision
        except RunError:
            raise
        except StoreRequestError as error:
            self._breaker.record(error.failure)
            reason = str(error)
        except (ObjectCheckError, BrokenValueError, KeyRefusedError) as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a failure of one row is a value
            reason = classify(error).message
        return RestoreDecision(task=task, kind=OutcomeKind.FAILED, reason=reason)

    def destination_changed(self, record: ObjectRecord) -> bool:
        """HEAD the destination of an object whose rows are back; whether it changed. Without an answer it did not.

        Raises:
            StoppedError: the job was asked to stop.
        """
        there = None
        with suppress(StoreRequestError):
            there = self._head(self._destination.resolve(record.destination_path))
        if there is None or record.same_place:
            return False
        return not consistent_with(record.destination_evidence, there.evidence)

    def restore_object(
        self, record: ObjectRecord, content_type: str | None
    ) -> tuple[OutcomeKind, str, Verified | None]:
        """Copy back an object that was written after its rows were restored.

        Returns:
            ``REVERTED`` with a proof, else the outcome and its reason.

        Raises:
            StoppedError: the job was asked to stop.
        """
        try:
            return self._decide_object(record, content_type)
        except RunError:
            raise
        except Exception as error:  # noqa: BLE001 - a failure of one object is a value
            known = isinstance(error, (ObjectCheckError, KeyRefusedError, StoreRequestError))
            return OutcomeKind.FAILED, str(error) if known else classify(error).message, None

    def _decide_row(self, task: RestoreTask) -> RestoreDecision:
        slots = parse_slots(task.rows.column, Row(task.pk, task.before))
        fields: dict[SlotPath, dict[str, Any]] = {}
        records: list[ObjectRecord] = []
        evidence = JOURNAL
        for record in task.records.values():
            if record is None or any(slot.location == record.destination for slot in slots):
                reason = "the journal does not know any more how it was before (pruned): the row was left"
                return RestoreDecision(task=task, kind=OutcomeKind.FAILED, reason=reason)
            naming = [slot for slot in slots if self._names_source(slot.location, record)]
            content_type = next((slot.file.get("content_type") for slot in naming), None)
            with self._locks[hash(record.id) % len(self._locks)]:
                kind, reason, verified = self._decide_object(record, content_type)
            if kind is not OutcomeKind.REVERTED:
                return RestoreDecision(task=task, kind=kind, reason=reason, problem=record)
            if verified is not None:
                evidence = reason
                records.append(updated_record(record, verified))
                fields.update((slot.ref.path, file_fields_for(verified, slot.location)) for slot in naming)
        value = rewrite_value(task.before, fields) if fields else task.before
        return RestoreDecision(task=task, value=value, records=tuple(records), evidence=evidence)

    def _names_source(self, location: Location, record: ObjectRecord) -> bool:
        if location.backend != record.source_key:
            return False
        place = resolve_links(self._source.place(location.path))
        return object_id(place, record.destination_key) == record.id or location.path == record.source_path

    def _decide_object(
        self, record: ObjectRecord, content_type: str | None
    ) -> tuple[OutcomeKind, str, Verified | None]:
        """Whether a row may name the source again; a proof if an object changed."""
        destination = self._destination.resolve(record.destination_path)
        source = self._source.resolve(record.source_path)
        there, here = self._head(destination), self._head(source)
        if there is None:
            return self._decide_lost(record, here)
        there_unchanged = consistent_with(record.destination_evidence, there.evidence)
        if record.same_place:
            if here is None:
                reason = f"{record.source} is gone, though {record.destination} was the same object"
                return OutcomeKind.MISSING, reason, None
            if here.size != there.size:
                return OutcomeKind.MISMATCH, "seen from both keys, the same place has objects of different size", None
            proof = Verified(source=there, destination=here, evidence=SAME_OBJECT, written_by_us=False)
            return OutcomeKind.REVERTED, SAME_OBJECT, None if there_unchanged else proof
        here_unchanged = here is not None and consistent_with(record.source_evidence, here.evidence)
        if there_unchanged and here_unchanged:
            return OutcomeKind.REVERTED, "", None
        back = self._copied_back.get(record.id)
        if back is not None and here is not None:
            # It was copied back for another row of the same object.
            here_is_ours = consistent_with(back.destination.evidence, here.evidence)
            if here_is_ours and consistent_with(back.source.evidence, there.evidence):
                return OutcomeKind.REVERTED, COPIED_BACK, back
        if here is not None and not here_unchanged:
            # A killed revert or another process wrote the source.
            if equal := compare_content(destination, source, self._retry):
                return OutcomeKind.REVERTED, CONTENT_COMPARED, equal
            reason = f"{record.source} is not what was copied any more, and differs from {record.destination}: decide by hand which one is right"
            return OutcomeKind.CONFLICT, reason, None
        if own_class := self._source.registration.own_class:
            reason = f"{record.destination} would have to be copied back to {record.source}, and {own_class} is only read: save it there by hand"
            return OutcomeKind.CONFLICT, reason, None
        if self._dry_run:
            return OutcomeKind.REVERTED, "", None
        verified = self._copied_back[record.id] = self._copy_back(record, source, destination, here, content_type)
        return OutcomeKind.REVERTED, COPIED_BACK, verified

    def _decide_lost(self, record: ObjectRecord, here: ObjectMeta | None) -> tuple[OutcomeKind, str, Verified | None]:
        """Whether a row may name the source again although its copy is gone: the source must be as it was copied."""
        if not record.same_place and here is not None and proven_unchanged(record.source_evidence, here.evidence):
            self._check_destination_answers()
            return OutcomeKind.REVERTED, "", None
        state, remedy = "gone too", "restore one of them from a backup"
        if here is not None:
            pair = f"--from {record.source_key} --to {record.destination_key}"
            state, remedy = "not what was copied any more", f"'migrate-storage run {pair} --recheck' copies it again"
        reason = f"{record.destination} is gone, and {record.source} is {state}: the row was left; {remedy}"
        return OutcomeKind.MISSING, reason, None

    def _check_destination_answers(self) -> None:
        """Check once that "not found" means the object: a HEAD answers alike for a missing bucket and a missing object.

        Raises:
            PreflightError: the bucket or folder itself is missing, or cannot be read.
        """
        with self._answers_lock:
            if not self._destination_answers:
                check_present(self._destination, self._retry)
                self._destination_answers = True

    def _copy_back(
        self,
        record: ObjectRecord,
        source: ObjectAt,
        destination: ObjectAt,
        here: ObjectMeta | None,
        content_type: str | None,
    ) -> Verified:
        """Copy from the destination to the source, replaced only while it is ``here``."""
        create = here is None and refuses_to_replace(self._source, self._retry)
        guarded = GuardedStore(source, here, lambda: self._head(source))
        policy = CopyPolicy(
            content_type=content_type, create=create, before_attempt=guarded.begin_attempt,
            opaque_source=self._destination.opaque_etags,
        )  # fmt: skip
        try:
            return copy_verified(destination, ObjectAt(guarded, source.key), policy, self._resources)
        except SourceChangedError as error:
            raise ObjectCheckError(f"{record.destination} kept changing while it was copied back") from error

    def _head(self, at: ObjectAt) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(at.head)


def updated_record(record: ObjectRecord, verified: Verified) -> ObjectRecord:
    """Return an object's journal record with both objects as they are now.

    The object at the destination counts as ours only where it is the one that the record describes.
    """
    there, here = verified.source, verified.destination
    written_by_us = record.written_by_us if consistent_with(record.destination_evidence, there.evidence) else False
    return replace(with_objects(record, here, there, verified.sha256), written_by_us=written_by_us)
