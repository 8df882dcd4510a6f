"""Repair: copies the trusted side of a key to the other, under the key's lease."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import StorageBackend

from migrate_storage.core.errors import KeyRefusedError, PhaseLostError
from migrate_storage.core.model import Location
from migrate_storage.core.text import visible
from migrate_storage.cutover import protocol
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.compare import find_differences
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox, PendingEntry
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.protocol import Repaired, Step
from migrate_storage.database.connection import describe_failure
from migrate_storage.engine.compare import Relation
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.journal import Journal
from migrate_storage.reporting.metrics import Counters
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("Repair", "RepairAllResult", "RepairResult", "RepairRights", "repair_all", "writable_sides")

_log = logging.getLogger("migrate_storage.cutover")
KEY_LEASE_SECONDS = 300.0
"""Maximum duration of one repair: a slower one loses its lease to the next."""


def writable_sides(phases: Iterable[Phase]) -> frozenset[Side]:
    """Return the sides that repair may write while processes are in these phases.

    A process in SOURCE writes the source without an entry, and one in DESTINATION the destination. Repair could not
    detect such a write during its copy.
    """
    outer = {Phase.SOURCE: Side.SOURCE, Phase.DESTINATION: Side.DESTINATION}
    return frozenset(Side) - {outer[phase] for phase in phases if phase in outer}


@dataclass(kw_only=True, slots=True)
class RepairResult:
    """Result of one round of repairs."""

    settled: int = 0
    #: Another process works on the key, or the repair must write a side that it may not write now.
    left: int = 0
    #: An upload URL is still valid: the key is repaired after it has expired.
    uploads: int = 0
    #: Written during their copy by a signed URL or another program, not by the backend; copied again.
    bypassed: list[str] = field(default_factory=list)
    #: The reason of each failure, by path.
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class RepairAllResult:
    """Result of a full comparison and its repairs."""

    result: RepairResult = field(default_factory=RepairResult)
    #: Objects of the other side alone that no cutover or run wrote: left there.
    foreign: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether both sides are equal now."""
        return not (self.foreign or self.result.left or self.result.failures)


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairRights:
    """The sides that a repair may write, while its phase lease is valid."""

    writable: frozenset[Side]
    #: Called before each write; raises ``PhaseLostError`` when the phase lease has expired.
    check: Callable[[], None]


class Repair:
    """Repairs the keys of one cutover backend.

    Args:
        source: the backend to move from.
        destination: the backend to move to.
        outbox: has the entries.
        phases: the phases that processes may be in; for a shared phase, a :class:`SharedPhase` of the repair's own.
        lease: maximum seconds of one repair.
        counters: the metrics, see ``docs/metrics.md``.
    """

    def __init__(
        self,
        source: StorageBackend,
        destination: StorageBackend,
        outbox: Outbox,
        *,
        phases: Iterable[Phase] | SharedPhase,
        lease: float = KEY_LEASE_SECONDS,
        counters: Counters | None = None,
    ) -> None:
        self.counters = counters or Counters("cutover", "side", backend=outbox.backend)
        self._sides = {Side.SOURCE: source, Side.DESTINATION: destination}
        self._outbox = outbox
        self._phases = phases if isinstance(phases, SharedPhase) else tuple(phases)
        self._lease = lease
        self._rights: RepairRights | None = None
        self._bypassed = False

    @contextlib.contextmanager
    def acquire_rights(self) -> Iterator[RepairRights]:
        """Acquire the rights to write, until the block ends.

        The other methods do so themselves.

        Raises:
            PhaseLostError: the phase is shared and cannot be read.
        """
        if self._rights is not None:
            yield self._rights
        elif isinstance(self._phases, SharedPhase):
            with self._phases.pin_phases() as (phases, check):
                yield from self._with_rights(RepairRights(writable=writable_sides(phases), check=check))
        else:
            yield from self._with_rights(RepairRights(writable=writable_sides(self._phases), check=lambda: None))

    def _with_rights(self, rights: RepairRights) -> Iterator[RepairRights]:
        self._rights = rights
        try:
            yield rights
        finally:
            self._rights = None

    def repair_pending(self, stopping: Callable[[], bool] = lambda: False) -> RepairResult:
        """Repair every key with an open entry.

        Args:
            stopping: called before each key; ``True`` ends the round.

        Returns:
            The result. A key that fails keeps its entry, and the next round repairs it again.
        """
        result = RepairResult()
        ready = (entry for entry in self._outbox.pending_entries() if not self._awaits_upload(entry, result))
        first = next(ready, None)
        if first is None:
            # Without rights: acquiring them would pin the phase.
            return result
        with self.acquire_rights():
            for entry in itertools.chain([first], ready):
                if stopping():
                    break
                self._repair_and_record(result, entry.path, None)
        return result

    def _awaits_upload(self, entry: PendingEntry, result: RepairResult) -> bool:
        """Return whether an upload URL is valid, so that a copy now would be repeated."""
        valid = entry.expires_at > self._outbox.clock()
        result.uploads += valid
        return valid

    def repair_repeatedly(
        self, on_result: Callable[[RepairResult], None], *, every: float, stop: threading.Event
    ) -> None:
        """Repair in rounds until stopped.

        Args:
            on_result: called after each round.
            every: seconds between two rounds.
            stop: ends the rounds.
        """
        while not stop.is_set():
            try:
                on_result(self.repair_pending(stop.is_set))
            except PhaseLostError as error:
                _log.warning("%s; the next round tries again", error)
            stop.wait(every)

    def backfill(
        self, paths: Iterable[str], trusted: Side, stopping: Callable[[], bool] = lambda: False
    ) -> RepairResult:
        """Copy objects to the other side, each under an entry.

        Args:
            paths: keys.
            trusted: the side to copy from, for keys without an open entry.
            stopping: called before each key; ``True`` ends the round.
        """
        result = RepairResult()
        with self.acquire_rights():
            for path in paths:
                if stopping():
                    break
                self._repair_and_record(result, path, trusted)
        return result

    def repair_key(self, path: str, backfill: Side | None = None) -> Repaired:
        """Repair one key.

        Args:
            path: the key.
            backfill: the side to trust if the key has no entry. With ``None`` such a key is left alone.

        Raises:
            Exception: the error of a side. The entry stays open and has the reason.
        """
        with self.acquire_rights() as rights:
            work = _KeyRepair(self._sides, self._outbox, path, self._lease, rights.check)
            repaired = work.execute(protocol.repair(rights.writable, backfill))
            if work.written is not None:
                self.counters.add("repair", work.written)
            self._bypassed = work.bypassed
            return repaired

    def _repair_and_record(self, result: RepairResult, path: str, backfill: Side | None) -> None:
        try:
            repaired = self.repair_key(path, backfill)
        except Exception as error:  # noqa: BLE001 - the failure of one key is a value
            reason = result.failures[path] = describe_failure(error)
            self.counters.add("repair_failure")
            fields = {"backend": self._outbox.backend, "object_key": visible(path), "error": type(error).__name__}
            _log.warning("%s: the repair of %s failed: %s", self._outbox.backend, visible(path), reason, extra=fields)
            return
        if self._bypassed:
            result.bypassed.append(path)
        if repaired is Repaired.SETTLED:
            result.settled += 1
        else:
            result.left += 1


def repair_all(
    backend: CutoverBackend, outbox: Outbox, repair: Repair, side: Side, stopping: Callable[[], bool] = lambda: False
) -> RepairAllResult:
    """Compare both sides in full, and copy the trusted side to the other.

    The application may write meanwhile. If the source is trusted, an object of the destination alone is deleted where
    the outbox or the journal proves that we wrote it. If the destination is trusted, nothing is deleted: an object of
    the source alone is copied to the destination, if that may be written now.
    ``side`` is the trusted one; ``stopping`` is called before each key, and ``True`` ends the repair.
    """
    outcome = RepairAllResult()
    extra = Relation.EXTRA if side is Side.SOURCE else Relation.MISSING
    journal = Journal.find(outbox.database)

    def keys_to_repair(writable: frozenset[Side]) -> Iterator[str]:
        for difference in find_differences(backend.source, backend.destination, outbox, stopping):
            key = difference.pair.key
            repair.counters.add("difference", side.other)
            if difference.relation is extra:
                ours = _written_by_us(backend, outbox, journal, key) if side is Side.SOURCE else side in writable
                if not ours:
                    outcome.foreign.append(key)
                    continue
            yield key

    with repair.acquire_rights() as rights:
        outcome.result = repair.backfill(keys_to_repair(rights.writable), side, stopping)
    return outcome


def _written_by_us(backend: CutoverBackend, outbox: Outbox, journal: Journal, path: str) -> bool:
    """Return whether a cutover or a run wrote the destination object of a key."""
    if outbox.written_by_us(path):
        return True
    location = Location(backend.destination.key, path)
    record = journal.objects.at_destinations([location]).get(location)
    if record is None or not record.written_by_us:
        return False
    try:
        found = ResolvedBackend(backend.destination).resolve(path).head()
        return proven_unchanged(record.destination_evidence, found.evidence)
    except (FileNotFoundError, KeyRefusedError):
        return False


class _KeyRepair:
    """Executes the repair protocol for one key."""

    def __init__(
        self, sides: dict[Side, StorageBackend], outbox: Outbox, path: str, lease: float, check: Callable[[], None]
    ) -> None:
        self._sides, self._outbox, self._path, self._lease, self._check = sides, outbox, path, lease, check
        self._owner = uuid.uuid4().hex
        self._about: dict[str, Any] = {}
        self._failure: str | None = None
        self._wrote = self._copied = False
        #: The trusted side was written without a change of the entry.
        self.bypassed = False
        #: Digests of the trusted side since the key was claimed.
        self._digests: list[str | None] = []
        #: The side that the repair wrote.
        self.written: Side | None = None

    def execute(self, steps: protocol.Protocol) -> Repaired:
        """Perform all steps of the repair protocol."""
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._perform_step(step)
                except Exception as error:  # noqa: BLE001 - the protocol handles it
                    self._failure = describe_failure(error)
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            repaired: Repaired = stop.value
            return repaired

    def _perform_step(self, step: Step) -> Any:
        path, outbox = self._path, self._outbox
        if isinstance(step, protocol.ClaimEntry | protocol.SwitchTrustedSide | protocol.Put | protocol.Delete):
            self._check()
        match step:
            case protocol.RequestRepair(side):
                return outbox.request_repair(path, side)
            case protocol.ClaimEntry():
                entry = outbox.claim_entry(path, self._owner, self._lease)
                self._about = outbox.pending_attributes(path) if entry else {}
                self._digests.clear()
                self._copied = False
                return entry
            case protocol.SwitchTrustedSide(entry):
                self._digests.pop(0)
                return outbox.switch_trusted_side(path, entry)
            case protocol.CloseClaimed(entry):
                return outbox.close_claimed(path, entry, both_written=self._wrote)
            case protocol.Release(entry):
                if self._copied and len(set(self._digests)) > 1 and outbox.find_entry(path) == entry:
                    self.bypassed = True
                return outbox.release(path, self._owner, self._failure)
            case protocol.Head(side):
                self._digests.append(self._digest_content(side))
                return self._digests[-1]
            case protocol.Get(side):
                return self._sides[side].get_content(path)
            case protocol.Put(side, content):
                about = self._about or self._read_attributes(side.other)
                backend = self._sides[side]
                backend.save_object(FileObject(backend=backend, filename=path, **about), content)
                self._wrote, self._copied, self.written = True, True, side
                return None
            case protocol.Delete(side):
                self._wrote, self._copied, self.written = False, True, side
                return self._sides[side].delete_object(path)
        raise AssertionError(step)

    def _digest_content(self, side: Side) -> str | None:
        """Return a digest of the content: a filesystem may cache its ETag, size and time."""
        try:
            return hashlib.sha256(self._sides[side].get_content(self._path)).hexdigest()
        except (FileNotFoundError, KeyRefusedError):
            return None

    def _read_attributes(self, side: Side) -> dict[str, Any]:
        """Return content type and metadata of an object, if the backend can read them."""
        read = getattr(self._sides[side], "attributes", None)
        if read is None:
            return {}
        attributes = read(self._path)
        return {"content_type": attributes.content_type, "metadata": dict(attributes.metadata)}
