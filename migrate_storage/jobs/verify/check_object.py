"""One look at an object that a row names: is it there, and is it what it should be?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError
from migrate_storage.core.model import Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.verify import consistent_with, sha256_of
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import classify
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, Retry, StoreRequestError

__all__ = (
    "AuditOptions",
    "Look",
    "Named",
    "broken",
    "location",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditOptions:
    """What is looked at, and how closely."""

    #: Only rows that name this backend key; ``None`` means all.
    key: str | None = None
    columns: tuple[str, ...] = ()
    where: str | None = None
    #: Read both sides of what was copied, and compare.
    deep: bool = False
    #: Open every row through this other registration as well, and compare.
    through: str | None = None
    #: Share of objects looked at, in percent: always the same ones.
    sample: float = 100.0
    concurrency: int = 32
    bandwidth: int | None = None
    max_requests_per_second: float | None = None
    journal: str | None = None
    journal_schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 100:
            raise ConfigurationError(f"--sample must be above 0 and at most 100 percent, not {self.sample}")


_VERIFIED = ("held", "purging", "purged")
"""States of a journal line that say: this copy was proved to be one."""


@dataclass(frozen=True, slots=True)
class Named:
    """A slot of a row, with the journal's line of the copy that it names."""

    slot: Slot
    entry: ObjectRecord | None


def location(slot: Slot) -> Location:
    """Where a row says that its file is."""
    return Location(slot.file["backend"], slot.file["filename"])


def broken(ref: RowRef, reason: str) -> Outcome:
    """A row that holds no file that could be read."""
    nowhere = Location("", "")
    return Outcome(
        kind=OutcomeKind.FAILED, source=Location("", str(ref)), destination=nowhere, reason=reason, refs=(ref,)
    )


class Look:
    """Looks at one slot, from any thread."""

    def __init__(
        self, sides: dict[str, ResolvedBackend], options: AuditOptions, retry: Retry, known: KnownLosses
    ) -> None:
        self._sides, self._options, self._retry, self._known = sides, options, retry, known
        self._patience = CircuitBreaker()

    def check(self, given: Named | Outcome) -> Outcome:
        """Look at what a row names; what is an outcome already stays one."""
        if isinstance(given, Outcome):
            return given
        began, here = time.monotonic(), location(given.slot)
        other = Location(self._options.through or here.backend, here.path)

        def outcome(kind: OutcomeKind, reason: str = "", evidence: str = "", size: int | None = None) -> Outcome:
            return Outcome(
                kind=kind, source=here, destination=other, reason=reason, evidence=evidence, size=size,
                refs=(given.slot.ref,), seconds=time.monotonic() - began,
            )  # fmt: skip

        try:
            found = self._look(given.slot, given.entry, here, outcome)
            self._patience.record(None)
            return found
        except RunError:
            raise
        except StoreRequestError as error:
            self._patience.record(error.failure)
            return outcome(OutcomeKind.FAILED, str(error))
        except KeyRefusedError as error:
            return outcome(OutcomeKind.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - one item's failure is a value
            return outcome(OutcomeKind.FAILED, classify(error).message)

    def _look(self, slot: Slot, entry: ObjectRecord | None, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        side = self._sides.get(here.backend)
        if side is None:
            return outcome(OutcomeKind.FAILED, f"the row names the backend {here.backend!r}, which is not registered")
        store, key = side.resolve(here.path)
        found = self._head(store, key)
        if found is None:
            return self._missing(here, outcome)
        self._known.there(slot.ref, here)
        size = slot.file.get("size")
        if isinstance(size, int) and size != found.size:
            return outcome(
                OutcomeKind.DIFFERS, f"the row says {size} bytes, the object has {found.size}", size=found.size
            )
        if self._options.through is not None:
            return self._through(store, key, here, outcome, found.size)
        if self._options.deep:
            return self._deep(slot, entry, store, key, outcome, found)
        if entry is not None and consistent_with(entry.destination_evidence, found.evidence):
            return outcome(OutcomeKind.SKIPPED, evidence="journal", size=found.size)
        if entry is not None:
            reason = "it was replaced since it was verified (by the application, perhaps)"
            return outcome(OutcomeKind.DIFFERS, reason, size=found.size)
        return outcome(OutcomeKind.UNVERIFIED, _UNVERIFIED, size=found.size)

    def _missing(self, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        reason = f"the row names an object that {here.backend!r} does not hold"
        if self._options.through is not None:
            other, path = self._sides[self._options.through].resolve(here.path)
            only = self._head(other, path)
            if only is not None:
                return outcome(OutcomeKind.MISSING, f"{reason}; {other.name} does", size=only.size)
        return self._known.mark_known(outcome(OutcomeKind.MISSING, reason))

    def _through(self, store: Store, key: str, here: Location, outcome: Callable[..., Outcome], size: int) -> Outcome:
        """Read it through both registrations."""
        other, path = self._sides[str(self._options.through)].resolve(here.path)
        if self._head(other, path) is None:
            return outcome(OutcomeKind.MISSING, f"{other.name} does not hold it")
        return self._read(store, key, other, path, outcome, size)

    def _deep(
        self,
        slot: Slot,
        entry: ObjectRecord | None,
        store: Store,
        key: str,
        outcome: Callable[..., Outcome],
        found: ObjectMeta,
    ) -> Outcome:
        """Read it, and what it was copied from; where that is gone, the digest of what was copied speaks for it."""
        source = self._sides.get(entry.source_key) if entry is not None else None
        if entry is not None and source is not None:
            origin, path = source.resolve(entry.source_path)
            if self._head(origin, path) is not None:
                return self._read(origin, path, store, key, outcome, found.size)
        checksum = slot.file.get("checksum")
        known = entry.sha256 if entry is not None else None
        whose = "journal's SHA-256"
        if known is None and isinstance(checksum, str) and checksum.startswith("sha256:"):
            known, whose = checksum.removeprefix("sha256:"), "row's SHA-256"
        if known is None:
            return outcome(OutcomeKind.UNVERIFIED, "there is nothing to compare it with", size=found.size)
        if self._retry.call(lambda: sha256_of(store, key)) == known:
            return outcome(OutcomeKind.SKIPPED, evidence=whose, size=found.size)
        return outcome(OutcomeKind.DIFFERS, f"its bytes do not have the {whose}", size=found.size)

    def _read(
        self, one: Store, one_key: str, other: Store, other_key: str, outcome: Callable[..., Outcome], size: int
    ) -> Outcome:
        if self._retry.call(lambda: sha256_of(one, one_key)) == self._retry.call(lambda: sha256_of(other, other_key)):
            return outcome(OutcomeKind.SKIPPED, evidence="both read", size=size)
        return outcome(OutcomeKind.DIFFERS, f"{one.name} and {other.name} hold different bytes", size=size)

    def _head(self, store: Store, key: str) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(lambda: store.head(key))


_UNVERIFIED = "it exists, but nothing tells what it should hold: --deep or --with compares bytes"
