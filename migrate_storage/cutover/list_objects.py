"""The listing of a cutover: that of the side which is read, what only the other has, and keys with an entry one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend.base import text
from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import Operation, Phase, Side, decide
from migrate_storage.cutover.executor import ProtocolExecutor
from migrate_storage.stores.sync_async import BLOCKING, run

__all__ = ("list_objects",)


def list_objects(driver: ProtocolExecutor, phase: Phase, prefix: PathLike) -> Iterator[Any]:
    """All objects below a folder, in no order.

    Where both sides are asked, what the second has is looked for on the first, one by one: no listing is held in memory.

    Args:
        driver: of the backend.
        phase: of this process.
        prefix: whole path segments. Empty for all.
    """
    decision = decide(phase, Operation.LIST)
    asked = {each.path for each in driver.outbox.pending_entries()} if decision.entry else set()
    sides = decision.sides
    for side in sides:
        for meta in driver.side(side).list(prefix):
            if meta.path not in asked and (side is sides[0] or not _has(driver, sides[0], meta.path)):
                yield meta
    for path in asked:
        if _below(path, prefix) and (found := _looked(driver, path, phase)) is not None:
            yield found


def _has(driver: ProtocolExecutor, side: Side, path: str) -> bool:
    try:
        driver.side(side).head(path)
    except (FileNotFoundError, KeyRefusedError):
        return False
    return True


def _looked(driver: ProtocolExecutor, path: str, phase: Phase) -> Any:
    async def get(side: Side) -> Any:
        return driver.side(side).head(path)

    try:
        return run(driver.execute(BLOCKING, None, protocol.read(phase, Operation.HEAD), path, get=get))
    except (FileNotFoundError, KeyRefusedError):
        return None


def _below(path: str, prefix: PathLike) -> bool:
    folder = text(prefix).strip("/")
    return not folder or path.startswith(f"{folder}/")
