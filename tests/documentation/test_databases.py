"""Each test that the page of databases names is there, and each supported database is on the page."""

from __future__ import annotations

import re

import pytest

from migrate_storage.database.dialects import DIALECTS, SUPPORTED
from tests.support.cli.project import ROOT

PAGE = (ROOT / "docs" / "databases.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_the_page_names_exists(path: str, name: str) -> None:
    assert re.search(rf"^(?:async )?def {name}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE)


def test_the_page_names_tests_and_every_database() -> None:
    assert len(NAMED) > 20
    assert not re.findall(r"`[\w/]+\.py`, `?test_", PAGE)
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB", "duckdb": "DuckDB"}
    assert set(names) == set(DIALECTS)
    for name in names.values():
        assert f"| {name} |" in PAGE
        assert name in SUPPORTED
