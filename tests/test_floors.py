"""Imports point down the floors that docs/design.md draws, and every module stands on one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "migrate_storage"
DRAWING = re.search(r"```floors\n(.*?)```", (ROOT / "docs" / "design.md").read_text(), re.DOTALL)[1]
FLOORS = [line.split() for line in DRAWING.splitlines()]
HEIGHT = {module: int(number) for number, _, *modules in FLOORS for module in modules}
NAME = {int(number): name for number, name, *_ in FLOORS}


def part(dotted: str) -> str:
    """``migrate_storage.translate.s3`` stands where ``translate`` does."""
    _, _, rest = dotted.partition(".")
    return rest.split(".")[0] or "__init__"


def imported(tree: ast.AST) -> Iterator[str]:
    """What a module imports of this package, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (part(alias.name) for alias in node.names if alias.name.split(".")[0] == PACKAGE.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            names = [alias.name for alias in node.names] if node.module == PACKAGE.name else [""]
            inside = [name if HEIGHT.get(name) is not None else "" for name in names]
            yield from (part(f"{node.module}.{name}".rstrip(".")) for name in inside)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert module in HEIGHT, f"{module} stands on no floor: draw it into docs/design.md"
    for other in imported(ast.parse(path.read_text())):
        assert HEIGHT[other] <= HEIGHT[module], (
            f"{module} ({NAME[HEIGHT[module]]}) imports {other}, which stands above it: "
            f"move {module} to the floor {NAME[HEIGHT[other]]}, or what it needs down to {NAME[HEIGHT[module]]}"
        )
