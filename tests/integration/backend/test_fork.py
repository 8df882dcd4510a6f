"""Under prefork it works where it can, and where it cannot it says so at once: never does it hang."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from migrate_storage.stores.fork_guard import ForkedAfterUseError
from tests.support import ROOT
from tests.support.backend.processes import running_process
from tests.support.servers import S3Server
from tests.support.services import free_port


@pytest.fixture
def store(rclone_s3: S3Server) -> dict[str, Any]:
    return {
        "url": f"s3://{rclone_s3.new_bucket()}/",
        "aws_endpoint": rclone_s3.endpoint,
        "aws_access_key_id": rclone_s3.key,
        "aws_secret_access_key": rclone_s3.secret,
        "aws_region": rclone_s3.region,
    }


def _answer_when_up(url: str, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        try:
            answer: dict[str, Any] = httpx.get(url, timeout=60).json()
            return answer
        except httpx.ConnectError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@pytest.mark.parametrize("used_before", [False, True], ids=["constructed before", "used before"])
def test_gunicorn_preload(store: dict[str, Any], tmp_path: Path, used_before: bool) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "-w",
        "2",
        "-b",
        f"127.0.0.1:{port}",
        "tests.support.backend.forking",
    ]
    environment = {"STORE": json.dumps(store), "USE_BEFORE_FORK": "1" if used_before else ""}
    with running_process(command, environment, tmp_path / "log") as master:
        answer = _answer_when_up(f"http://127.0.0.1:{port}/?hello", tmp_path / "log")
        assert answer.pop("pid") != master.pid
    if used_before:
        assert "before this process was forked" in answer["error"]
        assert "spawn" in answer["error"]
    else:
        assert answer == {"content": "hello"}


@pytest.mark.parametrize("used_before", [False, True], ids=["constructed before", "used before"])
def test_celery_prefork(
    store: dict[str, Any], tmp_path: Path, used_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery import Celery

    for name in ("queue", "results", "control"):
        (tmp_path / name).mkdir()
    environment = {
        "STORE": json.dumps(store),
        "USE_BEFORE_FORK": "1" if used_before else "",
        "CELERY_FOLDER": str(tmp_path),
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.support.backend.forking:app",
        "worker",
        "--pool",
        "prefork",
        "-c",
        "1",
    ]
    client = Celery("client", broker="filesystem://", backend=(tmp_path / "results").as_uri())
    client.conf.broker_transport_options = {
        "data_folder_in": str(tmp_path / "queue"),
        "data_folder_out": str(tmp_path / "queue"),
        "control_folder": str(tmp_path / "control"),
    }
    with running_process(
        [*command, "-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat"],
        environment,
        tmp_path / "log",
    ) as parent:
        answer = json.loads(client.send_task("save", ["from celery"]).get(timeout=60))
        assert answer.pop("pid") != parent.pid
    if used_before:
        assert "before this process was forked" in answer["error"]
    else:
        assert answer == {"content": "from celery"}


def _in_fork(job: Any) -> Any:
    """The result of a job in a forked child, or its error; a child that hangs fails the test."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                result = job()
            except Exception as error:
                result = error
            os.write(writing, pickle.dumps(result))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with socket.socket() as _:
            import select

            assert select.select([reading], [], [], 20)[0], "the child hangs"
            return pickle.loads(os.read(reading, 65536))
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


async def test_every_operation_raises_at_once_in_a_child(tmp_path: Path) -> None:
    backend = ObstoreBackend("k", tmp_path)
    FileObject(backend=backend, filename="a").save(b"1")

    def job() -> list[str]:
        raised: list[str] = []
        for call in (
            lambda: backend.get_content("a"),
            lambda: backend.head("a"),
            lambda: backend.exists("a"),
            lambda: list(backend.list()),
            lambda: list(backend.stream("a")),
            lambda: backend.open("a"),
            lambda: backend.attributes("a"),
            lambda: backend.copy("a", "b"),
            lambda: backend.move("a", "b"),
            lambda: backend.delete_object("a"),
            lambda: backend.delete_object(["a", "b"]),
            lambda: FileObject(backend=backend, filename="a").save(b"2"),
            # A new store is no better: the runtime is one for the whole process.
            lambda: ObstoreBackend("new", "s3://b", region="r", access_key_id="k", secret_access_key="s").sign("a"),
            lambda: ObstoreBackend("new", "memory://").exists("a"),
        ):
            try:
                call()
            except ForkedAfterUseError:
                raised.append("at once")
        return raised

    assert _in_fork(job) == ["at once"] * 14
    assert backend.get_content("a") == b"1"


def test_whoever_used_obstore_before_the_fork() -> None:
    """Upstream's backend or a store of the application's own, in a process of its own so that nothing else used it."""
    script = """
import glob, os, sys
from obstore.store import MemoryStore
from migrate_storage import ObstoreBackend
if sys.argv[1] == "used":
    MemoryStore().put("a", b"1")
    # The threads name themselves, a moment after they were started.
    while not any(open(name).read().startswith("tokio-") for name in glob.glob("/proc/self/task/*/comm")):
        pass
pid = os.fork()
if pid == 0:
    try:
        print(ObstoreBackend("k", "memory://").exists("a"))
    except RuntimeError as error:
        print(type(error).__name__)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
"""
    for how, says in {"used": "ForkedAfterUseError", "not": "False"}.items():
        done = subprocess.run([sys.executable, "-c", script, how], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == says, done.stderr


def _save(backend: ObstoreBackend, name: str) -> None:
    FileObject(backend=backend, filename=name).save(b"spawned")


def test_a_spawned_child_works(tmp_path: Path) -> None:
    backend = ObstoreBackend("k", tmp_path)
    assert backend.exists("spawned") is False
    child = multiprocessing.get_context("spawn").Process(target=_save, args=(backend, "spawned"))
    child.start()
    child.join(60)
    assert backend.get_content("spawned") == b"spawned"


def test_a_process_that_ends_right_after_an_operation_ends_well() -> None:
    """obstore's threads may still hold a result when the interpreter goes, and then abort the process."""
    script = """
import asyncio
from migrate_storage import ObstoreBackend
asyncio.run(ObstoreBackend("k", "memory://").exists_async("a"))
"""
    running = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4
