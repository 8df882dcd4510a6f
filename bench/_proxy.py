"""A proxy before an S3 server: it delays answers, and refuses to replace objects as services do.

It runs in a process of its own and passes bytes on as they come, so that it costs little beside client and server. The head
of a request stays as it is, ``Host`` too, because signatures cover it.

Where it refuses, a PUT with ``If-None-Match: *`` gets 412 if the object exists. The proxy knows the objects that it has seen
written, so every write must pass through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import multiprocessing
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import unescape

__all__ = ("start_proxy",)

HOST = "127.0.0.1"
_START_SECONDS = 30
_REFUSED = b"<?xml version='1.0'?><Error><Code>PreconditionFailed</Code><Message>The object exists.</Message></Error>"
_DELETED = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)


@dataclass(kw_only=True)
class _Settings:
    #: Port of the server on loopback.
    upstream: int
    #: Seconds by which each answer comes later.
    latency: float
    #: Whether a conditional PUT onto an existing object gets 412.
    refuses: bool
    #: Paths of the objects that exist.
    written: set[str] = field(default_factory=set)


@contextlib.contextmanager
def start_proxy(upstream: int, *, latency: float = 0.0, refuses: bool = False) -> Iterator[str]:
    """Run a proxy before the server on a port of loopback; yield its endpoint.

    Args:
        upstream: the server's port.
        latency: seconds by which each answer comes later.
        refuses: whether a PUT with ``If-None-Match: *`` onto an existing object gets 412.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    settings = _Settings(upstream=upstream, latency=latency, refuses=refuses)
    process = context.Process(target=_serve, args=(settings, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(_START_SECONDS):
            raise RuntimeError(f"the proxy did not start within {_START_SECONDS} seconds")
        yield f"http://{HOST}:{here.recv()}"
    finally:
        here.close()
        process.join(_START_SECONDS)
        process.kill()


def _serve(settings: _Settings, parent: Connection) -> None:
    # With uvloop the proxy needs a fraction of the CPU.
    run = importlib.import_module("uvloop").run if find_spec("uvloop") else asyncio.run
    with contextlib.suppress(KeyboardInterrupt):
        run(_serve_until_closed(settings, parent))


async def _serve_until_closed(settings: _Settings, parent: Connection) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: _Client(settings), HOST, 0, backlog=512)
    parent.send(server.sockets[0].getsockname()[1])
    loop.add_reader(parent.fileno(), ended.set)
    await ended.wait()
    server.close()


class _Client(asyncio.Protocol):
    """One connection of a client, and the one to the server behind it."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._server: _Server | None = None
        self._waiting: list[bytes] = []
        #: What was not passed on yet: the beginning of a head, or the body of a refused request.
        self._unread = b""
        #: Bytes of the body that are still to come; ``None`` between two requests.
        self._left: int | None = None
        #: The body of a DeleteObjects, and its bucket.
        self._deletes: bytes | None = None
        self._bucket = ""
        self._refusing = False
        #: Called with the status of the next answer.
        self.on_status: Callable[[int], None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self._server = await loop.create_connection(lambda: _Server(self), HOST, self._settings.upstream)
        except OSError:
            self.transport.abort()
            return
        for data in self._waiting:
            self._server.transport.write(data)
        self._waiting.clear()

    def connection_lost(self, _: Exception | None) -> None:
        if self._server is not None:
            self._server.transport.close()

    def data_received(self, data: bytes) -> None:
        data, self._unread = self._unread + data, b""
        while data:
            if self._left is None:
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    self._unread = data
                    return
                self._begin(data[:end])
                data = data[end:]
                if not self._left:
                    self._end()
                    continue
            assert self._left is not None
            body, data = data[: self._left], data[self._left :]
            self._left -= len(body)
            if self._deletes is not None:
                self._deletes += body
            if body and not self._refusing:
                self._pass_on(body)
            if not self._left:
                self._end()

    def _begin(self, head: bytes) -> None:
        """Read the head of a request, and pass it on unless it is refused."""
        method, target, headers = _parse(head)
        if "chunked" in headers.get("transfer-encoding", ""):
            raise RuntimeError("a body without a length cannot pass this proxy")
        self._left = int(headers.get("content-length", 0))
        path, _, query = target.partition("?")
        path = unquote(path)
        written = self._settings.written
        if self._settings.refuses:
            if method == "PUT" and "partNumber=" not in query and path.count("/") > 1:
                if "if-none-match" in headers and path in written:
                    self._refusing = True
                    if "expect" in headers:
                        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    return
                if path not in written:
                    # At once, so that of two simultaneous writes one is refused.
                    written.add(path)
                    self.on_status = lambda status: None if status < 300 else written.discard(path)
            elif method == "POST" and "uploadId=" in query:
                self.on_status = lambda status: written.add(path) if status < 300 else None
            elif method == "DELETE":
                self.on_status = lambda status: written.discard(path) if status < 300 else None
            elif method == "POST" and query.startswith("delete"):
                self._deletes, self._bucket = b"", path.rstrip("/")
        self._pass_on(head)

    def _end(self) -> None:
        """End a request, of which all bytes were read."""
        self._left = None
        if self._deletes is not None:
            keys = {unescape(key.decode()) for key in _DELETED.findall(self._deletes)}
            self._settings.written.difference_update(f"{self._bucket}/{key}" for key in keys)
            self._deletes = None
        if self._refusing:
            self._refusing = False
            head = f"HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/xml\r\nContent-Length: {len(_REFUSED)}\r\n\r\n"
            self.answer(head.encode() + _REFUSED)

    def _pass_on(self, data: bytes) -> None:
        if self._server is None:
            self._waiting.append(data)
        else:
            self._server.transport.write(data)

    def answer(self, data: bytes) -> None:
        """Send bytes of an answer to the client, after the latency."""
        if self._settings.latency:
            asyncio.get_running_loop().call_later(self._settings.latency, self.transport.write, data)
        else:
            self.transport.write(data)

    def close(self) -> None:
        """End the connection after the last answer."""
        asyncio.get_running_loop().call_later(self._settings.latency, self.transport.close)


class _Server(asyncio.Protocol):
    """The connection to the server."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        on_status = self._client.on_status
        if on_status is not None and (status := int(data[9:12])) >= 200:
            self._client.on_status = None
            on_status(status)
        self._client.answer(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.close()


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    return method, target, {name.lower(): value.strip().lower() for name, _, value in pairs}
