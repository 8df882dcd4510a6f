"""Rows of our tables by sets, on each database: as one parameter of JSON, and as the driver binds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import RefusedError
from migrate_storage.database import row_sets
from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.mysql import LONG_TEXT, TABLE_OPTIONS
from migrate_storage.database.dialects.sets import RowSets
from migrate_storage.database.row_sets import insert_rows, select_where_in, update_rows

THINGS = sa.Table(
    "things", sa.MetaData(),
    sa.Column("id", sa.String(32), primary_key=True), sa.Column("text", LONG_TEXT), sa.Column("short", sa.String(8)),
    sa.Column("size", sa.BigInteger), sa.Column("at", sa.Double), sa.Column("ours", sa.Boolean), **TABLE_OPTIONS,
)  # fmt: skip
TEXTS = [
    "", "null", '"', "'", "\\", '\\"', "\\'", "\\u0000", "\\\\u0000", "%s %(rows)s :rows {}", "$[*]", "\t\n\r\x1a\x7f\x01",
    "ümläut \U0001f388 \u2028 \ufeff", '{"a": "\\ud83c"}', "x" * 1_000_000, '"\\' * 500_000, "\U0001f388" * 250_000, None,
]  # fmt: skip


@pytest.fixture(params=["sets", "parameters"])
def database(
    request: pytest.FixtureRequest, any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    with closing(Database(any_database_url)) as database:
        database.connect()
        if request.param == "parameters":
            monkeypatch.setattr(type(database.dialect), "sets", RowSets())
        database.transaction(lambda connection: THINGS.create(connection))
        yield database


def thing(n: int, **values: Any) -> dict[str, Any]:
    return {"id": f"id-{n}", "text": "t", "short": None, "size": n, "at": n / 3, "ours": None, **values}


def insert(database: Database, rows: list[dict[str, Any]]) -> None:
    database.transaction(lambda connection: insert_rows(connection, database.dialect.sets, THINGS, rows))


def update(database: Database, rows: list[dict[str, Any]]) -> None:
    database.transaction(lambda connection: update_rows(connection, database.dialect.sets, THINGS, "id", rows))


def read(database: Database) -> dict[str, dict[str, Any]]:
    def work(connection: sa.Connection) -> dict[str, dict[str, Any]]:
        return {row["id"]: dict(row) for row in connection.execute(sa.select(THINGS)).mappings()}

    return database.transaction(work)


def test_every_value_arrives_as_it_is(database: Database) -> None:
    values = [(2**63 - 1, 1e-300, True), (-(2**63), 1700000000.123456, False), (0, 0.1, None), (None, None, True)]
    made = [thing(n, text=text) for n, text in enumerate(TEXTS)]
    made += [thing(100 + n, size=size, at=at, ours=ours) for n, (size, at, ours) in enumerate(values)]
    insert(database, made)
    assert read(database) == {each["id"]: each for each in made}
    changed = [{**each, "text": text} for each, text in zip(made, reversed(TEXTS), strict=False)]
    changed += [{**each, "ours": False, "at": 0.1 + 0.2} for each in made[len(changed) :]]
    update(database, changed)
    assert read(database) == {each["id"]: each for each in changed}


def test_a_nul_is_kept_or_refused(database: Database) -> None:
    """PostgreSQL has no NUL in a text. Nobody cuts the text there."""
    made = [thing(n, text=f"before\0after {n}") for n in range(3)]
    if database.dialect.name == "postgresql":
        with pytest.raises(RefusedError):
            insert(database, made)
        made = []
    else:
        insert(database, made)
    assert read(database) == {each["id"]: each for each in made}


def test_a_text_that_is_too_long_is_refused(database: Database) -> None:
    """It is not cut. SQLite and DuckDB take a text of any length."""
    if database.dialect.name in ("sqlite", "duckdb"):
        return
    with pytest.raises(RefusedError):
        insert(database, [thing(1), thing(2, short="123456789"), thing(3)])
    assert read(database) == {}
    insert(database, [thing(1), thing(2, short="12345678")])
    with pytest.raises(RefusedError):
        update(database, [thing(1, short="123456789"), thing(2)])
    assert {each["short"] for each in read(database).values()} == {None, "12345678"}


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 8])
def test_many_rows_go_in_several_statements(database: Database, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sets, "SET_ROWS", 3)
    monkeypatch.setattr(row_sets, "IN_LIST_VALUES", 3)
    made = [thing(n) for n in range(rows)]
    insert(database, made)
    assert read(database) == {each["id"]: each for each in made}
    update(database, [thing(n, text="new") for n in range(rows + 4)])
    assert read(database) == {f"id-{n}": thing(n, text="new") for n in range(rows)}
    wanted = [f"id-{n}" for n in (*range(0, rows, 2), *range(rows + 3), *range(rows))]

    def work(connection: sa.Connection) -> list[str]:
        found = select_where_in(connection, database.dialect.sets, sa.select(THINGS.c.id), THINGS.c.id, wanted)
        return [row.id for row in found]

    assert sorted(database.transaction(work)) == sorted(each["id"] for each in made), "each once"


def test_long_values_go_in_several_statements(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(database.dialect.sets), "characters", 100)
    made = [thing(n, text="x" * size) for n, size in enumerate((10, 99, 1, 200, 40, 40, 40, 300))]
    insert(database, made)
    assert read(database) == {each["id"]: each for each in made}


def test_rows_of_which_one_is_there_already_are_refused(database: Database) -> None:
    insert(database, [thing(1, text="first")])
    with pytest.raises(RefusedError):
        insert(database, [thing(0), thing(1, text="second"), thing(2)])
    assert read(database) == {"id-1": thing(1, text="first")}
