"""What the reading and the writing half of a backend share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike, StorageBackend

from migrate_storage.backend.errors import ErrorTranslator
from migrate_storage.backend.locators import StoreLocator

__all__ = ("Located", "several", "text")


class Located(StorageBackend):
    """A backend whose locator finds the obstore store and the key for each path."""

    store_metadata: bool
    exact_last_modified: bool
    _locator: StoreLocator
    _secrets: tuple[str, ...]

    def _locate(self, path: PathLike) -> tuple[Any, str]:
        """Return the store and the key in it that a path means.

        Raises:
            KeyRefusedError: the store cannot have such a key.
        """
        return self._locator.locate(text(path))

    def _translate_errors(self, doing: str, path: PathLike) -> ErrorTranslator:
        return ErrorTranslator(doing, text(path), self._locator.where, self._secrets)


def text(path: PathLike) -> str:
    """Return a path as a key, with slashes."""
    if isinstance(path, str):
        return path
    return path.as_posix() if isinstance(path, PurePath) else str(os.fspath(path))


def several(paths: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """Return one path or several as a list."""
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)
