"""Names of a file that other files of its tree import: removing one would break them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ("ImportedNames", "find_tree")

_ROOTS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")


def find_tree(path: Path) -> Path:
    """Return the folder of the project that a file or folder belongs to; its own folder without a project."""
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return next((each for each in (folder, *folder.parents) if any((each / name).exists() for name in _ROOTS)), folder)


class ImportedNames:
    """What the files of a tree import from each other.

    Args:
        files: all files of the tree; those that cannot be read import nothing.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._uses: dict[str, dict[str, set[Path]]] = {}
        for file in files:
            for module, name in _find_uses(file):
                self._uses.setdefault(module, {}).setdefault(name, set()).add(file.resolve())

    def of(self, path: Path) -> frozenset[str]:
        """Return the names that other files import from a file. ``*`` means all of them.

        Modules are distinguished by the last part of their name: a name too many stays, none too few.
        """
        module = path.resolve().parent.name if path.stem == "__init__" else path.stem
        uses = self._uses.get(module, {})
        return frozenset(name for name, users in uses.items() if users - {path.resolve()})


def _find_uses(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the last part of a module's name with each name that a file takes from it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").rpartition(".")[2] or file.resolve().parent.name
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name:
                yield name, node.attr
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # mock.patch("app.storage.fs"), import_string("app.storage.fs")
            dotted = node.args[0].value
            if isinstance(dotted, str) and dotted.count(".") > 0:
                owner_name, _, attribute = dotted.rpartition(".")
                yield owner_name.rpartition(".")[2], attribute
