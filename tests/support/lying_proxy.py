"""Stands before a real server and tells lies about some of its objects; everything else passes through as it is.

The lies are in :mod:`tests.support.lies`. The proxy of faults (:mod:`tests.support.fault_proxy`) breaks requests; this one answers
them well-formed, with another truth than the server's.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from tests.support.lies import Lie

_GCS_MEDIA = re.compile(r"/download/storage/v1/b/([^/]+)/o/([^/]+)$")
"""Where the JSON API of Google has the bytes of an object."""
_HOP = {"connection", "keep-alive", "transfer-encoding"}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a server; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def having(self, body: bytes | None = None, *, status: int | None = None, **headers: str | None) -> Answer:
        """Return the answer with another body or status, and other headers; ``None`` leaves a header out."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            changed.setdefault("content-length", str(len(body)))
        told = {**self.headers, **changed}
        return replace(
            self,
            status=self.status if status is None else status,
            headers={name: value for name, value in told.items() if value is not None},
            body=self.body if body is None else body,
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, and what it means."""

    method: str
    #: As the client sent it, with the query.
    target: str
    headers: Mapping[str, str]
    body: bytes
    #: ``GET``, ``HEAD``, ``LIST``, ``PUT``, ``COPY``, ``PART``, ``COMPLETE``, ``DELETE`` or ``OTHER``.
    call: str
    bucket: str
    key: str
    #: Of a part, from 1; else 0.
    part: int = 0

    def to(self, key: str) -> Request:
        """Return the same for another key. Not every server takes its signature then."""
        target = self.target.replace(quote(self.key), quote(key), 1)
        return replace(self, key=key, target=target)


@dataclass
class Liar:
    """A running proxy. It tells the truth until ``lie`` is set."""

    endpoint: str
    upstream: int
    #: Content of each object of the source by key; the other body of a lie is that of the next one.
    contents: Mapping[str, bytes] = field(default_factory=dict)
    #: Buckets by side.
    buckets: Mapping[str, str] = field(default_factory=dict)
    #: Writes other content to an object of the source, as the application does.
    rewrite: Callable[[str], None] = lambda _: None
    #: Removes an object of the destination, as a store does that loses it.
    remove: Callable[[str], None] = lambda _: None
    #: Keeps other bytes at the destination.
    put: Callable[[str, bytes], None] = lambda *_: None
    #: The keys of the source in order, each with its entry in a ListObjectsV2, as the store has them now.
    entries: Callable[[], list[tuple[str, str]]] = list
    lie: Lie | None = None
    #: The keys about which it lies.
    chosen: frozenset[str] = frozenset()
    #: How often it lied, by call.
    told: Counter[str] = field(default_factory=Counter)
    #: How often each call for objects of ``contents`` came, by call and bucket.
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: What a lie remembers, by key.
    memory: dict[str, Answer] = field(default_factory=dict)
    rewritten: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def other(self, key: str) -> bytes:
        """Return the content of another object."""
        keys = sorted(self.contents)
        return self.contents[keys[(keys.index(key) + 1) % len(keys)]]

    def forward(self, request: Request) -> Answer:
        """Ask the server."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.upstream, timeout=60)) as upstream:
            upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in _HOP | {"content-length"}:
                    upstream.putheader(name, value)
            if request.body or request.method in ("PUT", "POST"):
                upstream.putheader("content-length", str(len(request.body)))
            upstream.endheaders(request.body or None)
            answer = upstream.getresponse()
            body = answer.read()
            headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _HOP}
            if request.method != "HEAD":
                headers["content-length"] = str(len(body))
            return Answer(status=answer.status, headers=headers, body=body)

    def rewrite_once(self, key: str) -> None:
        """Let the application write other content to an object of the source, if it has not yet."""
        with self.lock:
            if key not in self.rewritten:
                self.rewritten.add(key)
                self.rewrite(key)

    def answer(self, request: Request) -> Answer:
        """Answer a request: by a lie where there is one about it."""
        lie = self.lie
        if request.key in self.contents:
            with self.lock:
                self.seen[request.call, request.bucket] += 1
        if lie is None:
            return self.forward(request)
        elsewhere = lie.side != "both" and request.bucket != self.buckets[lie.side]
        if request.call not in lie.calls or elsewhere:
            answer = self.forward(request)
        elif request.call == "LIST" or request.key in self.chosen or lie.of_all_keys:
            answer = lie.tell(self, request)
            self.told[request.call] += 1
        else:
            answer = self.forward(request)
        written = request.call in ("PUT", "COPY") and request.bucket == self.buckets["destination"]
        if lie.rewrites and written and request.key in self.chosen:
            self.rewrite_once(request.key)
        return answer


def _read_request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    path = unquote(url.path).lstrip("/").removeprefix("devstoreaccount1/")
    if media := _GCS_MEDIA.match(url.path):
        path = f"{media[1]}/{unquote(media[2])}"
    bucket, _, key = path.partition("/")
    part = int(query.get("partNumber", ["0"])[0])
    if "x-amz-copy-source" in headers:
        call = "COPY"
    elif not key or query.get("comp") == ["list"]:
        call = "LIST" if method == "GET" else "OTHER"
    elif part:
        call = "PART"
    elif "uploadId" in query and method == "POST":
        call = "COMPLETE"
    elif set(query) & {"uploads", "uploadId", "comp"} or method == "POST":
        call = "OTHER"
    else:
        call = method
    return Request(
        method=method, target=target, headers=headers, body=body, call=call, bucket=bucket, key=key, part=part
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *said: object) -> None:
        """Keep quiet."""

    def _handle(self) -> None:
        if self.headers.get("expect", "").lower() == "100-continue":
            self.headers.replace_header("expect", "")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items() if value}
        answer = self.server.liar.answer(_read_request(self.command, self.path, headers, body))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "content-length" not in answer.headers and answer.status not in (204, 304):
            self.send_header("content-length", "0")
        self.end_headers()
        if self.command != "HEAD" and answer.status not in (204, 304):
            # A client that has read enough closes the connection.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    liar: Liar


@contextlib.contextmanager
def lying_proxy(upstream: int) -> Iterator[Liar]:
    """A proxy before the server on port ``upstream`` of loopback."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.liar = Liar(endpoint=f"http://127.0.0.1:{server.server_address[1]}", upstream=upstream)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.liar
        finally:
            server.shutdown()
            thread.join()


ENTRY = re.compile(rb"<(Contents|Blob)>.*?</\1>", re.DOTALL)
"""One object in the answer to a LIST."""


def entry_key(entry: bytes) -> str:
    """Return the key of an entry of a listing."""
    found = re.search(rb"<(?:Key|Name)>(.*?)</", entry)
    return found[1].decode() if found else ""
