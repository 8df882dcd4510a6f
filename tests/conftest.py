"""The servers as fixtures. A server that cannot be started fails its tests; it never skips them."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# gcsfs would try gRPC for a minute before each call; it reads this when it is imported.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

import pytest

from tests.support import services
from tests.support.servers import AzureServer, DatabaseServer, GCSServer, S3Server, gcs_server

# Tests start many processes of Python: none has to compile again what another one did.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = [
    "tests.support.evidence",
    "tests.support.cli.project",
    "tests.support.cutover.fixtures",
    "tests.support.distributed.sites",
    "tests.support.engine.fixtures",
    "tests.support.reporting.journaled",
    "tests.support.sync.fixtures",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test makes the run fail")
    parser.addoption("--store", metavar="URL", help="run only the tests of a store, on this one of your own")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of a store of one's own run when there is one, and then they alone."""
    wanted = bool(config.getoption("--store"))
    dropped = [item for item in items if ("store_url" in getattr(item, "fixturenames", ())) is not wanted]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture(scope="session")
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL after ``--store``."""
    return str(request.config.getoption("--store"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and session.config.getoption("--no-skips") and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} tests were skipped, and --no-skips was given", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _ensure(name: str) -> services.Service:
    try:
        return services.ensure(name)
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def rclone_s3() -> S3Server:
    """rclone: fast, checks signatures; no ranges, no conditional put."""
    return S3Server.of(_ensure("rclone"))


@pytest.fixture(scope="session")
def moto_s3() -> S3Server:
    """moto: metadata, versions, conditional put, ranges; slow, checks no signature."""
    return S3Server.of(_ensure("moto"))


@pytest.fixture(scope="session")
def azurite() -> AzureServer:
    """Azure Blob Storage."""
    return AzureServer.of(_ensure("azurite"))


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GCSServer]:
    """Google Cloud Storage."""
    with gcs_server(_ensure("gcs"), tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh PostgreSQL database."""
    with DatabaseServer(service=_ensure("postgres")).database() as url:
        yield url


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    """A fresh MariaDB database."""
    with DatabaseServer(service=_ensure("mariadb")).database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file."""
    return f"sqlite:///{tmp_path / 'app.db'}"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def small_disk() -> Iterator[Callable[[int | None], None]]:
    """Sets how large a file may become, as a disk that runs full does to each write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, before if limit is None else (limit, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
