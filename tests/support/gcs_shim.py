"""Stands before fake-gcs-server and translates the writes of obstore into ones that it understands.

obstore writes to Google by the XML API; fake-gcs-server takes writes by the JSON API only. Reads, listings and deletes
pass through as they are. The multipart uploads, being held here until they are completed, prove no more about Google
than this reading of its documentation: https://cloud.google.com/storage/docs/xml-api/post-object-multipart
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


class _Upload:
    def __init__(self, fields: dict[str, object]) -> None:
        self.fields = fields
        self.parts: dict[int, bytes] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *said: object) -> None:
        """Keep quiet."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        bucket, _, name = unquote(url.path).lstrip("/").partition("/")
        writes = self.command in {"PUT", "POST"} and not url.path.startswith(("/storage/v1", "/upload/", "/download/"))
        if url.path == "/token":
            # The answer of Google's OAuth server to a service account; fake-gcs-server checks no token.
            self._answer(200, b'{"access_token": "test", "expires_in": 3600}', {"Content-Type": "application/json"})
        elif not writes and "uploadId" not in query:
            self._pass(self.path, self.command, body, self.headers)
        elif "uploads" in query:
            upload = uuid.uuid4().hex
            self.server.uploads[upload] = _Upload(self._fields(name))
            self._xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        elif "partNumber" in query:
            number = int(query["partNumber"][0])
            self.server.uploads[query["uploadId"][0]].parts[number] = body
            self._answer(200, b"", {"ETag": f'"part-{number}"'})
        elif "uploadId" in query:
            held = self.server.uploads.pop(query["uploadId"][0])
            if self.command == "DELETE":
                self._answer(204, b"", {})
                return
            wanted = [
                int(node.text or 0) for node in ElementTree.fromstring(body).iter() if node.tag[-10:] == "PartNumber"
            ]
            # Google assembles what the client lists, in the order of its numbers.
            self._write(bucket, b"".join(held.parts[number] for number in sorted(wanted)), held.fields, multipart=True)
        elif source := self.headers.get("x-goog-copy-source"):
            self._copy(unquote(source).lstrip("/"), bucket, name)
        else:
            self._write(bucket, body, self._fields(name))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _fields(self, name: str) -> dict[str, object]:
        names = ("Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language")
        camel = {header: header[0].lower() + header[1:].replace("-", "") for header in names}
        fields: dict[str, object] = {camel[header]: self.headers[header] for header in names if header in self.headers}
        marker = "x-goog-meta-"
        fields["metadata"] = {
            key[len(marker) :].lower(): value for key, value in self.headers.items() if key.lower().startswith(marker)
        }
        return fields | {"name": name}

    def _condition(self) -> str:
        generation = self.headers.get("x-goog-if-generation-match")
        return f"&ifGenerationMatch={generation}" if generation is not None else ""

    def _write(self, bucket: str, content: bytes, fields: Mapping[str, object], *, multipart: bool = False) -> None:
        border = uuid.uuid4().hex
        kind = fields.get("contentType") or "application/octet-stream"
        body = b"\r\n".join(
            [
                f"--{border}\r\nContent-Type: application/json\r\n".encode(),
                json.dumps(fields).encode(),
                f"--{border}\r\nContent-Type: {kind}\r\n".encode(),
                content,
                f"--{border}--\r\n".encode(),
            ]
        )
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{self._condition()}"
        answer, told = self._ask("POST", path, body, {"Content-Type": f"multipart/related; boundary={border}"})
        if answer.status != 200:
            self._answer(answer.status, told, {})
            return
        made = json.loads(told)
        headers = {"ETag": f'"{str(made["etag"]).strip(chr(34))}"', "x-goog-generation": str(made["generation"])}
        if multipart:
            self._xml(
                f"<CompleteMultipartUploadResult><ETag>{headers['ETag']}</ETag></CompleteMultipartUploadResult>",
                headers,
            )
        else:
            self._answer(200, b"", headers)

    def _copy(self, source: str, bucket: str, name: str) -> None:
        from_bucket, _, from_name = source.partition("/")
        here, there = quote(from_name, safe=""), quote(name, safe="")
        if self._condition() == "&ifGenerationMatch=0":
            found, _told = self._ask("GET", f"/storage/v1/b/{bucket}/o/{there}", b"", {})
            if found.status == 200:
                self._answer(412, b"", {})
                return
        answer, told = self._ask(
            "POST", f"/storage/v1/b/{from_bucket}/o/{here}/rewriteTo/b/{bucket}/o/{there}", b"{}", {}
        )
        if answer.status == 200:
            self._xml("<CopyObjectResult></CopyObjectResult>")
        else:
            self._answer(answer.status, told, {})

    def _pass(self, path: str, method: str, body: bytes, headers: Mapping[str, str]) -> None:
        kept = {name: value for name, value in headers.items() if name.lower() not in _HOP}
        answer, told = self._ask(method, path, body, kept)
        back = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP | {"date", "server"}}
        if method == "HEAD":
            back["Content-Length"] = answer.getheader("content-length") or "0"
        self._answer(answer.status, told, back)

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, dict(headers))
            answer = connection.getresponse()
            return answer, answer.read()

    def _xml(self, text: str, headers: Mapping[str, str] | None = None) -> None:
        self._answer(200, text.encode(), {"Content-Type": "application/xml"} | dict(headers or {}))

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.uploads: dict[str, _Upload] = {}
        super().__init__(("127.0.0.1", 0), _Handler)


@contextlib.contextmanager
def gcs_shim(upstream: int) -> Iterator[int]:
    """Translate for the fake-gcs-server on port ``upstream``; yields the port to give to obstore."""
    server = _Server(upstream)
    thread = threading.Thread(target=server.serve_forever, name="gcs-shim", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
