"""The steps of the protocols performed: against two stores and the outbox, under a hold on the phase, counted and logged."""

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

__all__ = ("ProtocolExecutor", "bind_operation", "call_backend")

_log = logging.getLogger("migrate_storage.cutover")


class ProtocolExecutor:
    """Performs the steps of one backend.

    Args:
        key: of the backend, for the log.
        source: the backend that is left.
        destination: the backend that is moved to.
        outbox: where entries are kept; ``None`` while the phase is SOURCE for good.
        switch: where the phase comes from.
        counters: what counts.
    """

    def __init__(
        self,
        key: str,
        source: StorageBackend,
        destination: StorageBackend,
        outbox: Outbox | None,
        switch: PhaseSource,
        counters: Counters,
    ) -> None:
        self.key, self.phase_source, self.counters = key, switch, counters
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
        """Where entries are kept.

        Raises:
            ConfigurationError: there is none.
        """
        if self._outbox is None:
            raise ConfigurationError("a cutover beyond phase source writes down what is not settled: pass outbox=")
        return self._outbox

    async def renew_lease(self, caller: Caller, *, writing: bool = False) -> OperationLease:
        """A hold on the phase, for one operation that got none at once."""
        return await caller.run_blocking(lambda: self.phase_source.renew(writing=writing))

    async def execute(
        self,
        caller: Caller,
        held: OperationLease | None,
        made: Protocol,
        path: PathLike,
        *,
        get: Callable[[Side], Awaitable[Any]] | None = None,
        put: Callable[[Side, Any], Awaitable[Any]] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Any:
        """Perform the steps of a protocol to its end."""
        key = text(path)
        try:
            step = next(made)
            while True:
                try:
                    if held is not None and isinstance(step, protocol.OpenEntry | protocol.Put | protocol.Delete):
                        held.check()
                    answer = await self._perform_step(caller, step, key, get, put, about)
                except Exception as error:  # noqa: BLE001 - the protocol decides
                    step = made.throw(error)
                else:
                    step = made.send(answer)
        except StopIteration as stop:
            return stop.value

    async def _perform_step(self, caller: Caller, step: Step, path: str, get: Any, put: Any, about: Any) -> Any:
        match step:
            case protocol.FindEntry():
                return await caller.run_blocking(self.outbox.find_entry, path)
            case protocol.OpenEntry(side, tombstone):
                outbox = self.outbox
                return await caller.run_blocking(
                    lambda: outbox.open_entry(path, side, tombstone=tombstone, about=about)
                )
            case protocol.CloseEntry(entry, wrote):
                outbox = self.outbox
                return await caller.run_blocking(lambda: outbox.close_entry(path, entry, wrote=wrote))
            case protocol.LeaveForRepair(entry, held):
                outbox = self.outbox
                self.counters.add("left", entry.side)
                told = {"backend": self.key, "object_key": visible(path), "side": entry.side.value}
                _log.info("%s: a write left an entry to repair, the %s is right", self.key, entry.side, extra=told)
                return await caller.run_blocking(lambda: outbox.leave_for_repair(path, entry, held=held))
            case protocol.RequestRepair(side):
                return await self._request_repair(caller, path, side)
            case protocol.Get(side):
                return await self.run_counted("read", side, path, get(side))
            case protocol.Put(side, content):
                return await self.run_counted("write", side, path, put(side, content))
            case protocol.Delete(side):
                return await self.run_counted(
                    "delete", side, path, call_backend(caller, self.side(side), "delete_object", path)
                )
        raise AssertionError(step)

    async def run_counted(self, kind: str, side: Side, path: str, doing: Awaitable[Any]) -> Any:
        """Do something on a side, counted and timed; a failure is logged."""
        started = time.perf_counter()
        try:
            return await doing
        except (FileNotFoundError, *protocol.NOTHING_WRITTEN):
            raise
        except Exception as error:
            self.counters.add("failure", side)
            told = {"backend": self.key, "operation": kind, "side": side.value, "object_key": visible(path)}
            told["error"] = type(error).__name__
            _log.warning("%s: a %s on the %s failed: %s", self.key, kind, side, told["error"], extra=told)
            raise
        finally:
            self.counters.took(kind, side, time.perf_counter() - started)

    async def _request_repair(self, caller: Caller, path: str, side: Side) -> None:
        self.counters.add("fallback", side.other)
        told = {"backend": self.key, "object_key": visible(path), "side": side.other.value}
        _log.info("%s: read from the %s, the %s has nothing", self.key, side.other, side, extra=told)
        self.phase_source.record_fallback()
        try:
            await caller.run_blocking(self.outbox.request_repair, path, side)
        except Exception as error:  # noqa: BLE001 - what was read is right without it
            told["error"] = type(error).__name__
            _log.warning("%s: a fallback read left no entry: %s", self.key, told["error"], extra=told)


def bind_operation(caller: Caller, backend: StorageBackend, name: str) -> Callable[..., Awaitable[Any]]:
    """An operation of a side, by its synchronous or its asynchronous name."""
    # Not through the caller itself: that says that obstore was used, and the source may be none of it.
    if caller.awaits:
        method: Callable[..., Awaitable[Any]] = getattr(backend, f"{name}_async")
        return method
    return partial(_once, getattr(backend, name))


def call_backend(caller: Caller, backend: StorageBackend, name: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
    """Ask a side for an operation."""
    return bind_operation(caller, backend, name)(*arguments, **options)


async def _once(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return method(*arguments, **options)
