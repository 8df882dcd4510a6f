"""Operations written once for synchronous and asynchronous callers.

An operation is a coroutine that sends its requests through a :class:`Caller`. :class:`Awaiting` awaits obstore's
asynchronous methods. :class:`Blocking` calls the synchronous ones and never suspends, so that :func:`run` can drive the
coroutine on the current thread, without an event loop.
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

_EXIT_DELAY_SECONDS = 0.02


class Caller(Protocol):
    """Calls obstore's methods, which come in pairs: ``name`` and ``name_async``."""

    #: Whether calls are awaited. Only then can asynchronous input be read.
    awaits: bool

    async def call(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Call ``owner.name(*arguments, **options)``, or its asynchronous pair."""

    async def next(self, stream: Any) -> Any:
        """Return the next item of one of obstore's streams, ``None`` at its end."""

    async def run_blocking(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run work that may block: on another thread where there is an event loop.

        The work must not use obstore.
        """


class Blocking:
    """Calls the synchronous method of each pair, and never suspends."""

    awaits = False

    async def call(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Call ``owner.name``."""
        touch()
        return getattr(owner, name)(*arguments, **options)

    async def next(self, stream: Any) -> Any:
        """Return ``next(stream)``."""
        touch()
        return next(stream, None)

    async def run_blocking(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run it on this thread."""
        return work(*arguments)


_ASYNCHRONOUS = {name: f"{name}_async" for name in ("bytes", "copy", "delete", "get", "head", "put", "rename", "sign")}


class Awaiting:
    """Awaits the asynchronous method of each pair."""

    awaits = True
    _registered = False

    async def call(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Await ``owner.name_async``."""
        touch()
        if not Awaiting._registered:
            # Let obstore's threads release the last results at the exit: else the process may abort.
            Awaiting._registered = True
            atexit.register(time.sleep, _EXIT_DELAY_SECONDS)
        return await getattr(owner, _ASYNCHRONOUS[name])(*arguments, **options)

    async def next(self, stream: Any) -> Any:
        """Return ``await anext(stream)``."""
        touch()
        return await anext(stream, None)

    async def run_blocking(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run it on another thread."""
        return await asyncio.to_thread(work, *arguments)


BLOCKING = Blocking()
AWAITING = Awaiting()


def run(operation: Coroutine[Any, Any, T]) -> T:
    """Run an operation over :class:`Blocking` on this thread, without an event loop."""
    try:
        operation.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    operation.close()
    raise RuntimeError("an operation over blocking calls was suspended; this is a fault of this package")
