"""Check one object that a row names: it exists, and it is what was verified."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError
from migrate_storage.core.model import Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.verify import consistent_with, sha256_of
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import classify
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, Retry, StoreRequestError

__all__ = ("AuditOptions", "NamedObject", "ObjectCheck", "outcome_of_broken_row")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditOptions:
    """Which objects are checked, and how."""

    #: Only rows that name this backend key; ``None`` means all.
    key: str | None = None
    columns: tuple[str, ...] = ()
    where: str | None = None
    #: Read both sides of what was copied, and compare.
    deep: bool = False
    #: Read every object through this other registration too, and compare.
    through: str | None = None
    #: Share of the objects that are checked, in percent: always the same ones.
    sample: float = 100.0
    concurrency: int = 32
    bandwidth: int | None = None
    max_requests_per_second: float | None = None
    journal: str | None = None
    journal_schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 100:
            raise ConfigurationError(f"--sample must be above 0 and at most 100 percent, not {self.sample}")


@dataclass(frozen=True, slots=True)
class NamedObject:
    """A slot of a row, with the journal record of the copy that it names."""

    slot: Slot
    record: ObjectRecord | None


def outcome_of_broken_row(ref: RowRef, reason: str) -> Outcome:
    """Return the outcome of a row whose value cannot be parsed."""
    source, nowhere = Location("", str(ref)), Location("", "")
    return Outcome(kind=OutcomeKind.FAILED, source=source, destination=nowhere, reason=reason, refs=(ref,))


class ObjectCheck:
    """Checks the object of one slot, from any thread."""

    def __init__(
        self, sides: dict[str, ResolvedBackend], options: AuditOptions, retry: Retry, known: KnownLosses
    ) -> None:
        self._sides, self._options, self._retry, self._known = sides, options, retry, known
        self._breaker = CircuitBreaker()

    def check(self, named: NamedObject | Outcome) -> Outcome:
        """Check the object that a slot names; an outcome is returned as it is."""
        if isinstance(named, Outcome):
            return named
        began, here = time.monotonic(), named.slot.location
        other = Location(self._options.through or here.backend, here.path)

        def outcome(kind: OutcomeKind, reason: str = "", evidence: str = "", size: int | None = None) -> Outcome:
            return Outcome(
                kind=kind, source=here, destination=other, reason=reason, evidence=evidence, size=size,
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
        side, record = self._sides.get(here.backend), named.record
        if side is None:
            return outcome(OutcomeKind.FAILED, f"the row names the backend {here.backend!r}, which is not registered")
        at = side.resolve(here.path)
        found = self._head(at)
        if found is None:
            return self._report_missing(here, outcome)
        self._known.mark_found(named.slot.ref, here)
        size = named.slot.file.get("size")
        if isinstance(size, int) and size != found.size:
            reason = f"the row says {size} bytes, the object has {found.size}"
            return outcome(OutcomeKind.DIFFERS, reason, size=found.size)
        if self._options.through is not None:
            # Read the object through both registrations.
            other = self._sides[self._options.through].resolve(here.path)
            if self._head(other) is None:
                return outcome(OutcomeKind.MISSING, f"{other.store.name} does not hold it")
            return self._compare_bytes(at, other, outcome, found.size)
        if self._options.deep:
            return self._compare_with_source(named, at, outcome, found)
        if record is None:
            reason = "it exists, but nothing tells what it should hold: --deep or --with compares bytes"
            return outcome(OutcomeKind.UNVERIFIED, reason, size=found.size)
        if consistent_with(record.destination_evidence, found.evidence):
            return outcome(OutcomeKind.SKIPPED, evidence="journal", size=found.size)
        reason = "it was replaced since it was verified (by the application, perhaps)"
        return outcome(OutcomeKind.DIFFERS, reason, size=found.size)

    def _report_missing(self, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        reason = f"the row names an object that {here.backend!r} does not hold"
        if self._options.through is not None:
            other = self._sides[self._options.through].resolve(here.path)
            if (found := self._head(other)) is not None:
                return outcome(OutcomeKind.MISSING, f"{reason}; {other.store.name} does", size=found.size)
        return self._known.mark_known(outcome(OutcomeKind.MISSING, reason))

    def _compare_with_source(
        self, named: NamedObject, at: ObjectAt, outcome: Callable[..., Outcome], found: ObjectMeta
    ) -> Outcome:
        """Compare with the bytes of its source, or with a recorded SHA-256."""
        record = named.record
        source = self._sides.get(record.source_key) if record is not None else None
        if record is not None and source is not None:
            original = source.resolve(record.source_path)
            if self._head(original) is not None:
                return self._compare_bytes(original, at, outcome, found.size)
        checksum = named.slot.file.get("checksum")
        expected = record.sha256 if record is not None else None
        whose = "journal's SHA-256"
        if expected is None and isinstance(checksum, str) and checksum.startswith("sha256:"):
            expected, whose = checksum.removeprefix("sha256:"), "row's SHA-256"
        if expected is None:
            return outcome(OutcomeKind.UNVERIFIED, "there is nothing to compare it with", size=found.size)
        if self._sha256_of(at) == expected:
            return outcome(OutcomeKind.SKIPPED, evidence=whose, size=found.size)
        return outcome(OutcomeKind.DIFFERS, f"its bytes do not have the {whose}", size=found.size)

    def _compare_bytes(self, one: ObjectAt, other: ObjectAt, outcome: Callable[..., Outcome], size: int) -> Outcome:
        if self._sha256_of(one) == self._sha256_of(other):
            return outcome(OutcomeKind.SKIPPED, evidence="both read", size=size)
        reason = f"{one.store.name} and {other.store.name} hold different bytes"
        return outcome(OutcomeKind.DIFFERS, reason, size=size)

    def _sha256_of(self, at: ObjectAt) -> str:
        return self._retry.call(lambda: sha256_of(at))

    def _head(self, at: ObjectAt) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(at.head)
