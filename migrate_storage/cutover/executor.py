"""Performs the steps of the protocols on two stores and the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike, StorageBackend

from migrate_storage.backend.base import text
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import visible
from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.lease import OperationLease, PhaseSource
from migrate_storage.cutover.protocol import Protocol, Step
from migrate_storage.reporting.metrics import Counters
from migrate_storage.stores.sync_async import Caller

__all__ = ("ProtocolExecutor", "call_backend")

_log = logging.getLogger("migrate_storage.cutover")


class ProtocolExecutor:
    """Performs the protocol steps of one backend, counts them and logs failures.

    ``outbox`` is ``None`` only where the phase is always SOURCE.
    """

    def __init__(
        self,
        key: str,
        source: StorageBackend,
        destination: StorageBackend,
        outbox: Outbox | None,
        phase_source: PhaseSource,
        counters: Counters,
    ) -> None:
        self.key, self.phase_source, self.counters = key, phase_source, counters
        self._sides = {Side.SOURCE: source, Side.DESTINATION: destination}
        self._outbox = outbox

    def side(self, side: Side) -> Any:
        """The backend of a side."""
        return self._sides[side]

    @property
    def has_outbox(self) -> bool:
        """Whether there is an outbox."""
        return self._outbox is not None

    @property
    def outbox(self) -> Outbox:
        """The store of the entries.

        Raises:
            ConfigurationError: the backend has no outbox.
        """
        if self._outbox is None:
            raise ConfigurationError("a cutover beyond phase source records entries of keys: pass outbox=")
        return self._outbox

    async def renew_lease(self, caller: Caller, *, writing: bool = False) -> OperationLease:
        """Renew the phase lease, and acquire an operation lease under it."""
        return await caller.run_blocking(lambda: self.phase_source.renew(writing=writing))

    async def execute(
        self,
        caller: Caller,
        lease: OperationLease | None,
        steps: Protocol,
        path: PathLike,
        *,
        get: Callable[[Side], Awaitable[Any]] | None = None,
        put: Callable[[Side, Any], Awaitable[Any]] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Any:
        """Perform all steps of a protocol.

        ``lease`` is checked before each step that writes. ``get`` and ``put`` read and write the object of a side.
        ``about`` contains content type and metadata of a save, for its entry.

        Returns:
            The result of the protocol.
        """
        key = text(path)
        try:
            step = next(steps)
            while True:
                try:
                    if lease is not None and isinstance(step, protocol.OpenEntry | protocol.Put | protocol.Delete):
                        lease.check()
                    answer = await self._perform_step(caller, step, key, get, put, about)
                except Exception as error:  # noqa: BLE001 - the protocol handles it
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            return stop.value

    async def _perform_step(self, caller: Caller, step: Step, path: str, get: Any, put: Any, about: Any) -> Any:
        match step:
            case protocol.FindEntry():
                return await caller.run_blocking(self.outbox.find_entry, path)
            case protocol.OpenEntry(side, tombstone):
                work = partial(self.outbox.open_entry, path, side, tombstone=tombstone, about=about)
                return await caller.run_blocking(work)
            case protocol.CloseEntry(entry, both_written):
                close = partial(self.outbox.close_entry, path, entry, both_written=both_written)
                return await caller.run_blocking(close)
            case protocol.LeaveForRepair(entry, first_written):
                leave = partial(self.outbox.leave_for_repair, path, entry, first_written=first_written)
                self.counters.add("entries_left_open", entry.side)
                fields = {"backend": self.key, "object_key": visible(path), "side": entry.side.value}
                _log.info("%s: a write left an entry to repair, the %s is right", self.key, entry.side, extra=fields)
                return await caller.run_blocking(leave)
            case protocol.RequestRepair(side):
                return await self._request_repair(caller, path, side)
            case protocol.Get(side):
                return await self.run_counted("read", side, path, get(side))
            case protocol.Put(side, content):
                return await self.run_counted("write", side, path, put(side, content))
            case protocol.Delete(side):
                deleting = call_backend(caller, self.side(side), "delete_object", path)
                return await self.run_counted("delete", side, path, deleting)
        raise AssertionError(step)

    async def run_counted(self, kind: str, side: Side, path: str, operation: Awaitable[Any]) -> Any:
        """Await an operation on a side, count it, time it, and log its failure."""
        started = time.perf_counter()
        try:
            return await operation
        except (FileNotFoundError, *protocol.NOTHING_WRITTEN):
            raise
        except Exception as error:
            self.counters.add("failure", side)
            fields = {"backend": self.key, "operation": kind, "side": side.value, "object_key": visible(path)}
            fields["error"] = type(error).__name__
            _log.warning("%s: a %s on the %s failed: %s", self.key, kind, side, fields["error"], extra=fields)
            raise
        finally:
            self.counters.observe(kind, side, time.perf_counter() - started)

    async def _request_repair(self, caller: Caller, path: str, side: Side) -> None:
        self.counters.add("fallback", side.other)
        fields = {"backend": self.key, "object_key": visible(path), "side": side.other.value}
        _log.info("%s: read from the %s, the %s has nothing", self.key, side.other, side, extra=fields)
        self.phase_source.record_fallback()
        try:
            await caller.run_blocking(self.outbox.request_repair, path, side)
        except Exception as error:  # noqa: BLE001 - the read has succeeded without an entry
            fields["error"] = type(error).__name__
            _log.warning("%s: a fallback read left no entry: %s", self.key, fields["error"], extra=fields)


async def call_backend(caller: Caller, backend: StorageBackend, name: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of a side, the synchronous one or the asynchronous one.

    The caller's own methods would mark obstore as used in this process, and the source may not use obstore.
    """
    if caller.awaits:
        return await getattr(backend, f"{name}_async")(*arguments, **options)
    return getattr(backend, name)(*arguments, **options)
