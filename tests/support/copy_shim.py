"""Stands before an S3 server and does with copies what vendors do and no server here does.

It refuses a copy with ``If-None-Match: *`` onto an existing object (as Amazon documents for CopyObject), refuses copies of some
keys as a missing right does, and counts all. It also answers as Amazon does where an ``x-amz-`` header is not signed. All else
passes through as it is.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass
class CopyShim:
    """A running shim."""

    endpoint: str
    #: Honour ``If-None-Match: *`` with a copy; else the header is not passed on.
    refuses: bool
    #: Copies whose target this finds are forbidden.
    denied: str = r"(?!)"
    #: Copies by how they ended: ``done``, ``exists``, ``denied``, ``unsigned``.
    copies: Counter[str] = field(default_factory=Counter)


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
            if shim.refuses and self.headers.get("if-none-match") == "*" and self._stands():
                return self._refuse("exists", 412, "PreconditionFailed")
            shim.copies["done"] += 1
        return self._pass(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _stands(self) -> bool:
        # The server behind checks no signature, so any HEAD serves.
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)) as upstream:
            upstream.request("HEAD", self.path, headers={"Authorization": self.headers.get("authorization", "")})
            return upstream.getresponse().status == 200

    def _refuse(self, how: str, status: int, code: str) -> None:
        self.server.shim.copies[how] += 1
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode(), {})

    def _pass(self, body: bytes) -> None:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                copied = "x-amz-copy-source" in self.headers and name.lower() == "if-none-match"
                if name.lower() not in _HOP and not copied:
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
def copy_shim(upstream: int, *, refuses: bool) -> Iterator[CopyShim]:
    """A shim before the server on port ``upstream`` of loopback."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.upstream = upstream
        server.shim = CopyShim(endpoint=f"http://127.0.0.1:{server.server_address[1]}", refuses=refuses)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.shim
        finally:
            server.shutdown()
            thread.join()
