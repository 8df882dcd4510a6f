"""Registrations as values, so that another process can make the same ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from advanced_alchemy.types.file_object import StorageBackend
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend

if TYPE_CHECKING:
    # An application of a benchmark imports this module too, and pays for what it imports.
    from tests.support.servers import AzureServer, GCSServer, S3Server


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What an application writes to register one backend."""

    key: str
    #: ``fsspec`` or ``obstore``.
    driver: str
    #: fsspec's protocol, or obstore's URL.
    fs: str
    prefix: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> StorageBackend:
        if self.driver == "fsspec":
            fs = fsspec.filesystem(self.fs, skip_instance_cache=True, **self.options)
            return FSSpecBackend(key=self.key, fs=fs, prefix=self.prefix)
        return ObstoreBackend(key=self.key, fs=self.fs, **self.options)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def old_local(directory: Path, key: str = "old") -> Registration:
    directory.mkdir(parents=True, exist_ok=True)
    return Registration(key=key, driver="fsspec", fs="file", prefix=str(directory), options={"auto_mkdir": True})


def old_s3(server: S3Server, root: str | None, key: str = "old") -> Registration:
    """``root`` is a bucket with or without a prefix, or None when filenames begin with their bucket."""
    return Registration(key=key, driver="fsspec", fs="s3", prefix=root, options=server.fs_options())


def old_gcs(server: GCSServer, bucket: str, key: str = "old") -> Registration:
    options = {"endpoint_url": server.endpoint, "token": "anon", "project": "test"}
    return Registration(key=key, driver="fsspec", fs="gcs", prefix=bucket, options=options)


def new_gcs(server: GCSServer, bucket: str, key: str = "new") -> Registration:
    return Registration(key=key, driver="obstore", fs=f"gs://{bucket}/", options=server.options())


def new_local(directory: Path, key: str = "new") -> Registration:
    directory.mkdir(parents=True, exist_ok=True)
    return Registration(key=key, driver="obstore", fs=f"file://{directory}")


def new_s3(server: S3Server, root: str, key: str = "new") -> Registration:
    return Registration(key=key, driver="obstore", fs=f"s3://{root}/", options=server.options())


def old_azure(server: AzureServer, container: str, key: str = "old") -> Registration:
    options = {"connection_string": server.connection_string}
    return Registration(key=key, driver="fsspec", fs="abfs", prefix=container, options=options)


def new_azure(server: AzureServer, container: str, key: str = "new") -> Registration:
    return Registration(key=key, driver="obstore", fs=f"az://{container}/", options=server.options())
