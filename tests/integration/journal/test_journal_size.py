"""docs/journal.md tells how large the journal is: it is measured here, and held to what is said."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from bench.journal import per_million
from tests.support.engine.other_process import ROOT

SAID = {
    database.lower(): float(size.replace(",", ""))
    for database, size in re.findall(r"^\| (PostgreSQL|SQLite) \| ([\d,]+) \|$", (ROOT / "docs" / "journal.md").read_text(), re.MULTILINE)
}  # fmt: skip


@pytest.mark.parametrize(
    ("database", "rows"),
    [("sqlite", 3000), pytest.param("sqlite", 20_000, marks=pytest.mark.soak), pytest.param("postgres", 20_000, marks=pytest.mark.soak)],
)  # fmt: skip
def test_the_journal_of_a_million_rows_is_as_large_as_is_said(
    request: pytest.FixtureRequest, database: str, rows: int
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    said = SAID["postgresql" if database == "postgres" else database]
    assert per_million(url, rows) == pytest.approx(said, rel=0.25)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM migrate_storage_row")).scalar()
    engine.dispose()
    assert count == rows
