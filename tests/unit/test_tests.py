"""The tests are laid out as the package is, share code only through ``tests/support``, and the unit tests need no server."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

TESTS = ROOT / "tests"
PACKAGE = ROOT / "migrate_storage"
SERVER_FIXTURES = {"rclone_s3", "moto_s3", "azurite", "gcs", "postgres_url", "mariadb_url", "database_url"}


def modules(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the Python files of this project below a folder; the applications of the playbooks are data."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(TESTS).parts
        if not (parts[:2] == ("documentation", "playbooks") and len(parts) > 3):
            yield path, ast.parse(path.read_text())


def test_code_that_tests_share_is_in_support() -> None:
    imports = [
        f"{path.relative_to(ROOT)} imports {node.module}"
        for path, tree in modules(TESTS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.level or (node.module or "").split(".")[0] == "tests")
        and not f"{node.module}.".startswith("tests.support.")
    ]
    assert imports == []


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_each_folder_of_tests_names_a_package(kind: str) -> None:
    folders = {path.parent.relative_to(TESTS / kind) for path in (TESTS / kind).rglob("test_*.py")}
    strange = {str(folder) for folder in folders if not (PACKAGE / folder / "__init__.py").exists()}
    assert strange <= {"support"}


def test_a_unit_test_needs_no_server() -> None:
    taken = [
        f"{path.relative_to(ROOT)}:{node.lineno} {parameter.arg}"
        for path, tree in modules(TESTS / "unit")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for parameter in node.args.args
        if parameter.arg in SERVER_FIXTURES
    ]
    assert taken == []
