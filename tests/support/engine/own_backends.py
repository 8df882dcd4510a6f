"""Storage backends of an application's own classes: over files, encrypting over fsspec, and asynchronous only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import StorageBackend
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

SEAL = bytes(byte ^ 0x5A for byte in range(256))
"""The cipher of :class:`Sealed`, which is its own inverse."""


class Vault(StorageBackend):
    """Files in a folder, named by the digest of their filename."""

    driver = "vault"
    protocol = "vault"

    def __init__(self, key: str, folder: Path) -> None:
        super().__init__(key, None)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.reads: Counter[str] = Counter()
        #: Called with each path before it is read, and the number of the read.
        self.before_read: Callable[[str, int], object] = lambda path, number: None

    def at(self, path: Any) -> Path:
        return self.folder / hashlib.sha1(str(path).encode()).hexdigest()

    def get_content(self, path: Any, *, options: dict[str, Any] | None = None) -> bytes:
        self.reads[str(path)] += 1
        self.before_read(str(path), self.reads[str(path)])
        return self.at(path).read_bytes()

    async def get_content_async(self, path: Any, *, options: dict[str, Any] | None = None) -> bytes:
        return self.get_content(path)

    def save_object(self, file_object: FileObject, data: Any, **options: Any) -> FileObject:
        self.at(file_object.path).write_bytes(data)
        return file_object

    async def save_object_async(self, file_object: FileObject, data: Any, **options: Any) -> FileObject:
        return self.save_object(file_object, data)

    def delete_object(self, paths: Any) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            self.at(path).unlink()

    async def delete_object_async(self, paths: Any) -> None:
        self.delete_object(paths)

    def sign(self, paths: Any, **options: Any) -> str:
        raise NotImplementedError

    async def sign_async(self, paths: Any, **options: Any) -> str:
        raise NotImplementedError


class AsyncVault(Vault):
    """Is read asynchronously only, and saves the loops in which it was."""

    def __init__(self, key: str, folder: Path) -> None:
        super().__init__(key, folder)
        self.loops: set[int] = set()

    def get_content(self, path: Any, *, options: dict[str, Any] | None = None) -> bytes:
        raise NotImplementedError("use get_content_async")

    async def get_content_async(self, path: Any, *, options: dict[str, Any] | None = None) -> bytes:
        import asyncio

        self.loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return Vault.get_content(self, path)


class Sealed(FSSpecBackend):
    """Encrypts what it saves, over any filesystem of fsspec."""

    def __init__(self, key: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(key, fsspec.filesystem("file", auto_mkdir=True), prefix=str(folder))

    def get_content(self, path: Any, *, options: dict[str, Any] | None = None) -> bytes:
        sealed = super().get_content(path, options=options)
        if not sealed.startswith(b"sealed:"):
            raise ValueError("not sealed by us")
        return sealed.removeprefix(b"sealed:").translate(SEAL)

    async def get_content_async(self, path: Any, *, options: dict[str, Any] | None = None) -> bytes:
        return self.get_content(path, options=options)

    def save_object(self, file_object: FileObject, data: Any, **options: Any) -> FileObject:
        return super().save_object(file_object, b"sealed:" + data.translate(SEAL), **options)
