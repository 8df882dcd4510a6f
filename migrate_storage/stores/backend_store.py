"""A store over the public methods of a StorageBackend: for classes of the application's own.

The interface of advanced-alchemy reads whole objects and has neither HEAD nor LIST. So each HEAD here reads the object, and the
tag of an object is the SHA-256 of its bytes. Nothing is written and nothing is deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.core.text import MiB
from migrate_storage.stores.base import DigestHeaders, content_tag
from migrate_storage.stores.failures import FailureKind, classify
from migrate_storage.stores.memory_budget import MemoryBudget
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.translate.registration import prefers_async

__all__ = ("READS_PER_OBJECT", "BackendReadError", "BackendStore", "describe_read_only")

READS_PER_OBJECT = 4
"""How often a run reads an object: to copy it, to prove the copy, after the commit of its rows, and at the end."""
_SPOOL_BYTES = MiB
"""Content beyond this size is kept in a temporary file until it was copied."""
_PIECE_BYTES = 4 * MiB
_MAX_CAUSES = 6
_LOOP_LOCK = threading.Lock()
_LOOPS: list[asyncio.AbstractEventLoop] = []
"""The event loop of all asynchronous backends of this process, once one is read."""
os.register_at_fork(after_in_child=_LOOPS.clear)


class BackendReadError(Exception):
    """A method of the application's class failed in a way that no library here knows."""


def describe_read_only(key: str, own_class: str) -> str:
    """Return why a command that lists, writes or deletes refuses a backend of the application's own class."""
    return (
        f"the backend {key!r} is of the application's own class {own_class}, which is only read, through its own methods: "
        "nothing here lists, writes or deletes its files"
    )


class _ReadObject:
    """Content that was read whole: in memory, or in a temporary file that ends with this object."""

    def __init__(self, meta: ObjectMeta, content: bytes) -> None:
        self.meta, self.attributes = meta, Attributes()
        self._file: IO[bytes] = io.BytesIO(content) if len(content) <= _SPOOL_BYTES else tempfile.TemporaryFile()  # noqa: SIM115
        if len(content) > _SPOOL_BYTES:
            self._file.write(content)

    def read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            yield piece


class BackendStore:
    """A StorageBackend, read by its own ``get_content`` from several threads at once.

    ``get_content_async`` is called instead where the application wrote only that one, in one event loop for all backends of
    the process.

    Args:
        backend: the backend.
        key: the backend key, for messages.
        limits: limits requests, bytes per second, and the memory for content; ``None`` takes the defaults.
    """

    is_local = False

    def __init__(self, backend: Any, key: str, limits: StoreLimits | None = None) -> None:
        self._backend, self._class, self._limits = backend, type(backend).__name__, limits
        self.name = f"{key} ({self._class})"
        self._memory = limits.memory if limits is not None else MemoryBudget.default()
        self._awaits = prefers_async(backend)
        self._refusal = describe_read_only(key, self._class)
        #: Bytes of the largest object so far.
        self._largest = 0

    def head(self, path: str) -> ObjectMeta:
        """Read the object; its tag is the digest of its bytes."""
        with self._reserve():
            meta, _ = self._read(path)
        return self._count(meta)

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """See :meth:`head`. The interface gives no attributes: the content type comes from the row."""
        return self.head(path), Attributes()

    def digest_headers(self, path: str) -> DigestHeaders:
        """Return nothing: there are no headers."""
        del path
        return DigestHeaders()

    def open(self, path: str) -> _ReadObject:
        """See :class:`migrate_storage.stores.base.Store`."""
        with self._reserve():
            opened = _ReadObject(*self._read(path))
        self._count(opened.meta)
        return opened

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,
        create: bool,
        part_size: int | None,
        replaces: ObjectMeta | None = None,
    ) -> NoReturn:
        """Refuse."""
        del path, content, attributes, create, part_size, replaces
        raise ConfigurationError(self._refusal)

    def delete(self, path: str) -> NoReturn:
        """Refuse."""
        del path
        raise ConfigurationError(self._refusal)

    def list(self, prefix: str, *, after: str = "") -> NoReturn:
        """Refuse."""
        del prefix, after
        raise ConfigurationError(self._refusal)

    def list_stepwise(self, prefix: str, *, after: str) -> NoReturn:
        """Refuse."""
        self.list(prefix, after=after)

    @contextmanager
    def _reserve(self) -> Iterator[None]:
        """Wait for the rate of requests and for memory; no size is known before the object is read."""
        if self._limits is not None:
            self._limits.requests.acquire(1)
        with self._memory.reserve(max(self._largest, _SPOOL_BYTES)):
            yield

    def _count(self, meta: ObjectMeta) -> ObjectMeta:
        """Wait for the rate of bytes."""
        if self._limits is not None:
            self._limits.bandwidth.acquire(meta.size)
        return meta

    def _read(self, path: str) -> tuple[ObjectMeta, bytes]:
        content = self._get_content(path)
        self._largest = max(self._largest, len(content))
        tag = content_tag(hashlib.sha256(content).hexdigest())
        return ObjectMeta(path=path, size=len(content), e_tag=tag), content

    def _get_content(self, path: str) -> bytes:
        content: Any
        try:
            content = self._call(path)
        except Exception as error:
            raise self._translate_error(error) from error
        if not isinstance(content, bytes | bytearray | memoryview):
            raise BackendReadError(f"get_content of {self._class} returned {type(content).__name__} instead of bytes")
        return bytes(content)

    def _call(self, path: str) -> Any:
        if not self._awaits:
            try:
                return self._backend.get_content(path)
            except NotImplementedError:
                self._awaits = True
        loop = _get_loop()
        return asyncio.run_coroutine_threadsafe(self._backend.get_content_async(path), loop).result()

    def _translate_error(self, error: Exception) -> Exception:
        """Name the class in an error that no library here knows; one of the network may be tried again."""
        if isinstance(error, FileNotFoundError) or classify(error).kind is not FailureKind.PERMANENT:
            return error
        message = f"get_content of {self._class} raised {type(error).__name__}: {error}"
        make: Callable[[str], Exception] = ConnectionError if _is_of_network(error) else BackendReadError
        return make(message)


def _is_of_network(error: BaseException) -> bool:
    link: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if link is None:
            return False
        if isinstance(link, ConnectionError | TimeoutError):
            return True
        link = link.__cause__ or link.__context__
    return False


def _get_loop() -> asyncio.AbstractEventLoop:
    with _LOOP_LOCK:
        if not _LOOPS:
            _LOOPS.append(asyncio.new_event_loop())
            threading.Thread(target=_LOOPS[0].run_forever, name="storage-backends", daemon=True).start()
        return _LOOPS[0]
