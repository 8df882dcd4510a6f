"""CutoverBackend: one storage backend over a source and a destination backend."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import AsyncDataLike, DataLike, PathLike, StorageBackend

from migrate_storage.backend.base import several, text
from migrate_storage.backend.upload import DEFAULT_PART_BYTES
from migrate_storage.core.errors import DeleteFailedError, KeyRefusedError, UploadRefusedError
from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Side, decide
from migrate_storage.cutover.executor import ProtocolExecutor, call_backend
from migrate_storage.cutover.list_objects import list_objects
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.lease import OperationLease, PhaseSource
from migrate_storage.cutover.phase.source import phase_source
from migrate_storage.cutover.shadow_reads import ShadowReads
from migrate_storage.cutover.signed_urls import sign_read, sign_upload
from migrate_storage.cutover.spooled_content import SpooledContent, spool
from migrate_storage.reporting.metrics import Counters
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run

__all__ = ("CutoverBackend",)

_READS = {"head": Operation.HEAD, "attributes": Operation.READ, "stream": Operation.READ, "open": Operation.READ}
"""Reads beyond advanced-alchemy's interface. Both sides must have them."""
_Urls = str | list[str]


class CutoverBackend(StorageBackend):
    """Storage backend that writes and reads two stores in the order of a phase.

    Register it under the key that the models name. The table in ``docs/cutover.md`` gives the sides and their order in
    each phase. Every operation has two methods, ``name`` and ``name_async``. Where a save writes both sides, the
    content is read to its end before the first PUT. It is kept in memory up to 8 MiB, and in a temporary file beyond.

    Args:
        key: the backend key in the rows.
        source: the backend to move from.
        destination: the backend to move to.
        phase: the phase of this process. ``"shared"`` or a :class:`~migrate_storage.cutover.phase.source.SharedPhase`
            means the phase that all processes share. A function is called once per operation. ``None`` means the
            environment variable ``MIGRATE_STORAGE_PHASE``, which is ``source`` if unset.
        outbox: stores the entries; required in every phase but SOURCE.
        counters: the metrics, see ``docs/metrics.md``.
        shadow: the share of reads, from 0 to 1, that a background thread compares on both sides.

    Raises:
        ConfigurationError: the phase or the share does not exist, or the phase needs an outbox and there is none.
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
        """The current phase of this process.

        A shared phase without a valid lease takes one query.

        Raises:
            PhaseLostError: the phase is shared and cannot be read.
        """
        return self.phase_source.phase

    @property
    def protocol(self) -> str:  # type: ignore[override]
        """That of the side that is read first."""
        return str(self._executor.side(TABLE[self.phase_source.last_known or Phase.SOURCE].reads[0]).protocol)

    @property
    def fs(self) -> Any:
        """That of the side that is read first."""
        return self._executor.side(TABLE[self.phase_source.last_known or Phase.SOURCE].reads[0]).fs

    # Reading

    def get_content(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """Read the bytes of an object.

        Args:
            path: its key.
            options: passed to the side that is read.

        Raises:
            FileNotFoundError: no side of the phase has the object. A side that fails raises its own error.
        """
        found: bytes = run(self._read(BLOCKING, "get_content", Operation.READ, path, options=options))
        return found

    async def get_content_async(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """See :meth:`get_content`."""
        found: bytes = await self._read(AWAITING, "get_content", Operation.READ, path, options=options)
        return found

    def exists(self, path: PathLike) -> bool:
        """Return whether an object exists. A side that fails raises its own error."""
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

    def confirm(self, file: FileObject, *, delete_refused: bool = False, **bounds: Any) -> FileObject:
        """Check an object that a client uploaded, where this phase reads it, and describe it in its ``FileObject``.

        As :meth:`ObstoreBackend.confirm`. Both sides must have the method.

        Args:
            file: names the object.
            delete_refused: delete an object that is refused, from both sides as :meth:`delete_object` does.
            **bounds: ``min_size``, ``max_size`` and ``content_types``.
        """
        return run(self._confirm(BLOCKING, file, delete_refused, bounds))

    async def confirm_async(self, file: FileObject, *, delete_refused: bool = False, **bounds: Any) -> FileObject:
        """See :meth:`confirm`."""
        return await self._confirm(AWAITING, file, delete_refused, bounds)

    async def _confirm(
        self, caller: Caller, file: FileObject, delete_refused: bool, bounds: Mapping[str, Any]
    ) -> FileObject:
        for side in (self.source, self.destination):
            if not hasattr(side, "confirm"):
                raise NotImplementedError(
                    f"{side.key!r} cannot confirm uploads: {type(side).__name__} has no such method"
                )
        try:
            await self._read(caller, "confirm", Operation.HEAD, file.path, about=file, **bounds)
        except UploadRefusedError as error:
            if not delete_refused:
                raise
            await self._delete(caller, file.path)
            raise UploadRefusedError(f"{error}; it was deleted", error.reasons) from None
        return file

    def __getattr__(self, name: str) -> Any:
        base = name.removesuffix("_async")
        if base not in _READS or not all(hasattr(side, name) for side in (self.source, self.destination)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == base:
            return lambda path, **options: run(self._read(BLOCKING, base, _READS[base], path, **options))
        return lambda path, **options: self._read(AWAITING, base, _READS[base], path, **options)

    async def _read(
        self,
        caller: Caller,
        name: str,
        operation: Operation,
        path: PathLike,
        *,
        about: FileObject | None = None,
        **options: Any,
    ) -> Any:
        executor = self._executor

        def get(side: Side) -> Awaitable[Any]:
            return call_backend(caller, executor.side(side), name, path if about is None else about, **options)

        with executor.phase_source.acquire(writing=False) or await executor.renew_lease(caller) as lease:
            rule = TABLE[lease.phase]
            if not rule.entries:
                # Without the protocol: this path is the cost of every read before and after a cutover.
                return await executor.run_counted("read", rule.reads[0], text(path), get(rule.reads[0]))
            found = await executor.execute(caller, lease, protocol.read(lease.phase, operation), path, get=get)
            if operation is Operation.READ:
                self.shadow.offer(text(path))
            return found

    def list(self, prefix: PathLike = "") -> Iterator[Any]:
        """List all objects below a folder, unsorted, if both sides can list.

        Where both sides are listed, each object of the second is checked with HEAD on the first. No listing is kept in
        memory.

        Args:
            prefix: whole path segments; empty for all objects.
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
        chunk_size: int = DEFAULT_PART_BYTES,
        max_concurrency: int = 12,
    ) -> FileObject:
        """Save content under the file's path.

        Args:
            file_object: names the object. Its attributes are set from the answer of the side that is written first.
            data: bytes, a path, a binary file, or an iterable of bytes.
            use_multipart: passed to both sides.
            chunk_size: bytes, passed to both sides.
            max_concurrency: passed to both sides.

        Returns:
            ``file_object``.

        Raises:
            UnacknowledgedError: a repair of the key ended during every attempt.
        """
        return run(self._save(BLOCKING, file_object, data, use_multipart, chunk_size, max_concurrency))

    async def save_object_async(
        self,
        file_object: FileObject,
        data: AsyncDataLike,
        *,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_PART_BYTES,
        max_concurrency: int = 12,
    ) -> FileObject:
        """See :meth:`save_object`; ``data`` may be asynchronous."""
        return await self._save(AWAITING, file_object, data, use_multipart, chunk_size, max_concurrency)

    async def _save(
        self, caller: Caller, file: FileObject, data: Any, use_multipart: bool | None, chunk: int, concurrency: int
    ) -> FileObject:
        executor = self._executor
        with executor.phase_source.acquire(writing=True) or await executor.renew_lease(caller, writing=True) as lease:
            rule = TABLE[lease.phase]
            how = {"use_multipart": use_multipart, "chunk_size": chunk, "max_concurrency": concurrency}
            if rule.entries:
                await self._save_both(caller, lease, file, data, how)
                return file
            side = rule.writes[0]
            saving = call_backend(caller, executor.side(side), "save_object", file, data, **how)
            await executor.run_counted("write", side, file.path, saving)
            # If the process was suspended, others may now read the other side, and no entry names this write.
            lease.check()
            return file

    async def _save_both(
        self, caller: Caller, lease: OperationLease, file: FileObject, data: Any, how: Mapping[str, Any]
    ) -> None:
        content = await spool(caller, data)
        first: list[Side] = []

        async def put(side: Side, content: SpooledContent) -> Any:
            backend = self._executor.side(side)
            first[:] = first or [side]
            # The row must describe the object of the side that is read, not of the side that is written last.
            target = file
            if side is not first[0]:
                target = FileObject(backend=backend, filename=file.path, **_copy_attributes(about))
            ready = await caller.run_blocking(lambda: content.read_from_start(as_bytes=backend.driver == "fsspec"))
            await call_backend(caller, backend, "save_object", target, ready, **how)

        about = _copy_attributes({"content_type": file.content_type, "metadata": file.metadata})
        try:
            steps = protocol.save(lease.phase, content)
            await self._executor.execute(caller, lease, steps, file.path, put=put, about=about)
        finally:
            await caller.run_blocking(content.close)

    def delete_object(self, paths: PathLike | Sequence[PathLike]) -> None:
        """Delete one or more objects.

        Args:
            paths: key or keys. In SOURCE and DESTINATION a missing object is an error where the side raises one.

        Raises:
            DeleteFailedError: some of several objects could not be deleted; ``failures`` has each.
        """
        run(self._delete(BLOCKING, paths))

    async def delete_object_async(self, paths: PathLike | Sequence[PathLike]) -> None:
        """See :meth:`delete_object`."""
        await self._delete(AWAITING, paths)

    async def _delete(self, caller: Caller, paths: PathLike | Sequence[PathLike]) -> None:
        executor = self._executor
        with executor.phase_source.acquire(writing=True) or await executor.renew_lease(caller, writing=True) as lease:
            await self._delete_keys(caller, lease, paths)

    async def _delete_keys(self, caller: Caller, lease: OperationLease, paths: PathLike | Sequence[PathLike]) -> None:
        phase = lease.phase
        if not decide(phase, Operation.DELETE).entry:
            (side,) = TABLE[phase].writes
            deleting = call_backend(caller, self._executor.side(side), "delete_object", paths)
            await self._executor.run_counted("delete", side, "", deleting)
            lease.check()
            return
        failures: dict[str, Exception] = {}
        wanted = several(paths)
        for path in wanted:
            try:
                await self._executor.execute(caller, lease, protocol.delete(phase), path)
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
        """Sign URLs for reads, or for uploads.

        A URL for reads is for the side that has the object, one for uploads for the side that is written first. Where
        only one side can have an object, no request is sent to find it.

        Args:
            paths: key or keys.
            expires_in: seconds.
            for_upload: sign for an upload; an entry stays open until the URL has expired.

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
        executor = self._executor
        lease = executor.phase_source.acquire(writing=for_upload)
        with lease or await executor.renew_lease(caller, writing=for_upload) as lease:
            if not TABLE[lease.phase].entries and not for_upload:
                (side,) = TABLE[lease.phase].reads
                found: _Urls = await call_backend(caller, executor.side(side), "sign", paths, expires_in=expires_in)
                return found
            one = sign_upload if for_upload else sign_read
            urls = [await one(executor, caller, lease, path, expires_in) for path in several(paths)]
        return urls[0] if isinstance(paths, str | os.PathLike) else urls


def _copy_attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "metadata": dict(about["metadata"] or {})}
