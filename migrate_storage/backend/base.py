"""What the operations of a backend stand on."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike, StorageBackend

from migrate_storage.backend.errors import Explaining
from migrate_storage.translate.model import StoreConfig

__all__ = ("Located", "several", "text")


class Located(StorageBackend):
    """A backend that knows for each path the obstore store and the key in it."""

    config: StoreConfig | None
    store_metadata: bool
    exact_last_modified: bool
    _where: str
    _secrets: tuple[str, ...]

    @abstractmethod
    def _locate(self, path: PathLike) -> tuple[Any, str]:
        """The store and the key in it that a path means.

        Raises:
            KeyRefusedError: the store cannot hold such a key.
        """

    def _explaining(self, doing: str, path: PathLike) -> Explaining:
        return Explaining(doing, text(path), self._where, self._secrets)


def text(path: PathLike) -> str:
    """A path as a key is written, with slashes."""
    if isinstance(path, str):
        return path
    return path.as_posix() if isinstance(path, PurePath) else str(os.fspath(path))


def several(paths: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """One path or many, as many."""
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)
