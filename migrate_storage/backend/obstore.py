"""ObstoreBackend: advanced-alchemy's storage backend over obstore, complete."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import AsyncDataLike, DataLike, PathLike, StorageBackend

from migrate_storage.backend import attributes as object_attributes
from migrate_storage.backend import signing
from migrate_storage.backend.construction import read_configuration, read_store
from migrate_storage.backend.content import DEFAULT_PART, prepare
from migrate_storage.backend.failures import Explaining
from migrate_storage.backend.options import get_options
from migrate_storage.backend.reading import AsyncObjectReader, ObjectReader, Ranges
from migrate_storage.errors import ConfigurationError, DeleteFailedError, KeyRefusedError
from migrate_storage.model import Attributes, ObjectMeta, StoreConfig
from migrate_storage.options import MiB
from migrate_storage.stores.calling import AWAITING, BLOCKING, Caller, run
from migrate_storage.stores.names import SECRETS
from migrate_storage.stores.objects import to_meta
from migrate_storage.stores.opening import open_store
from migrate_storage.translate.keys import unaddressable

__all__ = ("ObstoreBackend",)

#: Keys that need no second look: by far most of them.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}(?:/[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}){0,3}")
#: Bytes of a key. Sources: Amazon S3 "Naming objects"; Cloud Storage "Object naming"; Azure "Naming blobs".
_LONGEST_KEY = 1024


class ObstoreBackend(StorageBackend):
    """Files on S3, Google Cloud Storage, Azure, a local disk or in memory.

    Takes the place of advanced-alchemy's class of the same name. Every operation comes in two, ``name`` and
    ``name_async``, with the same behaviour.

    Args:
        key: the name under which rows and columns know the backend.
        fs: a URL (``s3://BUCKET/PREFIX/``, ``gs://``, ``az://``, ``file:///``, ``memory://``, or a vendor's
            ``https://``), a path, or an obstore store.
        prefix: raw key prefix below ``fs``, never percent-encoded.
        store_metadata: whether the user metadata of a file is kept with the object; the row keeps it anyway.
        exact_last_modified: whether to ask the store for the time of a save (one request more); our clock otherwise.
        **options: store options in any spelling that obstore knows, with or without ``aws_``, ``google_``, ``azure_``;
            client options; ``config``, ``client_options``, ``retry_config``, ``credential_provider``. ``None`` is left out.

    Raises:
        ConfigurationError: what cannot work, in one line that says what to write instead.

    Attributes:
        fs: the obstore store, ``prefix`` inside.
        config: the store in values; ``None`` where a store was passed that does not tell.
    """

    driver = "obstore"

    def __init__(
        self,
        key: str,
        fs: Any,
        *,
        prefix: str | None = None,
        store_metadata: bool = True,
        exact_last_modified: bool = False,
        **options: Any,
    ) -> None:
        self.config: StoreConfig | None
        if isinstance(fs, StoreConfig):
            self.config = fs
            self.fs = open_store(fs)
        elif isinstance(fs, str | PurePath):
            self.config = read_configuration(Path(fs) if isinstance(fs, PurePath) else fs, prefix, options)
            self.fs = open_store(self.config)
        else:
            given = sorted(name for name, value in {**options, "prefix": prefix}.items() if value is not None)
            if given:
                raise ConfigurationError(f"{', '.join(given)}: a store is opened already; pass options with a URL")
            self.fs = fs
            self.config = read_store(fs)
        self.key = key
        self.protocol = self.config.service if self.config else _protocol_of(fs)
        self.store_metadata = store_metadata
        self.exact_last_modified = exact_last_modified
        self._where = _name(self.config, self.protocol)
        self._secrets = _secrets(self.config)

    @property
    def options(self) -> dict[str, Any]:
        """The store's options as given, without what is secret."""
        if self.config is None:
            return {}
        return {name: "***" if name in SECRETS else value for name, value in self.config.options.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r}, fs={self._where!r})"

    def __reduce__(self) -> Any:
        if self.config is None or self.protocol == "memory":
            raise TypeError(f"{self!r} cannot be pickled: its content or its store lives in this process only")
        return _rebuild, (type(self), self.key, self.config, self.store_metadata, self.exact_last_modified)

    # Reading

    def get_content(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """The bytes of an object.

        Args:
            path: its key.
            options: ``start`` and ``end`` (end exclusive; a negative ``start`` counts from the end), or obstore's
                ``range``, ``if_match``, ``if_none_match``, ``if_modified_since``, ``if_unmodified_since``, ``version``.

        Raises:
            FileNotFoundError: there is no such object.
            ConditionFailedError: it is not as a condition says.
            PermissionError: credentials were refused.
            KeyRefusedError: no store could hold such a key.
        """
        return run(self._get_content(BLOCKING, path, options))

    async def get_content_async(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """See :meth:`get_content`."""
        return await self._get_content(AWAITING, path, options)

    async def _get_content(self, call: Caller, path: PathLike, options: Mapping[str, Any] | None) -> bytes:
        store, key = self._locate(path)
        with self._explaining("reading", path):
            if not options:
                result = await call(store, "get", key)
            elif (wanted := get_options(options)) is None:
                await call(store, "head", key)
                return b""
            else:
                result = await call(store, "get", key, options=wanted)
            content: bytes = (await call(result, "bytes")).to_bytes()
            return content

    def stream(
        self, path: PathLike, *, chunk_size: int = MiB, options: Mapping[str, Any] | None = None
    ) -> Iterator[bytes]:
        """The bytes of an object piece by piece, in bounded memory. The request is sent at once.

        Args:
            path: its key.
            chunk_size: bytes that a piece has at least, save the last.
            options: as for :meth:`get_content`.
        """
        return self._pieces(run(self._stream(BLOCKING, path, chunk_size, options)), path)

    async def stream_async(
        self, path: PathLike, *, chunk_size: int = MiB, options: Mapping[str, Any] | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`stream`: ``async for piece in await backend.stream_async(path)``."""
        return self._pieces_async(await self._stream(AWAITING, path, chunk_size, options), path)

    async def _stream(self, call: Caller, path: PathLike, size: int, options: Mapping[str, Any] | None) -> Any:
        store, key = self._locate(path)
        wanted = get_options(options or {})
        with self._explaining("reading", path):
            if wanted is None:
                await call(store, "head", key)
                return None
            result = await call(store, "get", key, options=wanted or None)
            return result.stream(min_chunk_size=size)

    async def _next_piece(self, call: Caller, stream: Any, path: PathLike) -> bytes | None:
        if stream is None:
            return None
        with self._explaining("reading", path):
            piece = await call.next(stream)
            return None if piece is None else bytes(piece)

    def _pieces(self, stream: Any, path: PathLike) -> Iterator[bytes]:
        while (piece := run(self._next_piece(BLOCKING, stream, path))) is not None:
            yield piece

    async def _pieces_async(self, stream: Any, path: PathLike) -> AsyncIterator[bytes]:
        while (piece := await self._next_piece(AWAITING, stream, path)) is not None:
            yield piece

    def open(self, path: PathLike, *, buffer_size: int = MiB) -> io.BufferedReader:
        """An object as a binary file for reading, by ranges; a read after it was replaced raises.

        Args:
            path: its key.
            buffer_size: bytes of one request.
        """
        return io.BufferedReader(ObjectReader(run(self._ranges(BLOCKING, path)), str(path)), buffer_size)

    async def open_async(self, path: PathLike) -> AsyncObjectReader:
        """See :meth:`open`; each ``read`` is one request, without a buffer."""
        return AsyncObjectReader(await self._ranges(AWAITING, path), str(path))

    async def _ranges(self, call: Caller, path: PathLike) -> Ranges:
        store, key = self._locate(path)
        explaining = self._explaining("reading", path)
        with explaining:
            return Ranges(store, key, await call(store, "head", key), explaining)

    def head(self, path: PathLike) -> ObjectMeta:
        """What the store says of an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return run(self._head(BLOCKING, path))

    async def head_async(self, path: PathLike) -> ObjectMeta:
        """See :meth:`head`."""
        return await self._head(AWAITING, path)

    async def _head(self, call: Caller, path: PathLike) -> ObjectMeta:
        store, key = self._locate(path)
        with self._explaining("looking at", path):
            return to_meta(str(path), await call(store, "head", key))

    def attributes(self, path: PathLike) -> Attributes:
        """Content type, other headers and user metadata of an object, as they were saved.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return run(self._attributes(BLOCKING, path))

    async def attributes_async(self, path: PathLike) -> Attributes:
        """See :meth:`attributes`."""
        return await self._attributes(AWAITING, path)

    async def _attributes(self, call: Caller, path: PathLike) -> Attributes:
        store, key = self._locate(path)
        with self._explaining("looking at", path):
            result = await call(store, "get", key, options={"head": True})
            return object_attributes.decode(result.attributes)

    def exists(self, path: PathLike) -> bool:
        """Whether there is such an object. A refusal raises; it is no answer."""
        return run(self._exists(BLOCKING, path))

    async def exists_async(self, path: PathLike) -> bool:
        """See :meth:`exists`."""
        return await self._exists(AWAITING, path)

    async def _exists(self, call: Caller, path: PathLike) -> bool:
        try:
            await self._head(call, path)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: PathLike = "") -> Iterator[ObjectMeta]:
        """All objects below a folder, in no order.

        Args:
            prefix: whole path segments: ``a`` finds ``a/b``, not ``ab``. Empty for all.

        Raises:
            KeyRefusedError: a key that obstore cannot address stands in the folder.
        """
        listing = self._listing(prefix)
        while batch := run(self._next_batch(BLOCKING, listing, prefix)):
            yield from batch

    async def list_async(self, prefix: PathLike = "") -> AsyncIterator[ObjectMeta]:
        """See :meth:`list`."""
        listing = self._listing(prefix)
        while batch := await self._next_batch(AWAITING, listing, prefix):
            for meta in batch:
                yield meta

    def _listing(self, prefix: PathLike) -> Any:
        folder = _text(prefix).strip("/")
        return self.fs.list(self._locate(folder)[1] if folder else None)

    async def _next_batch(self, call: Caller, listing: Any, prefix: PathLike) -> Sequence[ObjectMeta]:
        with self._explaining("listing", prefix):
            batch = await call.next(listing)
            return [to_meta(meta["path"], meta) for meta in batch or ()]

    # Writing

    def save_object(
        self,
        file_object: FileObject,
        data: DataLike,
        *,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_PART,
        max_concurrency: int = 12,
    ) -> FileObject:
        """Save content under the file's path, with its content type and metadata.

        Args:
            file_object: names the object; its size, etag, version, time and checksum are set.
            data: bytes, text, a path, a binary file, or an iterable of bytes.
            use_multipart: ``None`` uploads in parts what is larger than one.
            chunk_size: bytes of a part; grown for objects that would have more than 9,000 of them.
            max_concurrency: parts under way at once.

        Returns:
            ``file_object``.

        Raises:
            KeyRefusedError: no store could hold such a key; nothing was written.
            ConfigurationError: content type or metadata could not be kept; nothing was written.
            MissingBucketError, PermissionError, ConnectionError, TimeoutError, OSError: as the store answered.
        """
        return run(self._save(BLOCKING, file_object, data, use_multipart, chunk_size, max_concurrency))

    async def save_object_async(
        self,
        file_object: FileObject,
        data: AsyncDataLike,
        *,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_PART,
        max_concurrency: int = 12,
    ) -> FileObject:
        """See :meth:`save_object`; ``data`` may be asynchronous too."""
        return await self._save(AWAITING, file_object, data, use_multipart, chunk_size, max_concurrency)

    async def _save(
        self, call: Caller, file_object: FileObject, data: Any, use_multipart: bool | None, chunk: int, concurrency: int
    ) -> FileObject:
        path = file_object.path
        store, key = self._locate(path)
        metadata = file_object.metadata if self.store_metadata else None
        carried = object_attributes.encode(file_object.content_type, metadata, self.protocol)
        upload = await prepare(
            call,
            data,
            service=self.protocol,
            use_multipart=use_multipart,
            chunk_size=chunk,
            max_concurrency=concurrency,
        )
        meta = None
        try:
            with self._explaining("saving", path):
                result = await call(store, "put", key, upload.body, attributes=carried, **upload.options)
                saved = time.time()
                if self.exact_last_modified or not result["e_tag"]:
                    meta = await call(store, "head", key)
        except Exception as error:
            if upload.measure.error is not None and error is not upload.measure.error:
                raise upload.measure.error from None
            raise
        file_object.size = upload.measure.size
        file_object.checksum = upload.measure.checksum
        file_object.last_modified = meta["last_modified"].timestamp() if meta else saved
        file_object.etag = result["e_tag"] or (meta and meta["e_tag"])
        file_object.version_id = result["version"]
        return file_object

    def copy(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """Copy an object within the store, by the store itself.

        Args:
            source: key of what is copied.
            destination: key of the copy.
            overwrite: ``False`` raises where something stands at ``destination``, on stores that can tell.

        Raises:
            FileNotFoundError: there is no ``source``.
            FileExistsError: ``overwrite`` is ``False``, and something stands there.
            NotImplementedError: ``overwrite`` is ``False``, and the store cannot tell.
        """
        run(self._copy(BLOCKING, "copy", source, destination, overwrite))

    async def copy_async(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """See :meth:`copy`."""
        await self._copy(AWAITING, "copy", source, destination, overwrite)

    def move(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """Move an object within the store. As for :meth:`copy`."""
        run(self._copy(BLOCKING, "rename", source, destination, overwrite))

    async def move_async(self, source: PathLike, destination: PathLike, *, overwrite: bool = True) -> None:
        """See :meth:`move`."""
        await self._copy(AWAITING, "rename", source, destination, overwrite)

    async def _copy(self, call: Caller, verb: str, source: PathLike, destination: PathLike, overwrite: bool) -> None:
        store, from_key = self._locate(source)
        other, to_key = self._locate(destination)
        if store is not other:
            raise NotImplementedError(f"{source} and {destination} are in two buckets; read one and save the other")
        with self._explaining("copying" if verb == "copy" else "moving", source):
            if from_key == to_key:
                # obstore would copy it onto itself, and a move would then delete it.
                await call(store, "head", from_key)
                return
            await call(store, verb, from_key, to_key, overwrite=overwrite)

    def delete_object(self, paths: PathLike | Sequence[PathLike]) -> None:
        """Delete one or more objects; those that are not there are no error.

        Args:
            paths: key or keys. All are checked before any is deleted.

        Raises:
            KeyRefusedError: an empty key, or one that the store could not hold; nothing was deleted.
            MissingBucketError: there is no such bucket.
            DeleteFailedError: of several, some could not be deleted; ``failures`` names each.
        """
        run(self._delete(BLOCKING, paths))

    async def delete_object_async(self, paths: PathLike | Sequence[PathLike]) -> None:
        """See :meth:`delete_object`."""
        await self._delete(AWAITING, paths)

    async def _delete(self, call: Caller, paths: PathLike | Sequence[PathLike]) -> None:
        if isinstance(paths, str | os.PathLike):
            await self._delete_one(call, paths, *self._locate(paths))
            return
        located = {_text(path): self._locate(path) for path in paths}
        if len(located) > 1 and await self._delete_at_once(call, list(located.values())):
            return
        failures: dict[str, Exception] = {}
        for path, (store, key) in located.items():
            try:
                await self._delete_one(call, path, store, key)
            except Exception as error:  # noqa: BLE001 - reported by key, below
                failures[path] = error
        if failures:
            path, first = next(iter(failures.items()))
            if len(located) == 1:
                raise first
            raise DeleteFailedError(
                f"{len(failures)} of {len(located)} objects in {self._where} could not be deleted, {path!r} first: {first}",
                failures,
            ) from first

    async def _delete_at_once(self, call: Caller, located: Sequence[tuple[Any, str]]) -> bool:
        """One request for many where the store has one. Whatever fails is done again one by one, to learn which."""
        stores = {id(store) for store, _ in located}
        if len(stores) > 1 or self.protocol != "s3":
            return False
        try:
            await call(located[0][0], "delete", [key for _, key in located])
        except Exception:  # noqa: BLE001 - asked again one by one
            return False
        return True

    async def _delete_one(self, call: Caller, path: PathLike, store: Any, key: str) -> None:
        try:
            with self._explaining("deleting", path):
                await call(store, "delete", key)
        except FileNotFoundError:
            if self.protocol == "file" and store.prefix is not None and not Path(store.prefix).is_dir():
                raise
            return

    # Signed URLs

    def sign(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> str | list[str]:
        """URLs that give whoever holds them one object, for a time.

        Args:
            paths: key or keys.
            expires_in: seconds, one hour if ``None``; at most 7 days on S3 and Google Cloud Storage.
            for_upload: ``True`` for a URL to ``PUT`` to (on Azure with the header ``x-ms-blob-type: BlockBlob``).

        Returns:
            One URL for one path, a list for several.

        Raises:
            NotImplementedError: the store has no signed URLs, or its credentials cannot sign.
            ValueError: for a lifetime that the service refuses.
            KeyRefusedError: a key for which no right URL can be made.
        """
        return run(self._sign(BLOCKING, paths, expires_in, for_upload))

    async def sign_async(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> str | list[str]:
        """See :meth:`sign`."""
        return await self._sign(AWAITING, paths, expires_in, for_upload)

    async def _sign(
        self, call: Caller, paths: PathLike | Sequence[PathLike], expires_in: int | None, for_upload: bool
    ) -> str | list[str]:
        seconds = signing.lifetime(self.protocol, expires_in)
        method = "PUT" if for_upload else "GET"
        single = isinstance(paths, str | os.PathLike)
        urls: list[str] = []
        for path in [paths] if single else paths:  # type: ignore[list-item]
            store, key = self._locate(path)
            with self._explaining("signing a URL for", path):
                urls += await signing.sign(call, store, self.config, [key], expires_in=seconds, method=method)
        return urls[0] if single else urls

    # Within

    def _locate(self, path: PathLike) -> tuple[Any, str]:
        """The store and the key in it that a path means."""
        key = _text(path)
        if _PLAIN_KEY.fullmatch(key) is None:
            self._check(key)
        return self.fs, key

    def _check(self, key: str) -> None:
        reason = unaddressable(key, local=self.protocol == "file")
        if reason is None and self.protocol in ("s3", "gcs", "azure"):
            whole = f"{self.config.prefix}/{key}" if self.config and self.config.prefix else key
            if len(whole.encode()) > _LONGEST_KEY:
                reason = f"is longer than {_LONGEST_KEY} bytes"
            elif self.protocol == "azure" and "\\" in key:
                reason = "holds a backslash, which Azure takes for a slash"
        if reason:
            shown = key if key.isprintable() else ascii(key)
            raise KeyRefusedError(
                f"the key {shown[:200]!r} {reason}: {self._where} cannot hold it; use another filename"
            )

    def _explaining(self, doing: str, path: PathLike) -> Explaining:
        return Explaining(doing, path, self._where, self._secrets)


def _text(path: PathLike) -> str:
    if isinstance(path, str):
        return path
    return path.as_posix() if isinstance(path, PurePath) else os.fspath(path)


def _rebuild(
    kind: type[ObstoreBackend], key: str, config: StoreConfig, store_metadata: bool, exact_last_modified: bool
) -> ObstoreBackend:
    return kind(key, config, store_metadata=store_metadata, exact_last_modified=exact_last_modified)


_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}


def _name(config: StoreConfig | None, protocol: str) -> str:
    if config is None or protocol == "memory":
        return protocol
    inner = f"/{config.prefix}" if config.prefix else ""
    return f"{_SCHEMES[protocol]}://{config.root}{inner}" if protocol in _SCHEMES else f"{config.root}{inner}"


def _protocol_of(store: Any) -> str:
    name = type(store).__name__
    return {"S3Store": "s3", "GCSStore": "gcs", "AzureStore": "azure", "LocalStore": "file", "HTTPStore": "http"}.get(
        name, "memory" if name == "MemoryStore" else "obstore"
    )


def _secrets(config: StoreConfig | None) -> tuple[str, ...]:
    if config is None:
        return ()
    return tuple(str(value) for name, value in config.options.items() if name in SECRETS and len(str(value)) > 3)
