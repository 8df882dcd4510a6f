"""Processes of Python that are forked from one that has imported everything; they are used as ``subprocess.Popen`` is."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support import ROOT
from tests.support.processes.fork_server import LONGEST_REQUEST


@functools.cache
def server() -> tuple[str, subprocess.Popen[bytes]]:
    """Start the server of this test process, which ends with it; return the path of its socket too."""
    path = str(Path(tempfile.mkdtemp(prefix="fork-server-")) / "socket")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes.fork_server", path],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE,
    )  # fmt: skip
    return path, process


class ForkedProcess:
    """A process that runs ``python ARGUMENTS``.

    Args:
        arguments: of Python: ``-m MODULE …``, ``-c PROGRAM …`` or a file.
        environment: the whole environment of the process.
        folder: its working directory.
        output: an open file for both outputs; without it each is a pipe.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: IO[Any] | None = None
    ) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self._lock = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"arguments": self.args, "environment": dict(environment), "folder": str(folder)}
        with contextlib.ExitStack() as stack:
            given = [stack.enter_context(open(os.devnull)).fileno()]
            if output is None:
                for name in ("stdout", "stderr"):
                    reading, writing = os.pipe()
                    setattr(self, name, open(reading))  # noqa: SIM115 - the owner closes it
                    stack.callback(os.close, writing)
                    given.append(writing)
            else:
                given += [output.fileno()] * 2
            self._connect()
            message = json.dumps(request).encode()
            assert len(message) < LONGEST_REQUEST
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
            socket.send_fds(self._server, [message], given)
        self.pid = self._answer()

    def _connect(self) -> None:
        path, process = server()
        while True:
            try:
                return self._server.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                assert process.poll() is None, "the server that forks has ended"
                time.sleep(0.01)

    def _answer(self) -> int:
        answer = self._server.recv(8)
        assert answer, "the server that forks is gone"
        return int.from_bytes(answer, "little")

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe:
                pipe.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, at most ``timeout`` seconds."""
        with self._lock:
            if self.returncode is None:
                with selectors.DefaultSelector() as selector:
                    selector.register(self._server, selectors.EVENT_READ)
                    if not selector.select(timeout):
                        raise subprocess.TimeoutExpired(self.args, timeout or 0)
                self.returncode = os.waitstatus_to_exitcode(self._answer())
                self._server.close()
            return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both outputs to their ends, and wait for the process."""
        deadline = None if timeout is None else time.monotonic() + timeout
        parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        readers = [
            threading.Thread(target=lambda name=name: parts[name].append(getattr(self, name).read()), daemon=True)
            for name in parts
            if getattr(self, name)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return "".join(parts["stdout"]), "".join(parts["stderr"])

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end; after ``timeout`` seconds it prints where it is, as it hangs, and fails the test."""
    process = ForkedProcess(arguments, environment, folder)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        raise
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


_COMMAND = """#!{python} -IS
import json, os, signal, socket, sys

server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({path!r})
server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {longest})
program = "import sys; from migrate_storage.__main__ import main; sys.argv[0] = {program!r}; sys.exit(main())"
request = dict(arguments=["-c", program, *sys.argv[1:]], environment=dict(os.environ), folder=os.getcwd())
socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
pid = int.from_bytes(server.recv(8), "little")
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = os.waitstatus_to_exitcode(int.from_bytes(server.recv(8), "little"))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def write_command(folder: Path) -> None:
    """Write a program ``migrate-storage`` into a folder, for shells: it has the command forked, and forwards signals to it."""
    path, process = server()
    while not Path(path).exists():
        assert process.poll() is None, "the server that forks has ended"
        time.sleep(0.01)
    program = folder / "migrate-storage"
    program.write_text(_COMMAND.format(python=sys.executable, path=path, program=str(program), longest=LONGEST_REQUEST))
    program.chmod(0o755)
