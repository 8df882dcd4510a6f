"""Repair: what a cutover left unsettled is made the same on both sides, key by key, under the key's lease."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import StorageBackend

from migrate_storage.core.errors import KeyRefusedError, PhaseLostError
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
from migrate_storage.stores.resolved_backend import ResolvedBackend as Reached

__all__ = (
    "Repair",
    "RepairAllResult",
    "RepairResult",
    "RepairRights",
    "repair_all",
    "writable",
)


_log = logging.getLogger("migrate_storage.cutover")
KEY_LEASE_SECONDS = 300.0
"""Seconds that one copy may take: a repair that is slower is taken over by the next one."""


def writable(phases: Iterable[Phase]) -> frozenset[Side]:
    """The sides that repair may write while processes are in these phases.

    A process in SOURCE writes the source without an entry, one in DESTINATION the destination: there a copy could not know
    that it is overtaken.
    """
    outer = {Phase.SOURCE: Side.SOURCE, Phase.DESTINATION: Side.DESTINATION}
    return frozenset(Side) - {outer[phase] for phase in phases if phase in outer}


@dataclass(kw_only=True, slots=True)
class RepairResult:
    """What a round of repairs did."""

    settled: int = 0
    #: Somebody is at work on the key, or it needs a side that may not be written now.
    left: int = 0
    #: A URL may still be used to upload: it is looked at when that has expired.
    uploads: int = 0
    #: Written past the backend while they were copied, by a signed URL or another program; copied again.
    bypassed: list[str] = field(default_factory=list)
    #: By path: why a repair failed.
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairRights:
    """What a repair may do for a while."""

    writable: frozenset[Side]
    #: Called before each write; raises ``PhaseLostError`` when the while is over.
    check: Callable[[], None]


class Repair:
    """Repairs the keys of one cutover backend.

    Args:
        source: the backend that is left.
        destination: the backend that is moved to.
        outbox: where the entries are.
        phases: the phases that processes may be in; or where they share one, a :class:`SharedPhase` of the repair's own.
        lease: seconds that one copy may take.
        counters: what counts; see ``docs/metrics.md``.
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
        """What may be written, until the block ends; every other method does this by itself.

        Raises:
            PhaseLostError: the phase is shared, and cannot be learned.
        """
        if self._rights is not None:
            yield self._rights
        elif isinstance(self._phases, SharedPhase):
            with self._phases.pin_phases() as (phases, check):
                yield from self._with_rights(RepairRights(writable=writable(phases), check=check))
        else:
            yield from self._with_rights(RepairRights(writable=writable(self._phases), check=lambda: None))

    def _with_rights(self, rights: RepairRights) -> Iterator[RepairRights]:
        self._rights = rights
        try:
            yield rights
        finally:
            self._rights = None

    def repair_pending(self, stopping: Callable[[], bool] = lambda: False) -> RepairResult:
        """Repair every key that waits.

        Args:
            stopping: asked before each key.

        Returns:
            What was done. A key that fails keeps its entry, and is tried again next time.
        """
        result = RepairResult()
        ready = (each for each in self._outbox.pending_entries() if not self._awaits_upload(each, result))
        first = next(ready, None)
        if first is None:
            # While there is nothing to do, nobody waits for us.
            return result
        with self.acquire_rights():
            for waiting in itertools.chain([first], ready):
                if stopping():
                    break
                self._repair_and_record(result, waiting.path, None)
        return result

    def _awaits_upload(self, waiting: PendingEntry, result: RepairResult) -> bool:
        """An upload may still come: what is copied now would be copied again."""
        uploading = waiting.expires_at > time.time()
        result.uploads += uploading
        return uploading

    def repair_repeatedly(self, told: Callable[[RepairResult], None], *, every: float, stop: threading.Event) -> None:
        """Repair again and again.

        Args:
            told: called after each round.
            every: seconds between two rounds.
            stop: ends it.
        """
        while not stop.is_set():
            try:
                told(self.repair_pending(stop.is_set))
            except PhaseLostError as error:
                _log.warning("%s; the next round tries again", error)
            stop.wait(every)

    def backfill(
        self, paths: Iterable[str], trusted: Side, stopping: Callable[[], bool] = lambda: False
    ) -> RepairResult:
        """Copy objects to the other side, each under an entry, so that writers and readers know.

        Args:
            paths: keys.
            trusted: the side to copy from, where no entry says otherwise.
            stopping: asked before each key.
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
            backfill: the side to trust where no entry stands; ``None`` leaves such a key alone.

        Raises:
            Exception: what a side answered; the entry stands, and holds the reason.
        """
        with self.acquire_rights() as rights:
            work = _Work(self._sides, self._outbox, path, self._lease, rights.check)
            ended = work.drive(protocol.repair(rights.writable, backfill))
            if work.written is not None:
                self.counters.add("repair", work.written)
            self._bypassed = work.bypassed
            return ended

    def _repair_and_record(self, result: RepairResult, path: str, backfill: Side | None) -> None:
        try:
            ended = self.repair_key(path, backfill)
        except Exception as error:  # noqa: BLE001 - one key's failure is a value
            reason = result.failures[path] = describe_failure(error)
            self.counters.add("repair_failure")
            told = {"backend": self._outbox.backend, "object_key": visible(path), "error": type(error).__name__}
            _log.warning("%s: the repair of %s failed: %s", self._outbox.backend, visible(path), reason, extra=told)
            return
        if self._bypassed:
            result.bypassed.append(path)
        if ended is Repaired.SETTLED:
            result.settled += 1
        else:
            result.left += 1


class _Work:
    """One key under repair."""

    def __init__(
        self,
        sides: dict[Side, StorageBackend],
        outbox: Outbox,
        path: str,
        lease: float,
        check: Callable[[], None],
    ) -> None:
        self._sides, self._outbox, self._path, self._lease, self._check = sides, outbox, path, lease, check
        self._owner = uuid.uuid4().hex
        self._about: dict[str, Any] = {}
        self._failure: str | None = None
        self._wrote = self._copied = False
        #: Somebody wrote the side to trust, and the entry does not tell of it.
        self.bypassed = False
        self._looks: list[str | None] = []
        #: The side that was written.
        self.written: Side | None = None

    def drive(self, made: protocol.Protocol) -> Repaired:
        try:
            step = next(made)
            while True:
                try:
                    answer = self._perform(step)
                except Exception as error:  # noqa: BLE001 - the protocol decides
                    self._failure = describe_failure(error)
                    step = made.throw(error)
                else:
                    step = made.send(answer)
        except StopIteration as stop:
            ended: Repaired = stop.value
            return ended

    def _perform(self, step: Step) -> Any:
        path, outbox = self._path, self._outbox
        if isinstance(step, protocol.ClaimEntry | protocol.SwitchTrustedSide | protocol.Put | protocol.Delete):
            self._check()
        match step:
            case protocol.RequestRepair(side):
                return outbox.request_repair(path, side)
            case protocol.ClaimEntry():
                entry = outbox.claim_entry(path, self._owner, self._lease)
                self._about = outbox.pending_attributes(path) if entry else {}
                self._looks.clear()
                self._copied = False
                return entry
            case protocol.SwitchTrustedSide(entry):
                self._looks.pop(0)
                return outbox.switch_trusted_side(path, entry)
            case protocol.CloseClaimed(entry):
                return outbox.close_claimed(path, entry, both_written=self._wrote)
            case protocol.Release(entry):
                if self._copied and len(set(self._looks)) > 1 and outbox.find_entry(path) == entry:
                    self.bypassed = True
                return outbox.release(path, self._owner, self._failure)
            case protocol.Head(side):
                self._looks.append(self._evidence(side))
                return self._looks[-1]
            case protocol.Get(side):
                return self._sides[side].get_content(path)
            case protocol.Put(side, content):
                self._put(side, content)
                self._wrote, self._copied, self.written = True, True, side
                return None
            case protocol.Delete(side):
                self._wrote, self._copied, self.written = False, True, side
                return self._sides[side].delete_object(path)
        raise AssertionError(step)

    def _evidence(self, side: Side) -> str | None:
        """A digest of the content: no listing, etag or time that a filesystem may have kept from before."""
        try:
            return hashlib.sha256(self._sides[side].get_content(self._path)).hexdigest()
        except (FileNotFoundError, KeyRefusedError):
            return None

    def _put(self, side: Side, content: bytes) -> None:
        backend = self._sides[side]
        about = self._about or self._kept(side.other)
        backend.save_object(FileObject(backend=backend, filename=self._path, **about), content)

    def _kept(self, side: Side) -> dict[str, Any]:
        """Content type and metadata as the store kept them, where it tells."""
        look = getattr(self._sides[side], "attributes", None)
        if look is None:
            return {}
        found = look(self._path)
        return {"content_type": found.content_type, "metadata": dict(found.metadata)}


@dataclass(kw_only=True, slots=True)
class RepairAllResult:
    """What was done to bring the other side level."""

    result: RepairResult = field(default_factory=RepairResult)
    #: What stands on the other side alone, and was not written by us: left there.
    foreign: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not (self.foreign or self.result.left or self.result.failures)


def repair_all(
    backend: CutoverBackend, outbox: Outbox, repair: Repair, side: Side, stopping: Callable[[], bool] = lambda: False
) -> RepairAllResult:
    """Compare both sides in full, and make the other what the trusted one is, while writers go on.

    What only the other side has is deleted there where our outbox or journal says that we wrote it. Where the destination is
    trusted it never is: it is brought to the destination if that may be written now.

    Args:
        backend: of the cutover.
        outbox: its outbox.
        repair: what writes.
        side: the trusted one.
        stopping: asked before each key.
    """
    leveled = RepairAllResult()
    extra = Relation.EXTRA if side is Side.SOURCE else Relation.MISSING
    journal = Journal(outbox.database, outbox.tables.schema)

    def wanted(writable: frozenset[Side]) -> Iterator[str]:
        for each in find_differences(backend.source, backend.destination, outbox, stopping):
            key = each.pair.key
            repair.counters.add("difference", side.other)
            if each.relation is extra:
                ours = _ours(backend, outbox, journal, key) if side is Side.SOURCE else side in writable
                if not ours:
                    leveled.foreign.append(key)
                    continue
            yield key

    with repair.acquire_rights() as rights:
        leveled.result = repair.backfill(wanted(rights.writable), side, stopping)
    return leveled


def _ours(backend: CutoverBackend, outbox: Outbox, journal: Journal, path: str) -> bool:
    """Whether what the destination holds under a key was written by us."""
    if outbox.written_by_us(path):
        return True
    entry = journal.objects.at_destination(backend.destination.key, path)
    if entry is None or not entry.ours:
        return False
    try:
        found = Reached(backend.destination).resolve(path).head()
        return proven_unchanged(entry.destination_evidence, found.evidence)
    except (FileNotFoundError, KeyRefusedError):
        return False
