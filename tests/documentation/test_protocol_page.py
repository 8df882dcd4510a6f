"""docs/protocol.md names a test for every interleaving, and each of them exists."""

from __future__ import annotations

import ast
import re

from tests.support import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()


def test_every_interleaving_names_a_test_that_there_is() -> None:
    table = PAGE.partition("## Interleavings")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 20
    for row in rows:
        [(path, name)] = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        tree = ast.parse((ROOT / path).read_text())
        assert name in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}, row
