"""CutoverBackend: one storage backend over two, so that an application moves from the one to the other while it runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import AsyncDataLike, DataLike, PathLike, StorageBackend

from migrate_storage.backend.base import several, text
from migrate_storage.backend.upload import DEFAULT_PART
from migrate_storage.core.errors import DeleteFailedError, KeyRefusedError
from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Side, decide
from migrate_storage.cutover.executor import ProtocolExecutor, bind_operation, call_backend
from migrate_storage.cutover.list_objects import list_objects
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import OperationLease, PhaseSource, phase_source
from migrate_storage.cutover.shadow_reads import ShadowReads
from migrate_storage.cutover.signed_urls import sign_read, sign_upload
from migrate_storage.cutover.spooled_content import SpooledContent, spool
from migrate_storage.reporting.metrics import Counters
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run

__all__ = ("CutoverBackend",)

_READS = {"head": Operation.HEAD, "attributes": Operation.READ, "stream": Operation.READ, "open": Operation.READ}
"""Reads that advanced-alchemy does not ask for: there where both sides have them."""
_Urls = str | list[str]


class CutoverBackend(StorageBackend):
    """Files in two stores, the source and the destination, as the phase says.

    Register it under the key that the models name. Which side is asked in which phase, and in which order, is the table in
    ``docs/cutover.md``; every operation comes in two, ``name`` and ``name_async``. What is saved while both sides are written
    is read to its end first, into memory, beyond 8 MiB into a temporary file.

    Args:
        key: the name under which rows and columns know the backend.
        source: the backend that is left.
        destination: the backend that is moved to.
        phase: the phase of this process; ``"shared"`` or a :class:`~migrate_storage.cutover.phase.source.SharedPhase` for one that all
            processes share; a function, asked once for each operation; or ``None`` for the environment variable
            ``MIGRATE_STORAGE_PHASE`` (``source`` if unset).
        outbox: where entries are kept; needed as soon as the phase is not SOURCE.
        counters: what counts; see ``docs/metrics.md``.
        shadow: the share of reads, from 0 to 1, that are compared on both sides in the background.

    Raises:
        ConfigurationError: there is no such phase or share, or a phase that needs an outbox has none.
    """

    driver = "cutover"

    def __init__(
        self,
        key: str,
        source: StorageBackend,
        destination: StorageBackend,
        *,
        phase: PhaseSource | Phase | str | Callable[[], Phase] | None = None,
        outbox: Outbox | None = None,
        counters: Counters | None = None,
        shadow: float = 0.0,
    ) -> None:
        self.key = key
        self.source = source
        self.destination = destination
        self.outbox = outbox
        self.counters = counters or Counters("cutover", "side", backend=key)
        self.options = {}
        self.phase_source = phase_source(phase, outbox)
        self._executor = ProtocolExecutor(key, source, destination, outbox, self.phase_source, self.counters)
        self.shadow = ShadowReads(self._executor, shadow)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r}, source={self.source!r}, destination={self.destination!r})"

    @property
    def phase(self) -> Phase:
        """The phase of this process now; one that is shared is asked of the database where no lease stands.

        Raises:
            PhaseLostError: it is shared, and cannot be learned.
        """
        return self.phase_source.phase

    @property
    def protocol(self) -> str:  # type: ignore[override]
        """That of the side which is asked first."""
        return str(self._executor.side(TABLE[self.phase_source.last_known or Phase.SOURCE].reads[0]).protocol)

    @property
    def fs(self) -> Any:
        """That of the side which is asked first."""
        return self._executor.side(TABLE[self.phase_source.last_known or Phase.SOURCE].reads[0]).fs

    # Reading

    def get_content(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """The bytes of an object.

        Args:
            path: its key.
            options: handed on to the side that is read.

        Raises:
            FileNotFoundError: no side that may answer holds it. A side that fails raises its own error.
        """
        found: bytes = run(self._read(BLOCKING, "get_content", Operation.READ, path, options=options))
        return found

    async def get_content_async(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """See :meth:`get_content`."""
        found: bytes = await self._read(AWAITING, "get_content", Operation.READ, path, options=options)
        return found

    def exists(self, path: PathLike) -> bool:
        """Whether there is such an object. A side that fails raises; it is no answer."""
        return run(self._check_exists(BLOCKING, path))

    async def exists_async(self, path: PathLike) -> bool:
        """See :meth:`exists`."""
        return await self._check_exists(AWAITING, path)

    async def _check_exists(self, caller: Caller, path: PathLike) -> bool:
        try:
            await self._read(caller, "head", Operation.HEAD, path)
        except FileNotFoundError:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        base = name.removesuffix("_async")
        if base not in _READS or not all(hasattr(side, name) for side in (self.source, self.destination)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == base:
            return lambda path, **options: run(self._read(BLOCKING, base, _READS[base], path, **options))
        return lambda path, **options: self._read(AWAITING, base, _READS[base], path, **options)

    async def _read(self, caller: Caller, name: str, operation: Operation, path: PathLike, **options: Any) -> Any:
        driver = self._executor

        def get(side: Side) -> Awaitable[Any]:
            return call_backend(caller, driver.side(side), name, path, **options)

        with driver.phase_source.acquire(writing=False) or await driver.renew_lease(caller) as held:
            rule = TABLE[held.phase]
            if not rule.entries:
                # One step: it is not driven, for this is what every read costs before and after a cutover.
                return await driver.run_counted("read", rule.reads[0], text(path), get(rule.reads[0]))
            found = await driver.execute(caller, held, protocol.read(held.phase, operation), path, get=get)
            if operation is Operation.READ:
                self.shadow.offer(text(path))
            return found

    def list(self, prefix: PathLike = "") -> Iterator[Any]:
        """All objects below a folder, in no order; where both sides can list.

        Where both sides are asked, what the second has is looked for on the first, one by one: no listing is held in memory.

        Args:
            prefix: whole path segments. Empty for all.
        """
        return list_objects(self._executor, self.phase, prefix)

    async def list_async(self, prefix: PathLike = "") -> AsyncIterator[Any]:
        """See :meth:`list`."""
        import asyncio

        iterator = await asyncio.to_thread(lambda: iter(self.list(prefix)))
        while (found := await asyncio.to_thread(next, iterator, None)) is not None:
            yield found

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
        """Save content under the file's path.

        Args:
            file_object: names the object; what the deciding side answers is set in it.
            data: bytes, a path, a binary file, or an iterable of bytes.
            use_multipart: handed on.
            chunk_size: handed on.
            max_concurrency: handed on.

        Returns:
            ``file_object``.

        Raises:
            UnacknowledgedError: repairs of the key overtook the save again and again.
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
        self, caller: Caller, file: FileObject, data: Any, use_multipart: bool | None, chunk: int, concurrency: int
    ) -> FileObject:
        driver = self._executor
        with driver.phase_source.acquire(writing=True) or await driver.renew_lease(caller, writing=True) as held:
            rule = TABLE[held.phase]
            if rule.entries:
                how = {"use_multipart": use_multipart, "chunk_size": chunk, "max_concurrency": concurrency}
                await self._save_both(caller, held, file, data, how)
                return file
            side = rule.writes[0]
            save = bind_operation(caller, driver.side(side), "save_object")
            saving = save(file, data, use_multipart=use_multipart, chunk_size=chunk, max_concurrency=concurrency)
            await driver.run_counted("write", side, file.path, saving)
            # Stopped in the middle of it? Without an entry, others may by now read the side that it did not write.
            held.check()
            return file

    async def _save_both(
        self, caller: Caller, held: OperationLease, file: FileObject, data: Any, how: Mapping[str, Any]
    ) -> None:
        content = await spool(caller, data)
        first: list[Side] = []

        async def put(side: Side, content: SpooledContent) -> Any:
            backend = self._executor.side(side)
            first[:] = first or [side]
            # The row shall tell of the side that is read, not of the one that was written last.
            target = file if side is first[0] else FileObject(backend=backend, filename=file.path, **_copied(about))
            ready = await caller.run_blocking(lambda: content.read_from_start(whole=backend.driver == "fsspec"))
            await call_backend(caller, backend, "save_object", target, ready, **how)

        about = _copied({"content_type": file.content_type, "metadata": file.metadata})
        try:
            await self._executor.execute(
                caller, held, protocol.save(held.phase, content), file.path, put=put, about=about
            )
        finally:
            await caller.run_blocking(content.close)

    def delete_object(self, paths: PathLike | Sequence[PathLike]) -> None:
        """Delete one or more objects.

        Args:
            paths: key or keys. In the outer phases, what is not there is an error where the side says so.

        Raises:
            DeleteFailedError: of several, some could not be deleted; ``failures`` names each.
        """
        run(self._delete(BLOCKING, paths))

    async def delete_object_async(self, paths: PathLike | Sequence[PathLike]) -> None:
        """See :meth:`delete_object`."""
        await self._delete(AWAITING, paths)

    async def _delete(self, caller: Caller, paths: PathLike | Sequence[PathLike]) -> None:
        driver = self._executor
        with driver.phase_source.acquire(writing=True) or await driver.renew_lease(caller, writing=True) as held:
            await self._delete_keys(caller, held, paths)

    async def _delete_keys(self, caller: Caller, held: OperationLease, paths: PathLike | Sequence[PathLike]) -> None:
        phase = held.phase
        if not decide(phase, Operation.DELETE).entry:
            (side,) = TABLE[phase].writes
            await self._executor.run_counted(
                "delete", side, "", call_backend(caller, self._executor.side(side), "delete_object", paths)
            )
            held.check()
            return
        failures: dict[str, Exception] = {}
        wanted = several(paths)
        for path in wanted:
            try:
                await self._executor.execute(caller, held, protocol.delete(phase), path)
            except Exception as error:  # noqa: BLE001 - reported by key, below
                failures[text(path)] = error
        if failures:
            path, worst = next(iter(failures.items()))
            if len(wanted) == 1 or isinstance(worst, KeyRefusedError):
                raise worst
            raise DeleteFailedError(
                f"{len(failures)} of {len(wanted)} objects could not be deleted, {path!r} first: {worst}", failures
            ) from worst

    # Signed URLs

    def sign(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> _Urls:
        """URLs, each for the side that holds the object; for an upload, for the side that is written first.

        Where the deciding side is the only one that may hold an object, nothing is asked of it first.

        Args:
            paths: key or keys.
            expires_in: seconds.
            for_upload: for a URL to upload to: an entry stands until it has expired.

        Raises:
            NotImplementedError: the side has no signed URLs.
        """
        return run(self._sign(BLOCKING, paths, expires_in, for_upload))

    async def sign_async(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> _Urls:
        """See :meth:`sign`."""
        return await self._sign(AWAITING, paths, expires_in, for_upload)

    async def _sign(
        self, caller: Caller, paths: PathLike | Sequence[PathLike], expires_in: int | None, for_upload: bool
    ) -> _Urls:
        driver = self._executor
        with driver.phase_source.acquire(writing=for_upload) or await driver.renew_lease(
            caller, writing=for_upload
        ) as held:
            if not TABLE[held.phase].entries and not for_upload:
                (side,) = TABLE[held.phase].reads
                found: _Urls = await call_backend(caller, driver.side(side), "sign", paths, expires_in=expires_in)
                return found
            one = sign_upload if for_upload else sign_read
            urls = [await one(driver, caller, held, path, expires_in) for path in several(paths)]
        return urls[0] if isinstance(paths, str | os.PathLike) else urls


def _copied(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "metadata": dict(about["metadata"] or {})}
