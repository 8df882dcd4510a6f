"""Read, convert and write source files, and show the change as a diff."""

from __future__ import annotations

import difflib
import os
import tempfile
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import masked_literals
from migrate_storage.translate.codemod.rewrite_source import EVERYTHING, Conversion, Converted, convert_source

__all__ = ("ConvertedFile", "convert_file", "difference", "sources", "write")

#: Folders of other people's code.
_SKIPPED = frozenset({".git", ".hg", ".tox", ".nox", ".venv", "venv", "node_modules", "__pycache__", "build", "dist"})


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """One file, read and converted; nothing was written."""

    path: Path
    source: str
    encoding: str
    converted: Converted
    #: Why it could not be read; empty when it could.
    error: str = ""


def sources(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the Python files among paths and below folders, each once, in order.

    Raises:
        ConfigurationError: a path does not exist.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: no such file or folder")
        for file in sorted(_find_python_files(path)) if path.is_dir() else [path]:
            if file not in seen:
                seen.add(file)
                yield file


def _find_python_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        if not _SKIPPED & set(path.relative_to(folder).parts):
            yield path


def convert_file(path: Path, how: Conversion = EVERYTHING) -> ConvertedFile:
    """Read and convert one file. ``error`` has the reason where it cannot be read.

    Args:
        path: the file.
        how: which registrations are converted, and how.
    """
    try:
        with path.open("rb") as file:
            encoding, _ = tokenize.detect_encoding(file.readline)
        with path.open(encoding=encoding, newline="") as file:
            source = file.read()
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        why = getattr(error, "strerror", None) or "not text in the encoding that it names"
        return ConvertedFile(path, "", "", Converted(""), str(why))
    if "FSSpecBackend" not in source:
        return ConvertedFile(path, source, encoding, Converted(source))
    try:
        return ConvertedFile(path, source, encoding, convert_source(source, how))
    except ValueError as error:
        return ConvertedFile(path, source, encoding, Converted(source), str(error))


def difference(file: ConvertedFile) -> str:
    """Return the change as a unified diff to read, with secrets as ``***``."""
    name = str(file.path)
    before, after = (_mask_secrets(text, file.converted.secrets) for text in (file.source, file.converted.code))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _mask_secrets(text: str, secrets: frozenset[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        for quote in "\"'":
            text = text.replace(f"{quote}{secret}{quote}", f"{quote}***{quote}")
        if len(secret) > 7:
            text = text.replace(secret, "***")
    return "\n".join(masked_literals(line) for line in text.splitlines())


def write(file: ConvertedFile) -> None:
    """Replace a file by its conversion, in one step; its mode is kept.

    Raises:
        ConfigurationError: it cannot be written; the file is unchanged.
    """
    target = file.path.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding=file.encoding, newline="") as output:
                output.write(file.converted.code)
            Path(name).chmod(target.stat().st_mode)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{file.path} cannot be written: {error.strerror}; it is as it was") from None
