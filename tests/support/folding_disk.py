"""A disk that takes two spellings for one name, as those of macOS and Windows do: made of links that no listing shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrate_storage.stores import obstore_store, spelling

__all__ = ("FoldingDisk", "folding_disk")


class FoldingDisk:
    """Gives each file that obstore writes a second name in the other case."""

    def __init__(self) -> None:
        self._hidden: set[Path] = set()
        self._sync_to_disk, self._list_names = obstore_store._sync_to_disk, spelling.list_names

    def write(self, path: Path, content: bytes) -> None:
        """Write a file as another program does."""
        path.write_bytes(content)
        self.link(path)

    def link(self, path: Path) -> None:
        """Give a file its second name."""
        other = path.with_name(path.name.swapcase())
        if not other.exists():
            os.link(path, other)
            self._hidden.add(other)

    def sync(self, path: Path) -> None:
        """Stand in for the end of a PUT."""
        self._sync_to_disk(path)
        self.link(path)

    def list_names(self, folder: Path) -> list[str]:
        """Stand in for the listing of a folder."""
        return [name for name in self._list_names(folder) if folder / name not in self._hidden]


@pytest.fixture
def folding_disk(monkeypatch: pytest.MonkeyPatch) -> FoldingDisk:
    """Let each local disk of this test be such a disk."""
    disk = FoldingDisk()
    monkeypatch.setattr(obstore_store, "_sync_to_disk", disk.sync)
    monkeypatch.setattr(spelling, "list_names", disk.list_names)
    return disk
