"""ObstoreBackend: advanced-alchemy's storage backend over obstore, complete."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

import obstore
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import AsyncDataLike, DataLike, PathLike, StorageBackend

from migrate_storage.backend.construction import read_configuration
from migrate_storage.errors import KeyRefusedError
from migrate_storage.model import StoreConfig
from migrate_storage.registration import _store_config
from migrate_storage.stores.calling import AWAITING, BLOCKING, Caller, run
from migrate_storage.stores.opening import Store, open_store
from migrate_storage.translate.keys import unaddressable

__all__ = ("ObstoreBackend",)


class ObstoreBackend(StorageBackend):
    """Files on S3, Google Cloud Storage, Azure, a local disk or in memory.

    Args:
        key: the name under which rows and columns know the backend.
        fs: a URL, a directory, or an obstore store.
        prefix: raw key prefix below ``fs``.
        **options: see ``docs/backend.md``.
    """

    driver = "obstore"

    def __init__(self, key: str, fs: str | Path | Store, *, prefix: str | None = None, **options: Any) -> None:
        if isinstance(fs, str | Path):
            self.config: StoreConfig | None = read_configuration(fs, prefix, options)
            self.fs = open_store(self.config)
        else:
            self.config = _store_config(fs)
            self.fs = fs
        self.key = key
        self.protocol = self.config.service if self.config else "obstore"
        self.options = {}

    def _key(self, path: PathLike) -> str:
        key = path.as_posix() if isinstance(path, PurePath) else str(path)
        reason = unaddressable(key, local=self.protocol == "file")
        if reason:
            raise KeyRefusedError(f"{key!r} {reason}: obstore cannot address it; use another filename")
        return key

    def get_content(self, path: PathLike, *, options: dict[str, Any] | None = None) -> bytes:
        return run(self._get(BLOCKING, path, options))

    async def get_content_async(self, path: PathLike, *, options: dict[str, Any] | None = None) -> bytes:
        return await self._get(AWAITING, path, options)

    async def _get(self, call: Caller, path: PathLike, options: dict[str, Any] | None) -> bytes:
        result = await call(self.fs, "get", self._key(path))
        content = await call(result, "bytes")
        return content.to_bytes()

    def save_object(self, file_object: FileObject, data: DataLike, **options: Any) -> FileObject:
        return run(self._save(BLOCKING, file_object, data))

    async def save_object_async(self, file_object: FileObject, data: AsyncDataLike, **options: Any) -> FileObject:
        return await self._save(AWAITING, file_object, data)

    async def _save(self, call: Caller, file_object: FileObject, data: Any) -> FileObject:
        attributes = {"Content-Type": file_object.content_type} if self.protocol not in ("file", "http") else None
        result = await call(self.fs, "put", self._key(file_object.path), data, attributes=attributes)
        if isinstance(data, bytes):
            file_object.size = len(data)
        file_object.etag = result["e_tag"]
        file_object.last_modified = time.time()
        return file_object

    def delete_object(self, paths: PathLike | Sequence[PathLike]) -> None:
        return run(self._delete(BLOCKING, paths))

    async def delete_object_async(self, paths: PathLike | Sequence[PathLike]) -> None:
        return await self._delete(AWAITING, paths)

    async def _delete(self, call: Caller, paths: Any) -> None:
        for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
            try:
                await call(self.fs, "delete", self._key(path))
            except FileNotFoundError:
                pass

    def sign(self, paths: Any, *, expires_in: int | None = None, for_upload: bool = False) -> Any:
        return run(self._sign(BLOCKING, paths, expires_in, for_upload))

    async def sign_async(self, paths: Any, *, expires_in: int | None = None, for_upload: bool = False) -> Any:
        return await self._sign(AWAITING, paths, expires_in, for_upload)

    async def _sign(self, call: Caller, paths: Any, expires_in: int | None, for_upload: bool) -> Any:
        if self.protocol in ("file", "memory", "http"):
            raise NotImplementedError(f"a {self.protocol} store cannot sign URLs")
        method = "PUT" if for_upload else "GET"
        return await call(obstore, "sign", self.fs, method, paths, timedelta(seconds=expires_in or 3600))
