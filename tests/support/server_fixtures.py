"""The servers as fixtures. A server that cannot be started fails its tests; it never skips them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import services
from tests.support.servers import AzureServer, DatabaseServer, GCSServer, S3Server, gcs_server


def ensure_service(name: str) -> services.Service:
    """Return a shared server, started if need be; fail the test if it cannot be started."""
    try:
        return services.ensure(name)
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def rclone_s3() -> S3Server:
    """rclone: fast, checks signatures; no ranges, no conditional put."""
    return S3Server.of(ensure_service("rclone"))


@pytest.fixture(scope="session")
def moto_s3() -> S3Server:
    """moto: metadata, versions, conditional put, ranges; slow, checks no signature."""
    return S3Server.of(ensure_service("moto"))


@pytest.fixture(scope="session")
def azurite() -> AzureServer:
    """Azure Blob Storage."""
    return AzureServer.of(ensure_service("azurite"))


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GCSServer]:
    """Google Cloud Storage."""
    with gcs_server(ensure_service("gcs"), tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh PostgreSQL database."""
    with DatabaseServer(service=ensure_service("postgres")).database() as url:
        yield url


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    """A fresh MariaDB database."""
    with DatabaseServer(service=ensure_service("mariadb")).database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file."""
    return f"sqlite:///{tmp_path / 'app.db'}"


@pytest.fixture
def duckdb_url(tmp_path: Path) -> str:
    """A fresh DuckDB file. One process at a time can open it."""
    return f"duckdb:///{tmp_path / 'app.duckdb'}"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn that several processes can open."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb"])
def any_database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of every kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))
