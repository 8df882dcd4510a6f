"""Stands before an S3 server that checks no signature, gives a bucket a second name or a fallback bucket, and refuses to be written to.

Access points, gateways and mounts show one bucket under two names; credentials often may read only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass
class AliasShim:
    """A running shim."""

    endpoint: str
    #: The second name of a bucket, and its own name with a prefix.
    alias: str = ""
    bucket: str = ""
    #: Buckets in which it finds what a bucket lacks.
    fallback: dict[str, str] = field(default_factory=dict)
    #: Whether PUT, POST and DELETE are forbidden.
    read_only: bool = False
    #: PUTs that came.
    puts: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *said: object) -> None:
        """Keep quiet."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        shim = self.server.shim
        shim.puts += self.command == "PUT"
        if shim.read_only and self.command in ("PUT", "POST", "DELETE"):
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", {})
            return
        path = self.path
        if shim.alias and f"{path}/".startswith((f"/{shim.alias}/", f"/{shim.alias}?")):
            path = f"/{shim.bucket}{path[len(shim.alias) + 1 :]}"
        status, content, headers = self._ask(path, body)
        bucket, _, key = path.lstrip("/").partition("/")
        if status == 404 and self.command in ("GET", "HEAD") and bucket in shim.fallback:
            status, content, headers = self._ask(f"/{shim.fallback[bucket]}/{key}", body)
        self._answer(status, content, headers)

    def _ask(self, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)) as upstream:
            upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP | {"content-length"}:
                self.send_header(name, value)
        length = headers.get("content-length", headers.get("Content-Length")) if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    shim: AliasShim
    upstream: int


@contextlib.contextmanager
def alias_shim(upstream: int, *, alias: str = "", bucket: str = "", read_only: bool = False) -> Iterator[AliasShim]:
    """Start a shim before the server on a port of loopback.

    Args:
        upstream: the port.
        alias: the second name of a bucket.
        bucket: the bucket, with a prefix below which the second name leads, if any.
        read_only: whether writes are forbidden.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.shim = AliasShim(f"http://127.0.0.1:{server.server_port}", alias=alias, bucket=bucket, read_only=read_only)
    server.upstream = upstream
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.shim
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
