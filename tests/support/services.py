"""The real servers of the tests, as processes on loopback: how each is started, and which are shared.

``scripts/services`` is the command line of this module. Shared servers outlive a test run and are used by every worker;
``.services/state.json`` has their addresses. Private ones, for tests that break them, come from :func:`launched`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tests.support.recipes import HOME, HOST, RECIPES, Recipe, ServiceError, answers, owner

STATE = HOME / "state.json"


@dataclass(frozen=True, kw_only=True)
class Service:
    """One running server process."""

    name: str
    port: int
    pid: int
    #: The start time of the process by the kernel's clock: a process id may be used again.
    born: float
    #: Holds the server's data and its ``log``.
    directory: str
    credentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def process(self) -> psutil.Process | None:
        """The process, or None once it is gone."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.born) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def alive(self) -> bool:
        return self.process is not None and answers(self.port)

    def stop(self, *, patience: float = 15) -> None:
        """Ask the process to end, and end it after ``patience`` seconds. Its directory stays."""
        process = self.process
        if process is None:
            return
        # PostgreSQL takes SIGTERM as "wait for all clients to leave", and SIGINT as "now".
        process.send_signal(signal.SIGINT if self.name == "postgres" else signal.SIGTERM)
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process as a crash would."""
        process = self.process
        if process is None:
            return
        # PostgreSQL's children outlive their parent for a moment, and lock files that a new server needs.
        processes = [process, *process.children(recursive=True)]
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(processes, timeout=15)


def free_port() -> int:
    """Return a port on which no process listens at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def launch(name: str, directory: Path, *, port: int | None = None) -> Service:
    """Start one server on its own and wait until it answers.

    Args:
        name: A key of :data:`RECIPES`.
        directory: Holds its data; a directory that an earlier server of the kind left is taken up again.
        port: Where to listen; None for any free port.

    Raises:
        ServiceError: when it is not installed, or ends or stays silent instead of listening within 60 seconds.
    """
    recipe = RECIPES[name]
    directory.mkdir(parents=True, exist_ok=True)
    user = owner(recipe.user)
    if user:
        try:
            os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
        except KeyError:
            raise ServiceError(f"{name} needs the system user {user}: apt-get install postgresql makes it") from None
    if not (directory / "data").exists():
        recipe.prepare(directory)
    if port and answers(port):
        raise ServiceError(f"{name} cannot listen on {HOST}:{port}: another process does")
    # Another process may take a free port before the server listens on it: then choose again.
    for attempt in range(3):
        chosen = port or free_port()
        service = _spawn(name, recipe, directory, chosen)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and service.process is not None:
            if recipe.ready(chosen) and service.process is not None:
                return service
            time.sleep(0.05)
        service.kill()
        if port or attempt == 2:
            break
    said = (directory / "log").read_text(errors="replace")[-1000:].strip()
    raise ServiceError(f"{name} did not start to listen on {HOST}:{chosen}; it said: {said or 'nothing'}")


_children: list[subprocess.Popen[bytes]] = []


def _spawn(name: str, recipe: Recipe, directory: Path, port: int) -> Service:
    with (directory / "log").open("ab") as log:
        child = subprocess.Popen(
            recipe.command(directory, port),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=owner(recipe.user),
            # Ctrl-C is for the tests, not for the servers.
            start_new_session=True,
        )
    # Kept, so that a child which has ended is reaped and not taken for alive.
    _children.append(child)
    try:
        born = psutil.Process(child.pid).create_time()
    except psutil.Error:
        born = 0.0
    return Service(
        name=name, port=port, pid=child.pid, born=born, directory=str(directory), credentials=recipe.credentials
    )


@contextlib.contextmanager
def launched(name: str, directory: Path, *, port: int | None = None) -> Iterator[Service]:
    """A private server, for a test that breaks it; stopped at the end unless the test did so before."""
    service = launch(name, directory, port=port)
    try:
        yield service
    finally:
        service.stop()


def ensure(name: str) -> Service:
    """The shared server of this name: the running one, or a fresh one. Safe to call from many processes at once."""
    with _locked() as services:
        known = services.get(name)
        if known is not None and known.alive:
            return known
        if known is not None:
            _discard(known)
        # Short, because a socket's path may have 107 bytes; outside the tree, because another user must reach it.
        directory = Path(tempfile.mkdtemp(prefix=f"ms-{name}-"))
        directory.chmod(0o755)
        try:
            services[name] = launch(name, directory)
        except ServiceError:
            services.pop(name, None)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return services[name]


def running() -> dict[str, Service]:
    """The shared servers that are alive."""
    with _locked() as services:
        return {name: service for name, service in services.items() if service.alive}


def stop() -> list[str]:
    """Stop the shared servers, and remove their data. Returns their names."""
    with _locked() as services:
        names = list(services)
        for name in names:
            _discard(services.pop(name))
    return names


def _discard(service: Service) -> None:
    service.stop()
    shutil.rmtree(service.directory, ignore_errors=True)


@contextlib.contextmanager
def _locked() -> Iterator[dict[str, Service]]:
    """Lock the state file, yield its content, and write it back."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = json.loads(STATE.read_text()) if STATE.exists() else {}
        services = {name: Service(**values) for name, values in before.items()}
        try:
            yield services
        finally:
            draft = STATE.with_suffix(".new")
            draft.write_text(json.dumps({name: asdict(service) for name, service in services.items()}, indent=2))
            draft.replace(STATE)


def main(arguments: list[str]) -> int:
    """``start [NAME…]`` (the default), ``status`` or ``stop``."""
    command, *names = arguments or ["start"]
    if command == "stop":
        print(f"stopped: {', '.join(stop()) or 'nothing was running'}")
    elif command == "status":
        for service in running().values():
            print(f"{service.name:10} {HOST}:{service.port}  pid {service.pid}  {service.directory}")
    elif command == "start":
        unknown = set(names) - set(RECIPES)
        if unknown:
            print(f"no such server: {', '.join(sorted(unknown))}; known are {', '.join(RECIPES)}", file=sys.stderr)
            return 2
        for name in names or [name for name, recipe in RECIPES.items() if recipe.shared]:
            try:
                service = ensure(name)
            except ServiceError as error:
                print(error, file=sys.stderr)
                return 1
            print(f"{name:10} {HOST}:{service.port}")
    else:
        print(f"no such command: {command}; there are start, status and stop", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
