"""Check one object that a row names: it exists, and it is what was verified."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError
from migrate_storage.core.model import Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.core.proofs import (
    CONTENT_COMPARED,
    CUTOVER,
    JOURNAL,
    JOURNAL_SHA256,
    ROW_SHA256,
    describe_proof,
    join_proofs,
)
from migrate_storage.core.timetable import Bandwidth
from migrate_storage.cutover.resolved import ResolvedCutover
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.verify import consistent_with, proven_unchanged, sha256_of
from migrate_storage.jobs.cutovers import describe_unread, find_unread
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import classify
from migrate_storage.stores.find_read import FoundObject, find_read
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, Retry, StoreRequestError

__all__ = ("NamedObject", "ObjectCheck", "VerifyOptions", "outcome_of_broken_row")


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyOptions:
    """Which objects are checked, and how."""

    #: Only rows that name this backend key; ``None`` means all.
    key: str | None = None
    columns: tuple[str, ...] = ()
    where: str | None = None
    #: Read both sides of what was copied, and compare.
    read_content: bool = False
    #: Read every object through this other registration too, and compare.
    compare_with: str | None = None
    #: Share of the objects that are checked, in percent: always the same ones.
    sample: float = 100.0
    concurrency: int = 32
    bandwidth: Bandwidth | None = None
    max_requests_per_second: float | None = None
    journal: str | None = None
    journal_schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 100:
            raise ConfigurationError(f"--sample must be above 0 and at most 100 percent, not {self.sample}")


@dataclass(frozen=True, slots=True)
class NamedObject:
    """A slot of a row, with the journal records of the object that it names."""

    slot: Slot
    record: ObjectRecord | None
    #: What the last comparison of a cutover found under this key.
    compared: ObjectRecord | None = None


def outcome_of_broken_row(ref: RowRef, reason: str) -> Outcome:
    """Return the outcome of a row whose value cannot be parsed."""
    source, nowhere = Location("", str(ref)), Location("", "")
    return Outcome(kind=OutcomeKind.FAILED, source=source, destination=nowhere, reason=reason, refs=(ref,))


class ObjectCheck:
    """Checks the object of one slot, from any thread."""

    def __init__(
        self, sides: dict[str, ResolvedBackend], options: VerifyOptions, retry: Retry, known: KnownLosses
    ) -> None:
        self._sides, self._options, self._retry, self._known = sides, options, retry, known
        self._breaker = CircuitBreaker()

    def check(self, named: NamedObject | Outcome) -> Outcome:
        """Check the object that a slot names; an outcome is returned as it is."""
        if isinstance(named, Outcome):
            return named
        began, here = time.monotonic(), named.slot.location
        other = Location(self._options.compare_with or here.backend, here.path)

        def outcome(kind: OutcomeKind, reason: str = "", proof: str = "", size: int | None = None) -> Outcome:
            return Outcome(
                kind=kind, source=here, destination=other, reason=reason, verified_by=proof, size=size,
                refs=(named.slot.ref,), seconds=time.monotonic() - began,
            )  # fmt: skip

        try:
            found = self._check_slot(named, here, outcome)
            self._breaker.record(None)
            return found
        except RunError:
            raise
        except StoreRequestError as error:
            self._breaker.record(error.failure)
            return outcome(OutcomeKind.FAILED, str(error))
        except KeyRefusedError as error:
            return outcome(OutcomeKind.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - a failure of one object is a value
            return outcome(OutcomeKind.FAILED, classify(error).message)

    def _check_slot(self, named: NamedObject, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        side = self._sides.get(here.backend)
        if side is None:
            return outcome(OutcomeKind.FAILED, f"the row names the backend {here.backend!r}, which is not registered")
        found = find_read(side, here.path, self._retry)
        if not found:
            return self._report_missing(here, outcome)
        self._known.mark_found(named.slot.ref, here)
        result = outcome(OutcomeKind.UNCHANGED)
        # During a cutover, processes in different phases may read different objects: each of them must be right.
        for each in found:
            result = self._check_found(named, each, outcome)
            if not result.kind.done:
                break
        return result

    def _check_found(self, named: NamedObject, found: FoundObject, outcome: Callable[..., Outcome]) -> Outcome:
        size, length = named.slot.file.get("size"), found.meta.size
        if isinstance(size, int) and size != length:
            return outcome(OutcomeKind.MISMATCH, f"the row has {size} bytes, the object has {length}", size=length)
        if self._options.compare_with is not None:
            # Read the object through both registrations.
            path = named.slot.location.path
            others = find_read(self._sides[self._options.compare_with], path, self._retry)
            if not others:
                return outcome(
                    OutcomeKind.MISSING, f"{self._name_store(self._options.compare_with, path)} does not have it"
                )
            return self._compare_bytes(found.at, others[0].at, outcome, length)
        if self._options.read_content:
            return self._compare_with_source(named, found, outcome)
        record, compared = named.record, named.compared
        if compared is not None and is_as_compared(compared, found.meta):
            return outcome(OutcomeKind.UNCHANGED, proof=join_proofs(CUTOVER, compared.evidence or ""), size=length)
        if record is not None and consistent_with(record.destination_evidence, found.meta.evidence):
            return outcome(OutcomeKind.UNCHANGED, proof=JOURNAL, size=length)
        if compared is not None and (record is None or record.updated < compared.updated):
            reason = (
                "it was written after the cutover compared both sides: --read-content or --compare-with compares bytes"
            )
            return outcome(OutcomeKind.UNVERIFIED, reason, size=length)
        if record is None or isinstance(self._sides[named.slot.location.backend], ResolvedCutover):
            reason = "it exists, but no record shows what it should be: --read-content or --compare-with compares bytes"
            return outcome(OutcomeKind.UNVERIFIED, reason, size=length)
        reason = "it was replaced since it was verified (by the application, perhaps)"
        return outcome(OutcomeKind.MISMATCH, reason, size=length)

    def _report_missing(self, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        side = self._sides[here.backend]
        try:
            reason = describe_unread(side, here.path, find_unread(side, here.path, self._retry))
        except StoreRequestError as error:
            reason = f"{describe_unread(side, here.path)}; the other side cannot be asked: {error}"
        if self._options.compare_with is not None:
            through = self._options.compare_with
            if found := find_read(self._sides[through], here.path, self._retry):
                reason = f"{reason}; {self._name_store(through, here.path)} does"
                return outcome(OutcomeKind.MISSING, reason, size=found[0].meta.size)
        return self._known.mark_known(outcome(OutcomeKind.MISSING, reason))

    def _name_store(self, key: str, path: str) -> str:
        return self._sides[key].read_orders(path)[0][0].store.name

    def _compare_with_source(self, named: NamedObject, found: FoundObject, outcome: Callable[..., Outcome]) -> Outcome:
        """Compare with the bytes of its source or of the other side, or with a recorded SHA-256."""
        size, record = found.meta.size, named.record
        original, certain = self._find_original(named, found)
        if original is not None:
            compared = self._compare_bytes(original, found.at, outcome, size)
            if certain or compared.kind.done:
                return compared
        checksum = named.slot.file.get("checksum")
        expected = record.sha256 if record is not None else None
        proof = JOURNAL_SHA256
        if expected is None and isinstance(checksum, str) and checksum.startswith("sha256:"):
            expected, proof = checksum.removeprefix("sha256:"), ROW_SHA256
        if expected is None:
            reason = "there is nothing to compare it with"
            if original is not None:
                reason = (
                    "the other side has other bytes, and not all processes write both: which are right is not known"
                )
            return outcome(OutcomeKind.UNVERIFIED, reason, size=size)
        if self._sha256_of(found.at) == expected:
            return outcome(OutcomeKind.UNCHANGED, proof=proof, size=size)
        return outcome(OutcomeKind.MISMATCH, f"its bytes do not have {describe_proof(proof)}", size=size)

    def _find_original(self, named: NamedObject, found: FoundObject) -> tuple[ObjectAt | None, bool]:
        """Return the object that may have the same bytes, and whether it must have them."""
        side, path, compared = self._sides[named.slot.location.backend], named.slot.location.path, named.compared
        found_compared = compared is not None and is_as_compared(compared, found.meta)
        if isinstance(side, ResolvedCutover):
            certain = side.keeps_equal(path)
            for twin in (part.resolve(path) for part in side.parts):
                meta = None if twin == found.at else self._head(twin)
                if meta is not None and compared is not None and found_compared:
                    certain = certain or is_as_compared(compared, meta)
                if meta is not None:
                    return twin, certain
            return None, False
        for record in (named.record, compared if found_compared else None):
            source = self._sides.get(record.source_key) if record is not None else None
            if record is None or source is None or isinstance(source, ResolvedCutover):
                continue
            if record is compared and source.place(record.source_path) == side.place(path):
                continue  # after the cutover, its source may have had the key that the destination has now
            original = source.resolve(record.source_path)
            meta = self._head(original)
            if meta is not None and (record is named.record or is_as_compared(record, meta)):
                return original, True
        return None, False

    def _compare_bytes(self, one: ObjectAt, other: ObjectAt, outcome: Callable[..., Outcome], size: int) -> Outcome:
        if self._sha256_of(one) == self._sha256_of(other):
            return outcome(OutcomeKind.UNCHANGED, proof=CONTENT_COMPARED, size=size)
        reason = f"{one.store.name} and {other.store.name} have different bytes"
        return outcome(OutcomeKind.MISMATCH, reason, size=size)

    def _sha256_of(self, at: ObjectAt) -> str:
        return self._retry.call(lambda: sha256_of(at))

    def _head(self, at: ObjectAt) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(at.head)


def is_as_compared(record: ObjectRecord, found: ObjectMeta) -> bool:
    """Return whether an object is one of the two that a cutover found equal."""
    sides = (record.destination_evidence, record.source_evidence)
    return any(proven_unchanged(known, found.evidence) for known in sides)
