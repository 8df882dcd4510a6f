"""Signed URLs of a cutover, for reads and for uploads."""

from __future__ import annotations

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend.base import text
from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Side, decide
from migrate_storage.cutover.executor import ProtocolExecutor, call_backend
from migrate_storage.cutover.phase.lease import OperationLease
from migrate_storage.stores.sync_async import Caller

__all__ = ("sign_read", "sign_upload")

DEFAULT_UPLOAD_SECONDS = 3600
UPLOAD_GRACE_SECONDS = 300
"""Duration of an upload: a service checks the URL's expiry only when it begins."""


async def sign_read(
    executor: ProtocolExecutor, caller: Caller, lease: OperationLease, path: PathLike, expires_in: int | None
) -> str:
    """Sign a URL, valid for ``expires_in`` seconds, for the side that has the object.

    If no side has it, the URL is for the side that is read first.
    """
    phase, asked = lease.phase, set[Side]()

    async def get(side: Side) -> str:
        backend = executor.side(side)
        url: str = await call_backend(caller, backend, "sign", path, expires_in=expires_in)
        alone = len(TABLE[phase].reads) == 1 and side is TABLE[phase].reads[0] and not asked
        asked.add(side)
        if not alone:
            # A URL can be signed for a missing object, and the other side may have it.
            await call_backend(caller, backend, "head" if hasattr(backend, "head") else "get_content", path)
        return url

    try:
        signed: str = await executor.execute(caller, lease, protocol.read(phase, Operation.SIGN), path, get=get)
    except FileNotFoundError:
        signed = await call_backend(caller, executor.side(TABLE[phase].reads[0]), "sign", path, expires_in=expires_in)
    return signed


async def sign_upload(
    executor: ProtocolExecutor, caller: Caller, lease: OperationLease, path: PathLike, expires_in: int | None
) -> str:
    """Sign an upload URL for the side that is written first, under an entry.

    The entry stays open until the ``expires_in`` seconds of the URL and :data:`UPLOAD_GRACE_SECONDS` have passed.
    """
    phase = lease.phase
    (side,) = decide(phase, Operation.SIGN_UPLOAD).sides
    if executor.has_outbox or phase is not Phase.SOURCE:
        lasts = expires_in if isinstance(expires_in, int) and expires_in > 0 else DEFAULT_UPLOAD_SECONDS
        lease.check()
        entry = await caller.run_blocking(
            lambda: executor.outbox.open_entry(
                text(path), side, expires=executor.outbox.clock() + lasts + UPLOAD_GRACE_SECONDS
            )
        )
        await caller.run_blocking(executor.outbox.leave_for_repair, text(path), entry)
        side = entry.side if TABLE[phase].entries else side
    url: str = await call_backend(caller, executor.side(side), "sign", path, expires_in=expires_in, for_upload=True)
    return url
