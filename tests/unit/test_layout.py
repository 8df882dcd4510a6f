"""The twelve packages import in one direction, and no two files import each other.

``docs/design.md`` opens with the order; this test reads it there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
PACKAGE = ROOT / "migrate_storage"
ORDER = re.search(r"^`(core < .*)`$", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)[1].split(" < ")
FACE = ("__init__", "__main__", "testing")
"""Modules beside the packages. They may import from each of them, and no package imports from them."""
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(name: str, *, late: bool) -> Iterator[str]:
    """Yield the modules of this package that a module imports; with ``late`` also those inside functions."""
    tree = ast.parse(FILES[name].read_text())
    for node in ast.walk(tree) if late else at_import_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in FILES else node.module


def at_import_time(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))


def package_of(module: str) -> str:
    """Return the name below ``migrate_storage`` that a module belongs to."""
    return (module.split(".") + ["__init__"])[1]


def test_the_folder_shows_the_packages_and_nothing_else() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(ORDER)
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(FACE)


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_those_before_it(package: str) -> None:
    upward = [
        f"{name} imports {other}"
        for name in sorted(FILES)
        if package_of(name) == package
        for other in imported(name, late=True)
        if package_of(other) in FACE or ORDER.index(package_of(other)) > ORDER.index(package)
    ]
    assert upward == []


def test_no_two_files_import_each_other() -> None:
    graph = {name: {other for other in imported(name, late=False) if other != name} for name in FILES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
