"""A Litestar and a FastAPI application, really served: the guide's upload, signed upload URL and download."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from migrate_storage import ObstoreBackend
from tests.support.backend.processes import running_process
from tests.support.servers import S3Server
from tests.support.services import free_port


@pytest.fixture(params=["litestar", "fast"])
def application(
    request: pytest.FixtureRequest, rclone_s3: S3Server, tmp_path: Path
) -> Iterator[tuple[httpx.Client, ObstoreBackend]]:
    options = {
        "aws_endpoint": rclone_s3.endpoint,
        "aws_access_key_id": rclone_s3.key,
        "aws_secret_access_key": rclone_s3.secret,
        "aws_region": rclone_s3.region,
        "aws_allow_http": True,
    }
    url = f"s3://{rclone_s3.new_bucket()}/"
    port = free_port()
    environment = {
        "STORE": json.dumps({"url": url, **options}),
        "DATABASE": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
    }
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        f"tests.support.backend.apps:{request.param}",
        "--port",
        str(port),
    ]
    with (
        running_process(command, environment, tmp_path / "log") as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        _wait(client, process, tmp_path / "log")
        yield client, ObstoreBackend("check", url, **options)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        try:
            client.get("/")
        except httpx.ConnectError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


def test_upload_and_download(application: tuple[httpx.Client, ObstoreBackend]) -> None:
    client, backend = application
    content = os.urandom(3_000_000)
    # FastAPI's handler names its part "file"; Litestar's takes whatever there is.
    answer = client.post("/upload", files={"file": ("report.pdf", content, "application/pdf")})
    assert answer.status_code == 201 or answer.status_code == 200, answer.text
    document = answer.json()
    assert document["file"]["filename"] == "report.pdf"
    assert document["file"]["backend"] == "s3"
    # advanced-alchemy's asynchronous listener does not wait for its own upload.
    deadline = time.monotonic() + 120
    while not backend.exists("report.pdf"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert backend.attributes("report.pdf").content_type == "application/pdf"
    with client.stream("GET", f"/download/{document['id']}") as download:
        assert download.headers["content-type"].startswith("application/pdf")
        assert b"".join(download.iter_bytes()) == content


def test_a_client_uploads_to_a_signed_url(application: tuple[httpx.Client, ObstoreBackend]) -> None:
    client, backend = application
    answer = client.post("/upload-url", params={"filename": "by client.txt", "content_type": "text/plain"}).json()
    assert answer["filename"] == "by client.txt"
    assert answer["expires_in"] == 3600
    sent = httpx.put(answer["upload_url"], content=b"by the client itself", headers={"Content-Type": "text/plain"})
    assert sent.status_code == 200, sent.text
    assert backend.get_content("by client.txt") == b"by the client itself"
    assert backend.attributes("by client.txt").content_type == "text/plain"
