"""Places where the contract is run: one for each server, with the features that the server lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from tests.support.servers import AzureServer, GCSServer, S3Server, fresh

__all__ = ("BEDS", "Bed", "of_the_user")


@dataclass(frozen=True, kw_only=True)
class Bed:
    """One store of a server, empty at the start of a test."""

    name: str
    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    #: An fsspec filesystem of the same store, and its prefix.
    fsspec: Callable[[], tuple[Any, str]] | None = None
    #: What the server cannot do: ``ranges``, ``suffix``, ``create``, ``signatures``, ``metadata``, ``sign``, ``version``,
    #: ``conditions``, ``buckets`` (telling a missing bucket from a missing object).
    lacks: frozenset[str] = frozenset()

    def backend(self, **more: Any) -> ObstoreBackend:
        """Our backend there."""
        return ObstoreBackend(more.pop("key", self.name), self.url, **{**self.options, **more})

    def below(self, prefix: str | None) -> ObstoreBackend:
        """Our backend at a prefix there."""
        return self.backend(prefix="/".join(filter(None, (self.options.get("prefix"), prefix))) or None)

    def fsspec_backend(self) -> FSSpecBackend:
        """advanced-alchemy's fsspec backend there."""
        assert self.fsspec is not None
        fs, prefix = self.fsspec()
        return FSSpecBackend(self.name, fs, prefix=prefix)

    def has(self, feature: str) -> bool:
        return feature not in self.lacks


def _s3(name: str, server: S3Server, lacks: frozenset[str]) -> Bed:
    bucket = server.new_bucket()
    return Bed(
        name=name,
        url=f"s3://{bucket}/",
        options={
            "aws_endpoint": server.endpoint,
            "aws_access_key_id": server.key,
            "aws_secret_access_key": server.secret,
            "aws_region": server.region,
            "aws_allow_http": True,
        },
        fsspec=lambda: (server.fs(), bucket),
        lacks=lacks,
    )


def rclone(request: pytest.FixtureRequest) -> Bed:
    return _s3(
        "rclone",
        request.getfixturevalue("rclone_s3"),
        frozenset({"ranges", "suffix", "create", "version", "conditions"}),
    )


def moto(request: pytest.FixtureRequest) -> Bed:
    return _s3("moto", request.getfixturevalue("moto_s3"), frozenset({"signatures"}))


def azurite(request: pytest.FixtureRequest) -> Bed:
    server: AzureServer = request.getfixturevalue("azurite")
    container = server.new_container()
    return Bed(
        name="azurite",
        url=f"az://{container}/",
        options={"azure_storage_connection_string": server.connection_string},
        fsspec=lambda: (server.fs(), container),
        lacks=frozenset({"suffix", "version"}),
    )


def gcs(request: pytest.FixtureRequest) -> Bed:
    server: GCSServer = request.getfixturevalue("gcs")
    bucket = server.new_bucket()
    return Bed(
        name="gcs",
        url=f"gs://{bucket}/",
        options={"google_service_account": server.service_account_path, "allow_http": True},
        fsspec=lambda: (server.fs(), bucket),
        lacks=frozenset({"signatures", "create", "conditions", "buckets"}),
    )


def local(request: pytest.FixtureRequest) -> Bed:
    import fsspec

    folder = request.getfixturevalue("tmp_path") / "files"
    return Bed(
        name="local",
        url=folder.as_uri(),
        fsspec=lambda: (fsspec.filesystem("file", auto_mkdir=True), str(folder)),
        lacks=frozenset({"sign", "metadata", "version", "buckets"}),
    )


def memory(request: pytest.FixtureRequest) -> Bed:
    import fsspec

    return Bed(
        name="memory",
        url="memory://",
        fsspec=lambda: (fsspec.filesystem("memory"), fresh("m")),
        lacks=frozenset({"sign", "version", "buckets"}),
    )


def of_the_user(url: str) -> Bed:
    """``scripts/test --store URL``: the user's own bucket, with the credentials of the environment, below a new prefix."""
    scheme = url.partition(":")[0]
    lacks = {"version", "buckets"}
    if scheme in ("file", "memory"):
        lacks |= {"sign", "metadata"}
    elif ObstoreBackend("own", url).protocol == "azure":
        lacks |= {"suffix"}
    return Bed(name="own", url=url, options={"prefix": fresh("contract")}, lacks=frozenset(lacks))


BEDS: Mapping[str, Callable[[pytest.FixtureRequest], Bed]] = {
    "memory": memory,
    "local": local,
    "rclone": rclone,
    "moto": moto,
    "azurite": azurite,
    "gcs": gcs,
}
