"""One logic for both worlds: an operation is a coroutine over a :class:`Caller`, awaited or run to its end at once.

A :class:`Blocking` caller never suspends, so that :func:`run` can drive the coroutine on the spot, without a loop.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from migrate_storage.stores.fork_guard import touch

__all__ = ("AWAITING", "BLOCKING", "Awaiting", "Blocking", "Caller", "run")

T = TypeVar("T")


class Caller(Protocol):
    """Calls one of obstore's methods, that come in pairs: ``name`` and ``name_async``."""

    #: Whether calls are awaited: whether asynchronous input can be read.
    awaits: bool

    async def __call__(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Call ``owner.name(*arguments, **options)``, or its asynchronous pair."""

    async def next(self, stream: Any) -> Any:
        """The next of one of obstore's streams, ``None`` at its end."""

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do what may take long without obstore: on another thread where there is an event loop to keep free."""


class Blocking:
    """Calls the synchronous one of each pair, and never suspends."""

    awaits = False

    async def __call__(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Call ``owner.name``."""
        touch()
        return getattr(owner, name)(*arguments, **options)

    async def next(self, stream: Any) -> Any:
        """``next(stream)``."""
        touch()
        return next(stream, None)

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do it here."""
        return work(*arguments)


_ASYNCHRONOUS = {name: f"{name}_async" for name in ("bytes", "copy", "delete", "get", "head", "put", "rename", "sign")}


class Awaiting:
    """Awaits the asynchronous one of each pair."""

    awaits = True
    _registered = False

    @classmethod
    def _leave_in_peace(cls) -> None:
        """Let obstore's threads let go of the last results before the interpreter goes: else the process may abort."""
        cls._registered = True
        atexit.register(time.sleep, 0.02)

    async def __call__(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Await ``owner.name_async``."""
        touch()
        if not self._registered:
            self._leave_in_peace()
        return await getattr(owner, _ASYNCHRONOUS[name])(*arguments, **options)

    async def next(self, stream: Any) -> Any:
        """``await anext(stream)``."""
        touch()
        return await anext(stream, None)

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do it on a thread."""
        return await asyncio.to_thread(work, *arguments)


BLOCKING = Blocking()
AWAITING = Awaiting()


def run(operation: Coroutine[Any, Any, T]) -> T:
    """Drive an operation over :class:`Blocking` to its end, on this thread and without an event loop."""
    try:
        operation.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    operation.close()
    raise RuntimeError("an operation over blocking calls was suspended; this is a fault of this package")
