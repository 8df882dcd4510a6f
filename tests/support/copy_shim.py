"""Stands before an S3 server and does with conditional writes what vendors do and no server here does.

It refuses a copy with ``If-None-Match: *`` onto an existing object (as Amazon documents for CopyObject), or answers a conditional
PUT or copy in one of the other ways that services are known for. It refuses copies of some keys as a missing right does, and
counts all. It also answers as Amazon does where an ``x-amz-`` header is not signed. All else passes through as it is.
"""

from __future__ import annotations

import contextlib
import enum
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from migrate_storage.engine.probe import SCRATCH

_HOP = {"connection", "keep-alive", "transfer-encoding"}


class Answer(enum.StrEnum):
    """How a service answers a PUT or a copy with ``If-None-Match: *``."""

    HONOURED = "honoured"
    """412 where there is an object."""
    IGNORED = "ignored"
    """As if the header had not been sent."""
    REFUSED = "refused always"
    """412, whatever there is. So does a service that applies the condition of a copy to its source."""
    NOT_IMPLEMENTED = "501"
    BAD_REQUEST = "400"
    CONFLICT = "409 once"
    """409 for the first request of each key (Amazon: ConditionalRequestConflict), then honoured."""
    RACE = "412 once"
    """412 for the first request of each key, as if another process had deleted the object since, then honoured."""


@dataclass
class CopyShim:
    """A running shim."""

    endpoint: str
    put: Answer = Answer.HONOURED
    copy: Answer = Answer.IGNORED
    #: Whether keys of probes get honest answers, so that only the run meets the others.
    honest_to_probes: bool = False
    #: The status of the answer to DeleteObjects; ``None`` passes it through.
    bulk_delete: int | None = None
    #: DELETE requests.
    deletes: int = 0
    #: Requests that had a condition, ``(method, path)``, each once.
    seen: set[tuple[bool, str]] = field(default_factory=set)
    #: Copies whose target this finds are forbidden.
    denied: str = r"(?!)"
    #: Whether a copy that keeps its source's metadata loses it.
    drops_metadata: bool = False
    #: Copies by how they ended: ``done``, ``exists``, ``failed``, ``denied``, ``unsigned``, ``without metadata``.
    copies: Counter[str] = field(default_factory=Counter)
    #: The same of refused PUTs.
    puts: Counter[str] = field(default_factory=Counter)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *said: object) -> None:
        """Keep quiet."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        shim = self.server.shim
        if "x-amz-copy-source" in self.headers:
            signed = re.search("SignedHeaders=([^,]*)", self.headers.get("authorization", ""))
            told = set(signed[1].split(";")) if signed else set()
            if any(name.lower().startswith("x-amz-") and name.lower() not in told for name in self.headers):
                return self._refuse("unsigned", 403, "AccessDenied")
            if re.search(shim.denied, self.path):
                return self._refuse("denied", 403, "AccessDenied")
        if self.command == "PUT" and self.headers.get("if-none-match") == "*" and self._refuses_condition():
            return None
        if self.command == "POST" and self.path.endswith("?delete") and shim.bulk_delete is not None:
            return self._answer(shim.bulk_delete, b"<Error><Code>NotImplemented</Code></Error>", {})
        shim.deletes += self.command == "DELETE"
        if "x-amz-copy-source" in self.headers:
            self._drop_metadata()
            shim.copies["done"] += 1
        return self._pass(body)

    def _drop_metadata(self) -> None:
        """Copy with the headers of the source alone."""
        if not self.server.shim.drops_metadata or "x-amz-metadata-directive" in self.headers:
            return
        source = self._ask("/" + self.headers["x-amz-copy-source"].removeprefix("/"))
        if any(name.startswith("x-amz-meta-") for name in source):
            self.server.shim.copies["without metadata"] += SCRATCH not in self.path
            self.headers["x-amz-metadata-directive"] = "REPLACE"
            self.headers["content-type"] = source["content-type"]

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _refuses_condition(self) -> bool:
        """Answer a conditional write that is refused; the condition is not passed on with others."""
        shim, is_copy = self.server.shim, "x-amz-copy-source" in self.headers
        answer = shim.copy if is_copy else shim.put
        if shim.honest_to_probes and SCRATCH in self.path:
            answer = Answer.HONOURED
        first = (is_copy, self.path) not in shim.seen
        shim.seen.add((is_copy, self.path))
        if answer is Answer.NOT_IMPLEMENTED:
            self._refuse("failed", 501, "NotImplemented")
        elif answer is Answer.BAD_REQUEST:
            self._refuse("failed", 400, "InvalidArgument")
        elif answer is Answer.CONFLICT and first:
            self._refuse("exists", 409, "ConditionalRequestConflict")
        elif (
            answer is Answer.REFUSED
            or (answer is Answer.RACE and first)
            or (answer is not Answer.IGNORED and self._stands())
        ):
            self._refuse("exists", 412, "PreconditionFailed")
        else:
            return False
        return True

    def _stands(self) -> bool:
        return bool(self._ask(self.path))

    def _ask(self, path: str) -> dict[str, str]:
        """Return the headers of an object; none where there is none."""
        # The server behind checks no signature, so any HEAD serves.
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)) as upstream:
            upstream.request("HEAD", path, headers={"Authorization": self.headers.get("authorization", "")})
            answer = upstream.getresponse()
            return {name.lower(): value for name, value in answer.getheaders()} if answer.status == 200 else {}

    def _refuse(self, how: str, status: int, code: str) -> None:
        shim = self.server.shim
        (shim.copies if "x-amz-copy-source" in self.headers else shim.puts)[how] += 1
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode(), {})

    def _pass(self, body: bytes) -> None:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                condition = self.command == "PUT" and name.lower() == "if-none-match"
                if name.lower() not in _HOP and not condition:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            content = answer.read()
            self._answer(answer.status, content, dict(answer.getheaders()))

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", headers.get("content-length", str(len(content))))
        for name, value in headers.items():
            if name.lower() not in _HOP | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    upstream: int
    shim: CopyShim


@contextlib.contextmanager
def copy_shim(upstream: int, **answers: Any) -> Iterator[CopyShim]:
    """A shim before the server on port ``upstream`` of loopback.

    Args:
        upstream: the port.
        answers: fields of :class:`CopyShim`.
    """
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.upstream = upstream
        server.shim = CopyShim(endpoint=f"http://127.0.0.1:{server.server_address[1]}", **answers)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.shim
        finally:
            server.shutdown()
            thread.join()
