"""The public Python names are those that docs/python.md lists, and each can be imported."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.support import ROOT

ROWS = re.findall(r"^\| `(migrate_storage[\w.]*)` \| (.*?) \|", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE)
LISTED = {module: set(re.findall(r"`(\w+)`", names)) for module, names in ROWS}


@pytest.mark.parametrize("module", LISTED)
def test_a_module_exports_what_the_page_lists(module: str) -> None:
    exported = set(import_module(module).__all__) - {"__version__"}
    assert exported == LISTED[module]
    for name in exported:
        assert getattr(import_module(module), name) is not None


def test_the_page_lists_each_public_module() -> None:
    assert set(LISTED) == {
        "migrate_storage",
        "migrate_storage.backend",
        "migrate_storage.backend.fsspec_compat",
        "migrate_storage.cutover",
        "migrate_storage.jobs",
        "migrate_storage.journal.alembic",
        "migrate_storage.testing",
    }
