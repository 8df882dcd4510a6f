"""The lifespan of an ASGI application, where some register their backends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import Any

from migrate_storage.application.describe_error import describe_error
from migrate_storage.core.errors import ApplicationError
from migrate_storage.core.text import one_line

__all__ = ("Lifespan",)

_Message = MutableMapping[str, Any]


class Lifespan:
    """Keeps an ASGI application's lifespan open, in a thread with its own event loop.

    Resources that the application opens at start-up stay open until :meth:`exit`, because its backends may need them.
    The protocol is the "lifespan" part of the ASGI specification, which every ASGI application has.
    """

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        """Prepare the lifespan of an ASGI application without starting it."""
        self._application = application
        self._started: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._run_loop, name="migrate-storage-lifespan", daemon=True)

    def enter(self, timeout: float = 60.0) -> None:
        """Start the application.

        Args:
            timeout: Seconds that start-up may take at most.

        Raises:
            ApplicationError: when start-up fails, takes too long, or the application has no lifespan.
        """
        self._thread.start()
        try:
            self._started.result(timeout)
        except TimeoutError:
            raise ApplicationError(f"--lifespan: the application did not start up within {timeout:.0f} s") from None

    def exit(self, timeout: float = 30.0) -> None:
        """Shut the application down, if it is running.

        Args:
            timeout: Seconds that shut-down may take at most. After that it ends with the process.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leave.set)
            self._thread.join(timeout)

    def _run_loop(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        asked = False

        async def receive() -> _Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "lifespan.startup"}
            await self._leave.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: _Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._started.set_result(None)
            elif message["type"] == "lifespan.startup.failed":
                # Starlette sends a whole traceback. Its last line is the exception.
                lines = str(message.get("message", "")).strip().splitlines() or ["no reason given"]
                self._fail(f"--lifespan: the application's start-up failed: {one_line(RuntimeError(lines[-1]))[14:]}")

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._application(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - an application may raise any exception; the message has one line
            self._fail(f"--lifespan: the application's start-up failed: {describe_error(error)}", error)
        self._fail("--lifespan: the application ended its start-up without reporting that it is up")

    def _fail(self, message: str, cause: BaseException | None = None) -> None:
        if not self._started.done():
            failure = ApplicationError(message)
            failure.__cause__ = cause
            self._started.set_exception(failure)
