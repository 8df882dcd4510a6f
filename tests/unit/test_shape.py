"""No function takes more than seven parameters, no class has more than fifteen public methods, and no class is used by calling it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

PACKAGE = ROOT / "migrate_storage"
MAX_PARAMETERS = 7
MAX_PUBLIC_METHODS = 15
STORAGE_BACKENDS = {"ObstoreBackend", "CutoverBackend", "Confirms", "Reads", "Writes", "Signing"}
"""They have the methods of advanced-alchemy's ``StorageBackend``, each in a sync and an async form."""
LISTENERS = {"Shown", "Lines", "LiveDisplay", "JsonLines", "EachShown"}
"""A listener is a function of one event; these are listeners that keep state."""
PROVIDERS = {"StaticCredentials", "_Lazy"}
"""obstore calls a credential provider."""


def definitions(kind: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from ((path, node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters without ``self`` and ``cls``."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_no_function_takes_more_than_seven_parameters() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {len(parameters(node))}"
        for path, node in definitions(ast.FunctionDef | ast.AsyncFunctionDef)  # type: ignore[arg-type]
        if len(parameters(node)) > MAX_PARAMETERS
    ]
    assert long == []


def test_no_class_has_more_than_fifteen_public_methods() -> None:
    large = []
    for path, node in definitions(ast.ClassDef):
        methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        public = [each.name for each in methods if not each.name.startswith("_")]
        if len(public) > MAX_PUBLIC_METHODS and node.name not in STORAGE_BACKENDS:
            large.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {len(public)}")
    assert large == []


def test_no_class_is_used_by_calling_it() -> None:
    called = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in definitions(ast.ClassDef)
        if any(
            isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == "__call__" for each in node.body
        )
        and node.name not in LISTENERS | PROVIDERS
    ]
    assert called == []
