"""Undo of one row: the value that it had before, and whether both sides allow to put it back. What speaks against is a value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.errors import KeyRefusedError, RunError
from migrate_storage.core.model import Capabilities, Location, ObjectMeta, OutcomeKind, RowRef
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import (
    BrokenValueError,
    Row,
    exchange_files,
    parse_slots,
    rewrite_value,
    same_json,
)
from migrate_storage.engine.memory_budget import MemoryBudget
from migrate_storage.engine.probe import try_destination
from migrate_storage.engine.repoint import file_fields_for
from migrate_storage.engine.transfer import copy_bytes
from migrate_storage.engine.verify import Verified, compare_content, consistent_with, verify
from migrate_storage.journal import SAME_PLACE, ObjectRecord, object_id
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import ObjectCheckError, classify
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, Retry, StoreRequestError
from migrate_storage.translate.places import resolve_links

__all__ = ("RestoreDecision", "RestoreTask", "RowRestorer", "settled", "value_before_runs")

_ROUNDS = 4
"""How often one object is copied back again because it changed meanwhile or did not verify."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreTask:
    """One row to put back."""

    rows: FileColumn
    pk: tuple[Any, ...]
    #: Numbers of all its lines in the journal.
    lines: tuple[int, ...]
    #: What it must hold now.
    now: str
    #: What it held before the run.
    before: str
    #: The journal's lines of the objects that it was re-pointed to; ``None`` for those that were pruned.
    entries: Mapping[str, ObjectRecord | None]

    @property
    def ref(self) -> RowRef:
        """The row's column."""
        return RowRef(self.rows.column, self.pk)


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreDecision:
    """What a look at both sides says of one row: the value to put back, or why it is left."""

    undo: RestoreTask
    kind: OutcomeKind = OutcomeKind.REWRITTEN
    reason: str = ""
    value: str = ""
    #: Journal lines of objects that are otherwise than journaled, and proved equal on both sides.
    entries: tuple[ObjectRecord, ...] = ()
    evidence: str = ""


def value_before_runs(lines: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """What a row held before the run, from its lines in the journal.

    A line counts only as far as the next one went on from it: what the application wrote between two runs stands.

    Args:
        lines: oldest first, never empty.

    Returns:
        The value before, and the lines that led from it to the latest value.

    Raises:
        BrokenValueError: a journaled value cannot be read.
    """
    value: str = lines[-1]["new_value"]
    used = []
    for line in reversed(lines):
        back = (
            line["old_value"]
            if same_json(value, line["new_value"])
            else exchange_files(value, line["new_value"], line["old_value"])
        )
        if back is not None:
            value = back
            used.append(line)
    return value, tuple(used)


class _MovedError(ObjectCheckError):
    """Somebody else wrote the source while it was to be replaced."""


class _Expecting:
    """A store that replaces an object only while it is what was seen; for everything else the store itself."""

    def __init__(self, store: Store, seen: ObjectMeta | None, look: Callable[[], ObjectMeta | None]) -> None:
        self._store, self._seen, self._look = store, seen, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, path: str, content: Any, **more: Any) -> ObjectMeta:
        now = self._look()
        if (now is None) is not (self._seen is None) or (
            now is not None and self._seen is not None and not consistent_with(self._seen.evidence, now.evidence)
        ):
            raise _MovedError(f"{path} was written by somebody else just now")
        return self._store.put(path, content, **more)


class RowRestorer:
    """Looks at both sides of rows, from any thread, and copies back what changed at the destination or left the source.

    Args:
        source: the side that rows shall name again.
        destination: the side that they name now.
        retry: how a failed request is sent again.
        budget: bytes in memory.
        moved: called with the bytes that passed.
        dry_run: look and compare, write nothing.
    """

    def __init__(
        self,
        source: ResolvedBackend,
        destination: ResolvedBackend,
        *,
        retry: Retry,
        budget: MemoryBudget,
        moved: Callable[[int], None],
        dry_run: bool,
    ) -> None:
        self._source, self._destination = source, destination
        self._retry, self._budget, self._moved, self._dry_run = retry, budget, moved, dry_run
        self._patience = CircuitBreaker()
        self._lock = threading.Lock()
        self._locks = tuple(threading.Lock() for _ in range(64))
        self._capabilities: Capabilities | None = None
        self._back: dict[str, Verified] = {}

    def restore(self, undo: RestoreTask) -> RestoreDecision:
        """Look at one row.

        Raises:
            StoppedError: the job is to stop.
            RunError: nothing works any more.
        """
        try:
            ready = self._look(undo)
            self._patience.record(None)
            return ready
        except RunError:
            raise
        except StoreRequestError as error:
            self._patience.record(error.failure)
            return RestoreDecision(undo=undo, kind=OutcomeKind.FAILED, reason=str(error))
        except (ObjectCheckError, BrokenValueError, KeyRefusedError) as error:
            return RestoreDecision(undo=undo, kind=OutcomeKind.FAILED, reason=str(error))
        except Exception as error:  # noqa: BLE001 - one item's failure is a value
            return RestoreDecision(undo=undo, kind=OutcomeKind.FAILED, reason=classify(error).message)

    def changed(self, entry: ObjectRecord) -> bool:
        """A later look at an object whose rows are back: whether the destination was written since.

        Raises:
            StoreFailure: no answer.
            StoppedError: the job is to stop.
        """
        there = _head(self._retry, self._destination, entry.destination_path)
        if there is None or entry.same_place:
            return False
        return not consistent_with(entry.destination_evidence, there.evidence)

    def again(self, entry: ObjectRecord, content_type: str | None) -> tuple[OutcomeKind, str, Verified | None]:
        """Copy back what was written to the destination since its rows went back.

        Returns:
            ``REWRITTEN`` with a proof, else what a person must look at, and why.

        Raises:
            StoppedError: the job is to stop.
        """
        try:
            return self._object(entry, content_type)
        except RunError:
            raise
        except Exception as error:  # noqa: BLE001 - one item's failure is a value
            known = isinstance(error, (ObjectCheckError, KeyRefusedError, StoreRequestError))
            return OutcomeKind.FAILED, str(error) if known else classify(error).message, None

    def _look(self, undo: RestoreTask) -> RestoreDecision:
        slots = parse_slots(undo.rows.column, Row(undo.pk, undo.before))
        fields: dict[int | None, dict[str, Any]] = {}
        entries: list[ObjectRecord] = []
        evidence = "journal"
        for entry in undo.entries.values():
            if entry is None or any(
                (slot.file["backend"], slot.file["filename"]) == (entry.destination_key, entry.destination_path)
                for slot in slots
            ):
                reason = "the journal does not know any more how it was before (pruned): the row was left"
                return RestoreDecision(undo=undo, kind=OutcomeKind.FAILED, reason=reason)
            named = [slot for slot in slots if self._names(slot.file, entry)]
            content_type = next((slot.file.get("content_type") for slot in named), None)
            with self._locks[hash(entry.id) % len(self._locks)]:
                kind, reason, verified = self._object(entry, content_type)
            if kind is not OutcomeKind.REWRITTEN:
                return RestoreDecision(undo=undo, kind=kind, reason=reason)
            if verified is not None:
                evidence = reason
                entries.append(settled(entry, verified))
                for slot in named:
                    fields[slot.ref.index] = file_fields_for(
                        verified, Location(slot.file["backend"], slot.file["filename"])
                    )
        value = rewrite_value(undo.before, fields) if fields else undo.before
        return RestoreDecision(undo=undo, value=value, entries=tuple(entries), evidence=evidence)

    def _names(self, file: Mapping[str, Any], entry: ObjectRecord) -> bool:
        if file["backend"] != entry.source_key:
            return False
        return (
            object_id(resolve_links(self._source.place(file["filename"])), entry.destination_key) == entry.id
            or file["filename"] == entry.source_path
        )

    def _object(self, entry: ObjectRecord, content_type: str | None) -> tuple[OutcomeKind, str, Verified | None]:
        """Whether a row may name the source again; with a proof where that is not as journaled."""
        there = _head(self._retry, self._destination, entry.destination_path)
        here = _head(self._retry, self._source, entry.source_path)
        if there is None:
            return OutcomeKind.MISSING, f"{entry.destination} is gone: somebody deleted it, so the row was left", None
        ours = consistent_with(entry.destination_evidence, there.evidence)
        if entry.same_place:
            if here is None:
                return (
                    OutcomeKind.MISSING,
                    f"{entry.source} is gone, though {entry.destination} was the same object",
                    None,
                )
            if here.size != there.size:
                return OutcomeKind.DIFFERS, "seen from both keys, the same place holds objects of different size", None
            proof = Verified(source=there, destination=here, evidence=SAME_PLACE, ours=False)
            return OutcomeKind.REWRITTEN, SAME_PLACE, None if ours else proof
        theirs = here is not None and consistent_with(entry.source_evidence, here.evidence)
        if ours and theirs:
            return OutcomeKind.REWRITTEN, "", None
        back = self._back.get(entry.id)
        if (
            back is not None
            and here is not None
            and consistent_with(back.destination.evidence, here.evidence)
            and consistent_with(back.source.evidence, there.evidence)
        ):
            # Another row of the same object had it copied back.
            return OutcomeKind.REWRITTEN, "copied back", back
        if here is not None and not theirs:
            return self._compare(entry)
        if self._dry_run:
            return OutcomeKind.REWRITTEN, "", None
        verified = self._copy_back(entry, here, content_type)
        self._back[entry.id] = verified
        return OutcomeKind.REWRITTEN, "copied back", verified

    def _compare(self, entry: ObjectRecord) -> tuple[OutcomeKind, str, Verified | None]:
        """The source is not what was copied: an undo that was killed may have copied it back, or somebody wrote it."""
        source, source_path = self._source.resolve(entry.source_path)
        destination, path = self._destination.resolve(entry.destination_path)
        equal = self._retry.call(lambda: compare_content(destination, path, source, source_path))
        if equal is not None:
            return OutcomeKind.REWRITTEN, "both read", equal
        reason = f"{entry.source} is not what was copied any more, and not what {entry.destination} holds: decide by hand which one is right"
        return OutcomeKind.CONFLICT, reason, None

    def _copy_back(self, entry: ObjectRecord, here: ObjectMeta | None, content_type: str | None) -> Verified:
        from_store, from_path = self._destination.resolve(entry.destination_path)
        to_store, to_path = self._source.resolve(entry.source_path)
        create = here is None and self._creates()
        problem: ObjectCheckError = _MovedError(f"{entry.destination} kept changing while it was copied back")
        for attempt in range(_ROUNDS):
            seen = here if attempt == 0 else _head(self._retry, self._source, entry.source_path)
            guarded: Any = _Expecting(to_store, seen, lambda: _head(self._retry, self._source, entry.source_path))

            def once(to: Any = guarded, create: bool = create and attempt == 0) -> Verified:
                copied = copy_bytes(
                    from_store, from_path, to, to_path,
                    content_type=content_type, create=create, moved=self._moved, hold=self._budget.reserve, checkpoint=lambda: None,
                )  # fmt: skip
                return verify(copied, from_store, from_path, to_store, to_path)

            try:
                # One attempt each: what a broken one left at the source must be looked at before the next.
                verified = once()
            except _MovedError:
                raise
            except ObjectCheckError as error:
                problem = error
                continue
            except Exception as error:
                if not classify(error).kind.retriable or attempt + 1 == _ROUNDS:
                    raise
                self._retry.pause(attempt + 1)
                continue
            now = _head(self._retry, self._destination, entry.destination_path)
            if now is not None and consistent_with(verified.source.evidence, now.evidence):
                return verified
        raise problem

    def _creates(self) -> bool:
        """Whether the source refuses to replace an object when asked: tried once, when first something is to go back."""
        with self._lock:
            if self._capabilities is None:
                self._capabilities, _ = try_destination(self._source, self._retry)
            return self._capabilities.create_only


def settled(entry: ObjectRecord, verified: Verified) -> ObjectRecord:
    """The line of an object as it is on both sides now: what stood at the destination is ours only while it was ours."""
    there, here = verified.source, verified.destination
    return replace(
        entry,
        ours=entry.ours if consistent_with(entry.destination_evidence, there.evidence) else False,
        size=here.size,
        sha256=verified.sha256,
        source_etag=here.e_tag,
        source_modified=here.last_modified,
        source_version=here.version,
        destination_etag=there.e_tag,
        destination_modified=there.last_modified,
        destination_version=there.version,
    )


def _head(retry: Retry, side: ResolvedBackend, path: str) -> ObjectMeta | None:
    store, key = side.resolve(path)
    return retry.or_none_if_missing(lambda: store.head(key))
