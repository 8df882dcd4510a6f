"""A server's address and credentials, and the stores and filesystems that a test opens on it."""

from __future__ import annotations

import contextlib
import json
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from obstore.store import AzureStore, GCSStore, S3Store

from tests.support.gcs_shim import gcs_shim
from tests.support.recipes import HOST, S3_REGION
from tests.support.services import Service, launched

__all__ = (
    "AzureServer",
    "DatabaseServer",
    "GCSServer",
    "S3Server",
    "gcs_server",
    "start_azurite",
    "start_gcs",
    "start_mariadb",
    "start_moto",
    "start_pgbouncer",
    "start_postgres",
    "start_rclone",
)


def fresh(prefix: str) -> str:
    """Return a name that was never used."""
    return f"{prefix}-{uuid.uuid4().hex[:16]}"


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """An S3 server."""

    endpoint: str
    key: str
    secret: str
    region: str = S3_REGION
    #: The process, for tests that break it; shared servers must not be broken.
    service: Service

    @classmethod
    def of(cls, service: Service) -> S3Server:
        return cls(
            endpoint=f"http://{HOST}:{service.port}",
            key=service.credentials["key"],
            secret=service.credentials["secret"],
            service=service,
        )

    def behind(self, endpoint: str) -> S3Server:
        """The same server, through a proxy."""
        return replace(self, endpoint=endpoint)

    @property
    def by_another_name(self) -> S3Server:
        """The same server under another name: bytes between the two names go through the client."""
        return self.behind(self.endpoint.replace(HOST, "localhost"))

    def options(self) -> dict[str, Any]:
        """The arguments of ``obstore.store.S3Store``, save the bucket."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.key,
            "secret_access_key": self.secret,
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": True},
        }

    @cached_property
    def client(self) -> Any:
        """A boto3 client: what obstore cannot do, such as making a bucket or listing uploads."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}),
        )

    def new_bucket(self, prefix: str = "b") -> str:
        """Make an empty bucket that no other test uses."""
        name = fresh(prefix)
        self.client.create_bucket(Bucket=name)
        return name

    def store(self, bucket: str, **more: Any) -> S3Store:
        return S3Store(bucket, **{**self.options(), **more})

    def fs_options(self) -> dict[str, Any]:
        """The arguments of ``s3fs.S3FileSystem``."""
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": self.region},
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        }

    def fs(self, **more: Any) -> Any:
        import s3fs

        return s3fs.S3FileSystem(**{**self.fs_options(), "skip_instance_cache": True, **more})


@dataclass(frozen=True, kw_only=True)
class AzureServer:
    """Azurite, with its one account."""

    endpoint: str
    account: str
    key: str
    service: Service

    @classmethod
    def of(cls, service: Service) -> AzureServer:
        account = service.credentials["account"]
        # The emulator has the account in the path; Azure itself has it in the host name.
        endpoint = f"http://{HOST}:{service.port}/{account}"
        return cls(endpoint=endpoint, account=account, key=service.credentials["key"], service=service)

    def behind(self, endpoint: str) -> AzureServer:
        """The same server, reached through a proxy."""
        return replace(self, endpoint=f"{endpoint}/{self.account}")

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.endpoint};"
        )

    def options(self) -> dict[str, Any]:
        """The arguments of ``obstore.store.AzureStore``, save the container."""
        return {
            "account_name": self.account,
            "account_key": self.key,
            "endpoint": self.endpoint,
            "client_options": {"allow_http": True},
        }

    def new_container(self, prefix: str = "c") -> str:
        """Make an empty container that no other test uses."""
        from azure.storage.blob import BlobServiceClient

        name = fresh(prefix)
        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(name)
        return name

    def store(self, container: str, **more: Any) -> AzureStore:
        return AzureStore(container, **{**self.options(), **more})

    def fs(self, **more: Any) -> Any:
        import adlfs

        options = {"connection_string": self.connection_string, "skip_instance_cache": True}
        return adlfs.AzureBlobFileSystem(**{**options, **more})


@dataclass(frozen=True, kw_only=True)
class GCSServer:
    """fake-gcs-server; obstore goes through the shim, gcsfs straight to it."""

    endpoint: str
    shim_endpoint: str
    #: A service account whose key was made for this run: with it obstore signs its own tokens and asks nobody.
    service_account_path: str
    service: Service

    def behind(self, endpoint: str, account_path: Path) -> GCSServer:
        """The same server, through a proxy before the shim; ``account_path`` becomes the file of a service account."""
        account = json.loads(Path(self.service_account_path).read_text())
        account_path.write_text(json.dumps({**account, "gcs_base_url": endpoint}))
        return replace(self, endpoint=endpoint, shim_endpoint=endpoint, service_account_path=str(account_path))

    def options(self) -> dict[str, Any]:
        """The arguments of ``obstore.store.GCSStore``, save the bucket."""
        return {"service_account": self.service_account_path, "client_options": {"allow_http": True}}

    def new_bucket(self, prefix: str = "b") -> str:
        """Make an empty bucket that no other test uses."""
        name = fresh(prefix)
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b?project=test",
            json.dumps({"name": name}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()
        return name

    def store(self, bucket: str, **more: Any) -> GCSStore:
        return GCSStore(bucket, **{**self.options(), **more})

    def fs(self, **more: Any) -> Any:
        import gcsfs

        options = {"endpoint_url": self.endpoint, "token": "anon", "project": "test", "skip_instance_cache": True}
        return gcsfs.GCSFileSystem(**{**options, **more})


@contextlib.contextmanager
def gcs_server(service: Service, directory: Path) -> Iterator[GCSServer]:
    """The shim and the service account for a running fake-gcs-server; ``directory`` holds the account's file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    with gcs_shim(service.port) as port:
        pem = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "private_key": pem.decode(),
            "private_key_id": "test",
            "client_email": "test@example.invalid",
            "gcs_base_url": f"http://{HOST}:{port}",
            "token_uri": f"http://{HOST}:{port}/token",
        }
        path = directory / "service-account.json"
        path.write_text(json.dumps(account))
        yield GCSServer(
            endpoint=f"http://{HOST}:{service.port}",
            shim_endpoint=account["gcs_base_url"],
            service_account_path=str(path),
            service=service,
        )


@dataclass(frozen=True, kw_only=True)
class DatabaseServer:
    """PostgreSQL or MariaDB."""

    service: Service
    #: Keeps the server's own connection away from the value.
    dialect: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dialect", "mysql" if self.service.name == "mariadb" else "postgresql")

    def url(self, database: str, user: str = "") -> str:
        user, port = user or self.service.credentials["user"], self.service.port
        if self.dialect == "postgresql":
            return f"postgresql+psycopg://{user}@{HOST}:{port}/{database}"
        return f"mysql+pymysql://{user}@{HOST}:{port}/{database}?charset=utf8mb4"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A database of one's own: yields its URL, and drops it with all connections to it."""
        name = fresh("t").replace("-", "_")
        if self.dialect == "postgresql":
            self._execute(f'CREATE DATABASE "{name}"')
        else:
            # A role of its own, for a role that may SELECT everything sees the databases of all other tests too.
            self._execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
            self._execute(f"CREATE USER `{name}`@`%`")
            self._execute(f"GRANT ALL ON `{name}`.* TO `{name}`@`%` WITH GRANT OPTION")
            self._execute(f"GRANT CREATE USER, PROCESS, SUPER, RELOAD, REPLICATION CLIENT ON *.* TO `{name}`@`%`")
        try:
            yield self.url(name, "" if self.dialect == "postgresql" else name)
        finally:
            if self.service.alive:
                self._drop(name)

    def _drop(self, name: str) -> None:
        if self.dialect == "postgresql":
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            return
        # A transaction that a test left open holds locks on which DROP would wait for ever.
        for (connection,) in self._execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            with contextlib.suppress(pymysql.err.MySQLError):
                self._execute(f"KILL {connection}")
        self._execute(f"DROP DATABASE `{name}`")
        self._execute(f"DROP USER `{name}`@`%`")

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        user, port = self.service.credentials["user"], self.service.port
        if self.dialect == "postgresql":
            with psycopg.connect(host=HOST, port=port, user=user, dbname="postgres", autocommit=True) as connection:
                connection.execute(statement.encode())
                return []
        with pymysql.connect(host=HOST, port=port, user=user) as other, other.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


@contextlib.contextmanager
def start_rclone(directory: Path, port: int | None = None, *, hashes: bool = False) -> Iterator[S3Server]:
    """A private rclone over ``directory``: each directory in ``directory/data`` is a bucket.

    Args:
        directory: is made.
        port: a free one.
        hashes: it keeps digests; else it reads an object whenever it is asked for its entity tag.
    """
    with launched("rclone-hashes" if hashes else "rclone", directory, port=port) as service:
        yield S3Server.of(service)


@contextlib.contextmanager
def start_moto(directory: Path, port: int | None = None) -> Iterator[S3Server]:
    """A private moto; its content is gone with it. ``directory`` holds its log."""
    with launched("moto", directory, port=port) as service:
        yield S3Server.of(service)


@contextlib.contextmanager
def start_azurite(directory: Path, port: int | None = None) -> Iterator[AzureServer]:
    """A private Azurite over ``directory``."""
    with launched("azurite", directory, port=port) as service:
        yield AzureServer.of(service)


@contextlib.contextmanager
def start_gcs(directory: Path, port: int | None = None) -> Iterator[GCSServer]:
    """A private fake-gcs-server over ``directory``."""
    with launched("gcs", directory, port=port) as service, gcs_server(service, directory) as server:
        yield server


@contextlib.contextmanager
def start_postgres(directory: Path, port: int | None = None) -> Iterator[DatabaseServer]:
    """A private PostgreSQL over ``directory``, which another user must be able to reach when we are root."""
    with launched("postgres", directory, port=port) as service:
        yield DatabaseServer(service=service)


@contextlib.contextmanager
def start_mariadb(directory: Path, port: int | None = None) -> Iterator[DatabaseServer]:
    """A private MariaDB over ``directory``, whose path must be short: a socket stands in it."""
    with launched("mariadb", directory, port=port) as service:
        yield DatabaseServer(service=service)


@contextlib.contextmanager
def start_pgbouncer(directory: Path, upstream: Service) -> Iterator[DatabaseServer]:
    """PgBouncer in transaction mode before a PostgreSQL; ``directory`` must be one that another user can reach."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "upstream").write_text(str(upstream.port))
    with launched("pgbouncer", directory) as service:
        yield DatabaseServer(service=service)
