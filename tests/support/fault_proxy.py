"""Stands before a real server and does to its HTTP what networks and overloaded services do, at set rates.

In a process of its own, so that it does not slow the code under test. What happens to a request follows from the seed, the
request and how often it was made, not from timing: the same seed brings the same faults on whatever machine.

The head of a request goes on byte by byte, ``Host`` too, for signatures cover it: the server checks the signature that the
client made for the proxy's address. obstore signs the SHA-256 of the body as well, and Amazon refuses a body that is another;
rclone and moto were tried and take it, with and without ``unsigned_payload=True``. So a bit flipped on the way in is stored
here, and what betrays it is the ETag of the put.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import multiprocessing
import random
import re
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

HOST = "127.0.0.1"
_CHUNK = 65536


class Fault(enum.StrEnum):
    """What can happen to one request. At most one does."""

    RESET = "reset"
    """The connection is reset before the server sees the request."""
    CUT_REQUEST = "cut_request"
    """The connection is reset, at both ends, in the middle of the request's body."""
    LOST_ANSWER = "lost_answer"
    """The server does what was asked; the connection is reset in place of its answer."""
    ERROR = "error"
    """500, 502 or 503 in place of the server, which sees nothing."""
    LATE_ERROR = "late_error"
    """The server does what was asked; the answer is 500, 502 or 503 all the same."""
    THROTTLE = "throttle"
    """429 with ``Retry-After``, in place of the server."""
    STALL = "stall"
    """Silence for ``stall`` seconds in the middle of the answer's body, then the rest."""
    TRUNCATE = "truncate"
    """The connection is closed in the middle of the answer's body."""
    FLIP_REQUEST = "flip_request"
    """One bit of the request's body is another when it reaches the server."""
    FLIP_ANSWER = "flip_answer"
    """One bit of the answer's body is another when it reaches the client. Only bodies of successful GETs."""


_FAULTS = tuple(Fault)


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """What the proxy does, save the rates, which can change while it runs."""

    #: Port of the server on loopback.
    upstream: int
    seed: int
    #: The same request fails at most so many times in a row, so that a client which keeps trying comes through.
    in_a_row: int = 2
    #: Seconds of silence of a STALL.
    stall: float = 1.0
    #: Seconds that a THROTTLE asks to wait.
    retry_after: int = 1
    #: Seconds by which each answer comes later, as from a server that is far away.
    latency: float = 0.0
    #: Only requests whose ``METHOD /target`` this finds are harmed.
    only: str = ""


class FaultProxy:
    """A running proxy."""

    def __init__(self, port: int, rates: Any, counts: Any) -> None:
        self.port = port
        self._rates = rates
        self._counts = counts

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def requests(self) -> int:
        """How many requests came, harmed or not."""
        return int(self._counts[len(_FAULTS)])

    @property
    def counts(self) -> dict[Fault, int]:
        """How often each fault was done so far; those that never were are left out."""
        return {fault: int(count) for fault, count in zip(_FAULTS, self._counts, strict=False) if count}

    def set(self, **rates: float) -> None:
        """From now on, these rates (0 to 1 for each request); faults that are not named are off.

        Raises:
            ValueError: when the rates add up to more than 1, or name no :class:`Fault`.
        """
        wanted = {Fault(name): rate for name, rate in rates.items()}
        if sum(wanted.values()) > 1 or any(rate < 0 for rate in wanted.values()):
            raise ValueError(f"the rates {rates} must each be 0 or more, and together at most 1")
        with self._rates.get_lock():
            self._rates[:] = [wanted.get(fault, 0.0) for fault in _FAULTS]


@contextlib.contextmanager
def fault_proxy(
    upstream: int,
    *,
    seed: int,
    in_a_row: int = 2,
    stall: float = 1.0,
    retry_after: int = 1,
    latency: float = 0.0,
    only: str = "",
    **rates: float,
) -> Iterator[FaultProxy]:
    """A proxy before the server on port ``upstream``; see :class:`FaultOptions`, and :meth:`FaultProxy.set` for ``rates``."""
    options = FaultOptions(
        upstream=upstream,
        seed=seed,
        in_a_row=in_a_row,
        stall=stall,
        retry_after=retry_after,
        latency=latency,
        only=only,
    )
    context = multiprocessing.get_context("spawn")
    shared_rates, shared_counts = context.Array("d", len(_FAULTS)), context.Array("Q", len(_FAULTS) + 1)
    here, there = context.Pipe()
    process = context.Process(target=_main, args=(options, shared_rates, shared_counts, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(30):
            raise RuntimeError("the fault proxy did not start within 30 seconds")
        proxy = FaultProxy(here.recv(), shared_rates, shared_counts)
        proxy.set(**rates)
        yield proxy
    finally:
        here.close()
        process.join(60)
        if process.is_alive():
            process.kill()
            process.join()


def _main(options: FaultOptions, rates: Any, counts: Any, parent: Connection) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Server(options, rates, counts).serve(parent))


class _BrokenError(Exception):
    """The conversation is over: the request was harmed, or one side left."""


@dataclass
class _Request:
    """One request under way."""

    head: bytes
    #: Method and target.
    name: str
    fault: Fault | None
    #: Decides what the fault does: which byte, which status.
    dice: random.Random
    #: Whether the fault was done: not every fault fits every request.
    harmed: bool = False


class _Server:
    def __init__(self, options: FaultOptions, rates: Any, counts: Any) -> None:
        self._options = options
        self._rates = rates
        self._counts = counts
        self._only = re.compile(options.only)
        self._made: dict[str, int] = defaultdict(int)
        self._row: dict[str, int] = defaultdict(int)

    async def serve(self, parent: Connection) -> None:
        server = await asyncio.start_server(self._converse, HOST, 0, limit=_CHUNK, backlog=512)
        parent.send(server.sockets[0].getsockname()[1])
        # The pipe ends when the test closes it, and also when the test's process is no more.
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(parent.fileno(), ended.set)
        await ended.wait()
        server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection, with one upstream connection behind it, for as many requests as the client makes."""
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while head := await _head(reader):
                request = self._draw(head)
                if request.fault is Fault.RESET:
                    self._done(request)
                    raise _BrokenError
                if request.fault in {Fault.ERROR, Fault.THROTTLE}:
                    # The body is not read, so the connection cannot serve another request: as real servers do.
                    self._done(request)
                    writer.write(self._refusal(request))
                    await _drain(reader, head, writer)
                    return
                # A server may end a connection that was idle for long; that is no fault of ours to show.
                if upstream is None or upstream[0].at_eof():
                    upstream = await asyncio.open_connection(HOST, self._options.upstream, limit=_CHUNK)
                again = await self._exchange(request, reader, writer, *upstream)
                if not request.harmed:
                    self._row[request.name] = 0
                if not again:
                    return
        except (_BrokenError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _reset(writer)
        except asyncio.CancelledError:
            # The proxy ends; asyncio would print each conversation that ends with it.
            pass
        finally:
            writer.close()
            if upstream is not None:
                upstream[1].close()

    async def _exchange(
        self,
        request: _Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer. True when the connections can serve another one."""
        headers = _headers(request.head)
        head = request.head
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"(?i)\r\nexpect:[^\r\n]*", b"", head, count=1)
        up_writer.write(head)
        harm = request.fault if request.fault in {Fault.CUT_REQUEST, Fault.FLIP_REQUEST} else None
        await self._body(request, harm, headers, reader, up_writer, until_close=False)

        answer = await _head(up_reader)
        while answer and _status(answer) == 100:
            answer = await _head(up_reader)
        if not answer:
            raise _BrokenError
        if self._options.latency:
            await asyncio.sleep(self._options.latency)
        if request.fault is Fault.LOST_ANSWER:
            self._done(request)
            raise _BrokenError
        if request.fault is Fault.LATE_ERROR:
            self._done(request)
            writer.write(self._refusal(request))
            await writer.drain()
            return False
        status, told = _status(answer), _headers(answer)
        writer.write(answer)
        bodiless = request.name.startswith("HEAD ") or status in {204, 304}
        if bodiless:
            await writer.drain()
        else:
            harm = request.fault if request.fault in {Fault.STALL, Fault.TRUNCATE, Fault.FLIP_ANSWER} else None
            if harm is Fault.FLIP_ANSWER and (not request.name.startswith("GET ") or status not in {200, 206}):
                harm = None
            await self._body(request, harm, told, up_reader, writer, until_close=True)
        over = "close" in (headers.get("connection", "").lower(), told.get("connection", "").lower())
        return not over and (bodiless or "content-length" in told or "transfer-encoding" in told)

    async def _body(
        self,
        request: _Request,
        harm: Fault | None,
        headers: Mapping[str, str],
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        until_close: bool,
    ) -> None:
        """Pass one body on, in pieces, with what the fault does to it."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            while size := int((line := await source.readuntil(b"\r\n")).split(b";")[0], 16):
                sink.write(line)
                await self._piece(request, harm, size, source, sink)
                harm = None
                sink.write(await source.readexactly(2))
            sink.write(line)
            while (line := await source.readuntil(b"\r\n")) != b"\r\n":
                sink.write(line)
            sink.write(line)
        elif "content-length" in headers:
            await self._piece(request, harm, int(headers["content-length"]), source, sink)
        elif until_close:
            while data := await source.read(_CHUNK):
                sink.write(data)
                await sink.drain()
        await sink.drain()

    async def _piece(
        self,
        request: _Request,
        harm: Fault | None,
        size: int,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
    ) -> None:
        """Pass ``size`` bytes on. The harm, if any, is done at one byte of them."""
        place = request.dice.randrange(size) if harm and size else None
        sent = 0
        while sent < size:
            data = await source.read(min(_CHUNK, size - sent))
            if not data:
                raise _BrokenError
            if place is not None and sent <= place < sent + len(data):
                here = place - sent
                self._done(request)
                if harm in {Fault.FLIP_REQUEST, Fault.FLIP_ANSWER}:
                    changed = bytearray(data)
                    changed[here] ^= 1 << request.dice.randrange(8)
                    data = bytes(changed)
                else:
                    sink.write(data[:here])
                    await sink.drain()
                    if harm is Fault.CUT_REQUEST:
                        _reset(sink)
                        raise _BrokenError
                    if harm is Fault.TRUNCATE:
                        # An orderly end, which a client without a look at Content-Length takes for the whole.
                        sink.close()
                        raise _BrokenError
                    await asyncio.sleep(self._options.stall)
                    data, sent = data[here:], sent + here
            sink.write(data)
            await sink.drain()
            sent += len(data)

    def _draw(self, head: bytes) -> _Request:
        """What happens to this request: from the seed, the request, and how often it was made."""
        name = head.split(b"\r\n", 1)[0].decode("latin-1").rpartition(" ")[0]
        with self._counts.get_lock():
            self._counts[len(_FAULTS)] += 1
        self._made[name] += 1
        dice = random.Random(f"{self._options.seed} {self._made[name]} {name}")
        fault = None
        if self._only.search(name) and self._row[name] < self._options.in_a_row:
            drawn = dice.random()
            for candidate, rate in zip(_FAULTS, self._rates[:], strict=True):
                drawn -= rate
                if drawn < 0:
                    fault = candidate
                    break
        return _Request(head=head, name=name, fault=fault, dice=dice)

    def _done(self, request: _Request) -> None:
        request.harmed = True
        self._row[request.name] += 1
        if request.fault is not None:
            with self._counts.get_lock():
                self._counts[_FAULTS.index(request.fault)] += 1

    def _refusal(self, request: _Request) -> bytes:
        if request.fault is Fault.THROTTLE:
            status, more = "429 Too Many Requests", f"Retry-After: {self._options.retry_after}\r\n"
        else:
            status = request.dice.choice(("500 Internal Server Error", "502 Bad Gateway", "503 Slow Down"))
            more = ""
        return f"HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The next request's or answer's head; empty when the other side has ended the connection between two of them."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1][:3])


async def _drain(reader: asyncio.StreamReader, head: bytes, writer: asyncio.StreamWriter) -> None:
    """Take in what the client still sends, for closing on unread bytes is a reset, which would swallow the answer."""
    await writer.drain()
    left = int(_headers(head).get("content-length", 0))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while left > 0 and (data := await reader.read(_CHUNK)):
                left -= len(data)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, not by an orderly FIN."""
    if writer.is_closing():
        return
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
