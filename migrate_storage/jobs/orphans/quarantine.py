"""Move one object aside within its store, and back: copied, proved by evidence with two ends, and only then deleted.

The journal's line says at each moment what may be where. ``moving``: the object is at its place. ``deleting``: it may be only
aside. ``quarantined``: it is aside. ``restoring``: it is aside, and perhaps back. ``restored``: back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError
from migrate_storage.core.model import Attributes, ObjectMeta, Outcome, OutcomeKind
from migrate_storage.engine.probe import SCRATCH, try_destination
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.engine.transfer import copy_bytes
from migrate_storage.engine.verify import Verified, compare_content, proven_unchanged, sha256_of, verify
from migrate_storage.journal import ObjectRecord, digest
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import FailureKind, ObjectCheckError, classify
from migrate_storage.stores.listing import ListedObject
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, Retry, StoreRequestError
from migrate_storage.translate import encode_key, unaddressable
from migrate_storage.translate.places import resolve_links

__all__ = ("Quarantine", "StepResult", "checked_prefix", "immovable", "intent")

COPY_RETENTION_AFTER_CRASH = 900.0
"""Seconds for which the copy of an object stays that a job which died may yet delete."""


def checked_prefix(prefix: str, sides: Mapping[str, ResolvedBackend], keys: Sequence[str]) -> str:
    """The folder below each backend's root to which its orphans go.

    Args:
        prefix: as a person typed it.
        sides: every registered backend.
        keys: those whose orphans go there.

    Raises:
        ConfigurationError: not every store could hold it, or the files of some backend are there.
    """
    folder = prefix.strip("/")
    reason = unaddressable(folder, local=True)
    if reason is not None or folder.split("/")[0] == SCRATCH:
        raise ConfigurationError(
            f"--quarantine {prefix!r} {reason or 'is where stores are tried'}: name a folder of its own, such as .quarantine"
        )
    services = ServiceIdentity(sides.values())
    for key in keys:
        root, aside = sides[key].root, resolve_links(sides[key].place(f"{folder}/x"))
        there = aside.key[:-1]
        for other in sides.values():
            theirs = other.root
            if not theirs.root or not services.may_be_same(replace(theirs, key=""), replace(aside, key="")):
                continue
            inside = there.startswith(theirs.key) and len(theirs.key) > len(root.key)
            if inside or theirs.key.startswith(there):
                raise ConfigurationError(
                    f"--quarantine {prefix!r} of {key!r} is where the files of {other.key!r} are: name a folder of its own"
                )
        if not there.startswith(root.key):
            raise ConfigurationError(f"--quarantine {prefix!r} leads out of {key!r}: name a folder of its own")
    return folder


def immovable(held: ListedObject, side: ResolvedBackend) -> str:
    """Why an object could not be put back as it is, and so is not moved; empty where it can."""
    local = held.place.service in ("file", "memory")
    if not local and (reason := unaddressable(held.place.key)) is not None:
        return f"it is not moved, for its key {reason}"
    if resolve_links(side.place(held.location.path)) != resolve_links(held.place):
        return f"it is not moved, for {held.location.backend!r} cannot name it"
    return ""


def intent(held: ListedObject, prefix: str, run: str) -> ObjectRecord:
    """The line of an object that is to be moved aside, below ``prefix`` and the run's name."""
    name = held.location.path
    aside = f"{prefix}/{run}/{encode_key(name, local=held.place.service == 'file')}"
    place = held.place
    return ObjectRecord(
        id=digest("quarantine", run, place.service, place.endpoint, place.root, place.key),
        run=run,
        source_key=held.location.backend,
        source_path=name,
        destination_key=held.location.backend,
        destination_path=aside,
        state="moving",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """An object's line after a step, and how the step ended."""

    entry: ObjectRecord
    kind: OutcomeKind
    reason: str = ""
    evidence: str = ""

    @property
    def outcome(self) -> Outcome:
        """The same for listener and report."""
        entry = self.entry
        return Outcome(
            kind=self.kind, source=entry.source, destination=entry.destination, reason=self.reason, size=entry.size,
            evidence=self.evidence,
        )  # fmt: skip


class _ReplacedError(ObjectCheckError):
    """It is not what it was."""


class Quarantine:
    """Does the steps of one object, from any thread; writes nothing to the journal.

    Args:
        sides: every registered backend.
        retry: how a failed request is sent again.
        budget: bytes in memory.
        moved: called with the bytes that passed.
        checkpoint: called between the pieces of a large object; it raises to stop half-way.
        dry_run: putting back only looks and compares.
    """

    def __init__(
        self,
        sides: Mapping[str, ResolvedBackend],
        *,
        retry: Retry,
        budget: Callable[[int], AbstractContextManager[None]],
        moved: Callable[[int], None],
        checkpoint: Callable[[], None],
        dry_run: bool = False,
    ) -> None:
        self._sides, self._retry, self._budget, self._dry_run = sides, retry, budget, dry_run
        self._moved, self._checkpoint = moved, checkpoint
        self._patience = CircuitBreaker()
        self._lock = threading.Lock()
        self._create: dict[str, bool] = {}

    def copy_to_quarantine(self, entry: ObjectRecord) -> StepResult:
        """Copy an object aside and prove the copy; the object stays where it is. The line then holds the evidence.

        Raises:
            StoppedError: the job is to stop.
            RunError: nothing works any more.
        """
        return self._safely(entry, self._copy_to_quarantine)

    def delete_original(self, entry: ObjectRecord) -> StepResult:
        """Delete an object that was set aside, if it and its copy are as they were then.

        Raises:
            StoppedError: the job is to stop.
            RunError: nothing works any more.
        """
        return self._safely(entry, self._delete_original)

    def put_back(self, entry: ObjectRecord) -> StepResult:
        """Bring an object back to its place and remove the copy, from whatever state a job left them in.

        Raises:
            StoppedError: the job is to stop.
            RunError: nothing works any more.
        """
        return self._safely(entry, self._put_back)

    def delete_copy(self, entry: ObjectRecord) -> StepResult:
        """Remove the copy of an object that is known to be at its place.

        Raises:
            StoppedError: the job is to stop.
            RunError: nothing works any more.
        """
        return self._safely(entry, self._drop)

    def recover(self, entry: ObjectRecord) -> StepResult:
        """Settle what a job had in hand when it was killed: not deleted yet, the copy goes; deleted, it is in quarantine.

        Raises:
            StoppedError: the job is to stop.
            RunError: nothing works any more.
        """
        return self._safely(entry, self._recover)

    def _safely(self, entry: ObjectRecord, step: Callable[[ObjectRecord], StepResult]) -> StepResult:
        try:
            stepped = step(entry)
            self._patience.record(None)
            return stepped
        except RunError:
            raise
        except StoreRequestError as error:
            self._patience.record(error.failure)
            return StepResult(entry=entry, kind=OutcomeKind.FAILED, reason=str(error))
        except (ObjectCheckError, KeyRefusedError) as error:
            return StepResult(entry=entry, kind=OutcomeKind.FAILED, reason=str(error))
        except Exception as error:  # noqa: BLE001 - one item's failure is a value
            failure = classify(error)
            self._patience.record(failure)
            return StepResult(entry=entry, kind=OutcomeKind.FAILED, reason=failure.message)

    def _ends(self, entry: ObjectRecord) -> tuple[Store, str, Store, str]:
        side = self._sides.get(entry.source_key)
        if side is None:
            raise KeyRefusedError(f"no backend is registered under {entry.source_key!r} any more: register it again")
        return (*side.resolve(entry.source_path), *side.resolve(entry.destination_path))

    def _copy_to_quarantine(self, entry: ObjectRecord) -> StepResult:
        store, path, aside, there = self._ends(entry)
        verified = self._carry(store, path, aside, there, create=False)
        found = self._head(aside, there)
        if found is None or found.size != verified.source.size:
            raise _ReplacedError(f"the copy {entry.destination} is not what was written")
        if self._attributes(store, path) != self._attributes(aside, there):
            raise _ReplacedError("the store does not keep what the object carries beside its bytes: it was not moved")
        entry = replace(
            entry,
            evidence=verified.evidence[:64],
            size=verified.source.size,
            sha256=verified.sha256,
            ours=True,
            source_etag=verified.source.e_tag,
            source_modified=verified.source.last_modified,
            source_version=verified.source.version,
            destination_etag=found.e_tag,
            destination_modified=found.last_modified,
            destination_version=found.version,
        )
        return StepResult(entry=entry, kind=OutcomeKind.QUARANTINED, evidence=verified.evidence)

    def _delete_original(self, entry: ObjectRecord) -> StepResult:
        store, path, aside, there = self._ends(entry)
        copy = self._head(aside, there)
        if copy is None or not proven_unchanged(entry.destination_evidence, copy.evidence):
            return StepResult(
                entry=entry,
                kind=OutcomeKind.CHANGED,
                reason=f"its copy {entry.destination} was touched: it was not moved",
            )
        now = self._head(store, path)
        if now is not None and not proven_unchanged(entry.source_evidence, now.evidence):
            return StepResult(
                entry=entry,
                kind=OutcomeKind.CHANGED,
                reason="it was replaced meanwhile, or nothing tells whether it was",
            )
        if now is not None:
            self._retry.call(lambda: store.delete(path))
        return StepResult(
            entry=replace(entry, state="quarantined"), kind=OutcomeKind.QUARANTINED, evidence=entry.evidence or ""
        )

    def _put_back(self, entry: ObjectRecord) -> StepResult:
        store, path, aside, there = self._ends(entry)
        here, copy = self._head(store, path), self._head(aside, there)
        if here is not None:
            return self._stands(entry, here, copy)
        if copy is None and entry.size is None:
            return self._over(entry, "somebody deleted it before it was moved")
        if copy is None:
            return StepResult(
                entry=entry, kind=OutcomeKind.MISSING,
                reason=f"it and its copy {entry.destination} are both gone: somebody emptied the quarantine",
            )  # fmt: skip
        if entry.size is None or not self._intact(entry, aside, there, copy):
            return StepResult(
                entry=entry, kind=OutcomeKind.CHANGED,
                reason=f"{entry.destination} is not what was put there: look at it before you move it back by hand",
            )  # fmt: skip
        if self._dry_run:
            return self._drop(entry)
        try:
            self._carry(aside, there, store, path, create=self._creates(entry.source_key))
        except StoreRequestError as error:
            if error.failure.kind is not FailureKind.EXISTS:
                raise
            now = self._head(store, path)
            if now is None:
                raise
            # Another copy of it may have been put back just now.
            return self._stands(entry, now, copy)
        if self._attributes(store, path) != self._attributes(aside, there):
            raise _ReplacedError(
                "the store does not keep what the object carries beside its bytes: the copy stays as well"
            )
        return self._drop(entry)

    def _recover(self, entry: ObjectRecord) -> StepResult:
        store, path, *_ = self._ends(entry)
        if self._head(store, path) is None and entry.size is not None:
            return StepResult(entry=replace(entry, state="quarantined"), kind=OutcomeKind.QUARANTINED)
        stepped = self._put_back(entry)
        if stepped.entry.state == "restoring":
            return replace(stepped, entry=replace(entry, state="quarantined"))
        return stepped

    def _stands(self, entry: ObjectRecord, here: ObjectMeta, copy: ObjectMeta | None) -> StepResult:
        """Something is at the object's place: it itself, or what came there since."""
        store, path, aside, there = self._ends(entry)
        never_gone = entry.size is None or proven_unchanged(entry.source_evidence, here.evidence)
        if never_gone and entry.state == "deleting" and time.time() - entry.updated < COPY_RETENTION_AFTER_CRASH:
            # Whoever was to delete it may be asleep, and wake up.
            return StepResult(
                entry=entry, kind=OutcomeKind.RESTORED, evidence="at its place, a copy is kept for a while"
            )
        if never_gone:
            return self._drop(entry)
        if copy is None:
            return self._over(entry, f"another object stands there now, and {entry.destination} is gone")
        if self._retry.call(lambda: compare_content(store, path, aside, there)) is None or (
            self._attributes(store, path) != self._attributes(aside, there)
        ):
            return self._occupied(entry)
        return self._drop(entry)

    @staticmethod
    def _over(entry: ObjectRecord, reason: str) -> StepResult:
        return StepResult(entry=replace(entry, state="restored"), kind=OutcomeKind.SKIPPED, reason=reason)

    def _occupied(self, entry: ObjectRecord) -> StepResult:
        return StepResult(
            entry=entry, kind=OutcomeKind.OCCUPIED,
            reason=f"another object stands there now; {entry.destination} is kept: decide by hand which one is right",
        )  # fmt: skip

    def _intact(self, entry: ObjectRecord, aside: Store, there: str, copy: ObjectMeta) -> bool:
        """Whether the copy is what was proved, by what its store tells or else by its bytes."""
        if proven_unchanged(entry.destination_evidence, copy.evidence):
            return True
        return copy.size == entry.size and self._retry.call(lambda: sha256_of(aside, there)) == entry.sha256

    def _drop(self, entry: ObjectRecord) -> StepResult:
        *_, aside, there = self._ends(entry)
        if not self._dry_run:
            self._retry.call(lambda: aside.delete(there))
        return StepResult(
            entry=replace(entry, state="restored"), kind=OutcomeKind.RESTORED, evidence=entry.evidence or ""
        )

    def _carry(self, store: Store, path: str, to: Store, to_path: str, *, create: bool) -> Verified:
        def once() -> Verified:
            copied = copy_bytes(
                store, path, to, to_path,
                content_type=None, create=create, moved=self._moved, hold=self._budget, checkpoint=self._checkpoint,
            )  # fmt: skip
            return verify(copied, store, path, to, to_path)

        return self._retry.call(once)

    def _attributes(self, store: Store, path: str) -> Attributes:
        return self._retry.call(lambda: store.open(path).attributes)

    def _head(self, store: Store, path: str) -> ObjectMeta | None:
        return self._retry.or_none_if_missing(lambda: store.head(path))

    def _creates(self, key: str) -> bool:
        """Whether the store refuses to replace an object when asked: tried once, when first something goes back."""
        with self._lock:
            if key not in self._create:
                self._create[key] = try_destination(self._sides[key], self._retry)[0].create_only
            return self._create[key]
