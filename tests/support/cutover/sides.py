"""Two stores that a test can break, and the cutover backend over them."""

from __future__ import annotations

from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox
from tests.support.cutover.breaking_backend import Breaking


class Sides:
    """Two stores that can be broken, and the backend over them."""

    def __init__(self, phase: Phase, outbox: Outbox) -> None:
        self.source = Breaking("source", "memory://")
        self.destination = Breaking("destination", "memory://")
        self.outbox = outbox
        self.backend = CutoverBackend("files", self.source, self.destination, phase=phase, outbox=outbox)

    def shadowed(self, share: float) -> None:
        phase = self.backend.phase
        self.backend = CutoverBackend(
            "files", self.source, self.destination, phase=phase, outbox=self.outbox, shadow=share
        )

    def at(self, side: Side) -> Breaking:
        return self.source if side is Side.SOURCE else self.destination

    def put(self, side: Side, content: bytes) -> None:
        store = self.at(side)
        ObstoreBackend.save_object(store, FileObject(backend=store, filename="k"), content)

    def has(self, side: Side) -> bytes | None:
        try:
            return ObstoreBackend.get_content(self.at(side), "k")
        except FileNotFoundError:
            return None

    def save(self, content: bytes) -> FileObject:
        return self.backend.save_object(FileObject(backend=self.backend, filename="k"), content)
