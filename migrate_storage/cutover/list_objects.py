"""The listing of a cutover, joined from both sides and the open entries."""

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


def list_objects(executor: ProtocolExecutor, phase: Phase, prefix: PathLike) -> Iterator[Any]:
    """Yield all objects below a folder, unsorted.

    The side that is read first is listed. Where the other side is listed too, each of its objects is checked
    with HEAD on the first side. So no listing is kept in memory. Keys with an open entry are read one by one, as their
    entries decide. ``prefix`` contains whole path segments, and is empty for all objects.
    """
    decision = decide(phase, Operation.LIST)
    pending = {entry.path for entry in executor.outbox.pending_entries()} if decision.entry else set()
    sides = decision.sides
    for side in sides:
        for meta in executor.side(side).list(prefix):
            if meta.path not in pending and (side is sides[0] or not _exists_on(executor, sides[0], meta.path)):
                yield meta
    for path in pending:
        if _is_below(path, prefix) and (meta := _head_as_entry_decides(executor, path, phase)) is not None:
            yield meta


def _exists_on(executor: ProtocolExecutor, side: Side, path: str) -> bool:
    try:
        executor.side(side).head(path)
    except (FileNotFoundError, KeyRefusedError):
        return False
    return True


def _head_as_entry_decides(executor: ProtocolExecutor, path: str, phase: Phase) -> Any:
    async def get(side: Side) -> Any:
        return executor.side(side).head(path)

    try:
        return run(executor.execute(BLOCKING, None, protocol.read(phase, Operation.HEAD), path, get=get))
    except (FileNotFoundError, KeyRefusedError):
        return None


def _is_below(path: str, prefix: PathLike) -> bool:
    folder = text(prefix).strip("/")
    return not folder or path.startswith(f"{folder}/")
