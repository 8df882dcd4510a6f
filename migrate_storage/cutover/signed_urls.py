"""Signed URLs of a cutover: to read, for the side that holds the object; to upload, under an entry until they have expired."""

from __future__ import annotations

import time

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend.base import text
from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Side, decide
from migrate_storage.cutover.executor import ProtocolExecutor, call_backend
from migrate_storage.cutover.phase.lease import OperationLease
from migrate_storage.stores.sync_async import Caller

__all__ = ("sign_read", "sign_upload")

_UPLOAD_HOUR = 3600
_UPLOADING = 300
"""Seconds that an upload may go on after its URL has expired: a service looks at the time when it begins."""


async def sign_read(
    driver: ProtocolExecutor, caller: Caller, held: OperationLease, path: PathLike, expires_in: int | None
) -> str:
    """A URL for the side that holds the object; for the one that is read first where none does.

    Args:
        driver: of the backend.
        caller: how the sides are asked.
        held: on the phase.
        path: the key.
        expires_in: seconds.
    """
    phase, asked = held.phase, set[Side]()

    async def get(side: Side) -> str:
        backend = driver.side(side)
        url: str = await call_backend(caller, backend, "sign", path, expires_in=expires_in)
        alone = len(TABLE[phase].reads) == 1 and side is TABLE[phase].reads[0] and not asked
        asked.add(side)
        if not alone:
            # A URL can be made for what is not there, and the other side may have it.
            await call_backend(caller, backend, "head" if hasattr(backend, "head") else "get_content", path)
        return url

    try:
        signed: str = await driver.execute(caller, held, protocol.read(phase, Operation.SIGN), path, get=get)
    except FileNotFoundError:
        signed = await call_backend(caller, driver.side(TABLE[phase].reads[0]), "sign", path, expires_in=expires_in)
    return signed


async def sign_upload(
    driver: ProtocolExecutor, caller: Caller, held: OperationLease, path: PathLike, expires_in: int | None
) -> str:
    """A URL to upload to the side that is written first; an entry stands until it has expired, and a little longer.

    Args:
        driver: of the backend.
        caller: how the sides are asked.
        held: on the phase.
        path: the key.
        expires_in: seconds.
    """
    phase = held.phase
    (side,) = decide(phase, Operation.SIGN_UPLOAD).sides
    if driver.has_outbox or phase is not Phase.SOURCE:
        lasts = expires_in if isinstance(expires_in, int) and expires_in > 0 else _UPLOAD_HOUR
        held.check()
        entry = await caller.run_blocking(
            lambda: driver.outbox.open_entry(text(path), side, expires=time.time() + lasts + _UPLOADING)
        )
        await caller.run_blocking(driver.outbox.leave_for_repair, text(path), entry)
        side = entry.side if TABLE[phase].entries else side
    url: str = await call_backend(caller, driver.side(side), "sign", path, expires_in=expires_in, for_upload=True)
    return url
