"""Names of a file that other files of its tree import: removing one would break them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
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
    aliases = dict(_find_aliases(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").rpartition(".")[2] or file.resolve().parent.name
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            if name := _name_module(node.value, aliases):
                yield name, node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            # getattr(app, "fs"), monkeypatch.setattr(app, "fs", other)
            name, attribute = _name_module(node.args[0], aliases), node.args[1].value
            if name and isinstance(attribute, str):
                yield name, attribute
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # mock.patch("app.storage.fs"), import_string("app.storage.fs")
            dotted = node.args[0].value
            if isinstance(dotted, str) and dotted.count(".") > 0:
                owner_name, _, attribute = dotted.rpartition(".")
                yield owner_name.rpartition(".")[2], attribute


def _find_aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield other names of modules: ``import app as a``, ``from . import app as a``, ``a = import_module("app")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname, alias.name.rpartition(".")[2]) for alias in node.names if alias.asname)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and isinstance(node.value, ast.Call):
            targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
            name = _name_module(node.value, {})
            yield from ((target.id, name) for target in targets if isinstance(target, ast.Name) and name)


def _name_module(node: ast.expr, aliases: Mapping[str, str]) -> str:
    """Return the last part of the name of the module that an expression may be; empty for any other expression."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function in ("import_module", "__import__"):
            return str(node.args[0].value).rpartition(".")[2]
    return ""
