"""The writing half of a backend, for synchronous and asynchronous callers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import AsyncDataLike, DataLike, PathLike

from migrate_storage.backend import attributes as object_attributes
from migrate_storage.backend.base import Located, several, text
from migrate_storage.backend.upload import DEFAULT_PART_BYTES, prepare, prepare_small
from migrate_storage.core.errors import DeleteFailedError, MissingBucketError
from migrate_storage.stores.delete import delete_object
from migrate_storage.stores.fork_guard import touch
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run

__all__ = ("Writes",)


class Writes(Located):
    """Save, copy, move and delete objects."""

    def save_object(
        self,
        file_object: FileObject,
        data: DataLike,
        *,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_PART_BYTES,
        max_concurrency: int = 12,
    ) -> FileObject:
        """Save content under the file's path, with its content type and metadata.

        Args:
            file_object: names the object; its size, etag, version, time and checksum are set.
            data: bytes, text, a path, a binary file, or an iterable of bytes.
            use_multipart: ``None`` uploads in parts what is larger than one.
            chunk_size: bytes of a part; grown for objects that would have more than 9,000 of them.
            max_concurrency: parts that are uploaded at once.

        Returns:
            ``file_object``.

        Raises:
            KeyRefusedError: no store can have such a key; nothing was written.
            ConfigurationError: content type or metadata cannot be stored; nothing was written.
            MissingBucketError, PermissionError, ConnectionError, TimeoutError, OSError: the store refused or failed.
        """
        return run(self._save_object(BLOCKING, file_object, data, use_multipart, chunk_size, max_concurrency))

    async def save_object_async(
        self,
        file_object: FileObject,
        data: AsyncDataLike,
        *,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_PART_BYTES,
        max_concurrency: int = 12,
    ) -> FileObject:
        """See :meth:`save_object`; ``data`` may be asynchronous too."""
        return await self._save_object(AWAITING, file_object, data, use_multipart, chunk_size, max_concurrency)

    async def _save_object(
        self, caller: Caller, file: FileObject, data: Any, use_multipart: bool | None, chunk: int, concurrency: int
    ) -> FileObject:
        path = file.path
        store, key = self._locate(path)
        metadata = file.metadata if self.store_metadata else None
        carried = object_attributes.encode(file.content_type, metadata, self.protocol)
        how: Any = {"use_multipart": use_multipart, "chunk_size": chunk, "max_concurrency": concurrency}
        upload = prepare_small(data, use_multipart, chunk) or await prepare(caller, data, service=self.protocol, **how)
        meta = None
        try:
            with self._translate_errors("saving", path):
                result = await caller.call(store, "put", key, upload.body, attributes=carried, **upload.options)
                saved = time.time()
                if self.exact_last_modified or not result["e_tag"]:
                    meta = await caller.call(store, "head", key)
        except Exception as error:
            if upload.measure.error is not None and error is not upload.measure.error:
                raise upload.measure.error from None
            raise
        file.size, file.checksum = upload.measure.size, upload.measure.checksum
        file.last_modified = meta["last_modified"].timestamp() if meta else saved
        file.etag = result["e_tag"] or (meta["e_tag"] if meta else "")
        file.version_id = result["version"]
        return file

    def copy(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """Copy an object within the store, by a server-side copy.

        Args:
            source: key of the object.
            destination: key of the copy.
            overwrite: ``False`` raises where there is an object at ``destination``, on stores that support that.

        Raises:
            FileNotFoundError: there is no ``source``.
            FileExistsError: ``overwrite`` is ``False``, and there is an object.
            NotImplementedError: ``overwrite`` is ``False``, and the store does not support it.
        """
        run(self._copy_object(BLOCKING, "copy", source, destination, overwrite))

    async def copy_async(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """See :meth:`copy`."""
        await self._copy_object(AWAITING, "copy", source, destination, overwrite)

    def move(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """Move an object within the store. As for :meth:`copy`."""
        run(self._copy_object(BLOCKING, "rename", source, destination, overwrite))

    async def move_async(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """See :meth:`move`."""
        await self._copy_object(AWAITING, "rename", source, destination, overwrite)

    async def _copy_object(
        self, caller: Caller, verb: str, source: PathLike, destination: PathLike, overwrite: bool
    ) -> None:
        store, from_key = self._locate(source)
        other, to_key = self._locate(destination)
        if store is not other:
            raise NotImplementedError(f"{source} and {destination} are in two buckets; read one and save the other")
        with self._translate_errors("copying" if verb == "copy" else "moving", source):
            if from_key == to_key:
                # obstore would copy the object onto itself, and a move would then delete it.
                await caller.call(store, "head", from_key)
                return
            await caller.call(store, verb, from_key, to_key, overwrite=overwrite)

    def delete_object(self, paths: PathLike | Sequence[PathLike]) -> None:
        """Delete one or more objects; a missing object is no error.

        Args:
            paths: key or keys. All are checked before any is deleted.

        Raises:
            KeyRefusedError: a key is empty or the store cannot have it; nothing was deleted.
            MissingBucketError: there is no such bucket.
            DeleteFailedError: of several, some could not be deleted; ``failures`` names each.
        """
        run(self._delete_objects(BLOCKING, paths))

    async def delete_object_async(self, paths: PathLike | Sequence[PathLike]) -> None:
        """See :meth:`delete_object`."""
        await self._delete_objects(AWAITING, paths)

    async def _delete_objects(self, caller: Caller, paths: PathLike | Sequence[PathLike]) -> None:
        if isinstance(paths, str | os.PathLike):
            await self._delete_one(caller, paths, *self._locate(paths))
            return
        touch()
        located = {text(path): self._locate(path) for path in several(paths)}
        if len(located) > 1 and await self._delete_at_once(caller, list(located.values())):
            return
        failures: dict[str, Exception] = {}
        for path, (store, key) in located.items():
            try:
                await self._delete_one(caller, path, store, key)
            except Exception as error:  # noqa: BLE001 - reported by key below
                failures[path] = error
        if failures:
            path, first = next(iter(failures.items()))
            if len(located) == 1 or isinstance(first, MissingBucketError):
                raise first
            raise DeleteFailedError(
                f"{len(failures)} of {len(located)} objects in {self._locator.where} could not be deleted, {path!r} first: {first}",
                failures,
            ) from first

    async def _delete_at_once(self, caller: Caller, located: Sequence[tuple[Any, str]]) -> bool:
        """Delete by one request on S3; ``False`` asks the caller to delete one by one."""
        stores = {id(store) for store, _ in located}
        if len(stores) > 1 or self.protocol != "s3":
            return False
        try:
            await caller.call(located[0][0], "delete", [key for _, key in located])
        except Exception:  # noqa: BLE001 - the caller deletes one by one
            return False
        return True

    async def _delete_one(self, caller: Caller, path: PathLike, store: Any, key: str) -> None:
        try:
            with self._translate_errors("deleting", path):
                await delete_object(caller, store, key)
        except FileNotFoundError:
            if self.protocol == "file" and not os.path.isdir(store.prefix):  # noqa: ASYNC240, PTH112 - one system call
                raise
