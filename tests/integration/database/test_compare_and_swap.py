"""The compare-and-swap of many rows at once, on each database: all that still hold the old value, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from migrate_storage.core.model import Column
from migrate_storage.database.compare_and_swap import SWAPPED, WRITTEN_BY_ANOTHER
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn

FILES = Column(table="files", column="file", key=("owner", "number"), backend="old", multiple=False)
ROWS = 230


@pytest.fixture
def rows(database_url: str) -> Iterator[FileColumn]:
    """A table with a key of two parts, and JSON."""
    engine = sa.create_engine(database_url)
    kind = sa.JSON().with_variant(sa.Text(), "sqlite")
    if engine.dialect.name == "postgresql":
        kind = sa.dialects.postgresql.JSONB()
    table = sa.Table(
        "files", sa.MetaData(), sa.Column("owner", sa.String(20), primary_key=True), sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("title", sa.Text), sa.Column("file", kind),
    )  # fmt: skip
    table.create(engine)
    given = [
        {"owner": f"o{n % 3}", "number": n, "title": "t", "file": value("old", n) if engine.dialect.name != "sqlite" else json.dumps(value("old", n))}
        for n in range(ROWS)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(table.insert(), given)
    engine.dispose()
    with closing(Database(database_url)) as database:
        database.connect()
        yield FileColumn(database, FILES)


def value(backend: str, n: int) -> dict[str, object]:
    return {"backend": backend, "filename": f'quo"ted\\ ümläut \U0001f388 {n}'}


def read(rows: FileColumn) -> dict[int, tuple[str, object]]:
    """What each row holds: its title, and its file."""
    statement = rows.select(sa.literal_column("title"), rows.raw)
    found = rows.database.transaction(lambda connection: connection.execute(statement).all())
    parsed = rows.database.dialect.name == "postgresql"
    return {row[1]: (row[2], row[3] if parsed or row[3] is None else json.loads(row[3])) for row in found}


def swaps(rows: FileColumn, count: int) -> list[tuple[tuple[object, ...], str, str]]:
    window = next(rows.windows("old", ROWS))
    assert len(window) == ROWS
    return [(row.pk, row.value, json.dumps(value("new", int(str(row.pk[1]))))) for row in window[:count]]


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, ROWS])
def test_each_is_swapped_and_nothing_else_is(rows: FileColumn, count: int) -> None:
    wanted = swaps(rows, count)
    assert rows.database.transaction(lambda connection: rows.compare_and_swap.swap_each(connection, wanted))
    changed = {pk[1] for pk, _, _ in wanted}
    assert read(rows) == {n: ("t", value("new" if n in changed else "old", n)) for n in range(ROWS)}
    assert not rows.database.transaction(lambda connection: rows.compare_and_swap.swap_each(connection, wanted))
    done = rows.database.transaction(lambda connection: rows.compare_and_swap.swap_all(connection, wanted))
    assert done == [SWAPPED] * count


@pytest.mark.parametrize("written", ["null", '""', '{"backend": "theirs", "filename": "f"}', None])
def test_what_somebody_wrote_meanwhile_stands(rows: FileColumn, written: str | None) -> None:
    wanted = swaps(rows, ROWS)
    owner, number = wanted[7][0]
    given = "CAST(:value AS JSONB)" if rows.database.dialect.name == "postgresql" else ":value"
    statement = sa.text(f"UPDATE files SET file = {given} WHERE owner = :owner AND number = :number")
    values = {"value": written, "owner": owner, "number": number}
    rows.database.transaction(lambda connection: connection.execute(statement, values))
    done = rows.database.transaction(lambda connection: rows.compare_and_swap.swap_all(connection, wanted))
    assert done == [WRITTEN_BY_ANOTHER if n == 7 else SWAPPED for n in range(ROWS)]
    held = {**{n: ("t", value("new", n)) for n in range(ROWS)}, number: ("t", written and json.loads(written))}
    assert read(rows) == held


def test_values_that_are_long_go_in_several_statements(rows: FileColumn) -> None:
    """Together they would be longer than a server takes."""
    long = [(pk, old, json.dumps({**json.loads(new), "note": "x" * 200_000})) for pk, old, new in swaps(rows, ROWS)]
    assert rows.database.transaction(lambda connection: rows.compare_and_swap.swap_each(connection, long))
    assert {len(json.dumps(file)) > 200_000 for _, file in read(rows).values()} == {True}
