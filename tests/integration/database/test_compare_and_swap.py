"""The compare-and-swap of many rows at once, on each database: all that still hold the old value, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import WrongUpdateError
from migrate_storage.core.model import Column
from migrate_storage.database.compare_and_swap import SWAPPED, WRITTEN_BY_ANOTHER
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row

FILES = Column(table="files", column="file", key=("owner", "number"), backend="old", multiple=False)
ROWS = 230


@pytest.fixture
def rows(any_database_url: str) -> Iterator[FileColumn]:
    """A table with a key of two parts, and JSON."""
    engine = sa.create_engine(any_database_url)
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
    with closing(Database(any_database_url)) as database:
        database.connect()
        yield FileColumn(database, FILES)


def value(backend: str, n: int) -> dict[str, object]:
    return {"backend": backend, "filename": f'quo"ted\\ ümläut \U0001f388 {n}'}


def read(rows: FileColumn) -> dict[int, tuple[str, object]]:
    """What each row holds: its title, and its file."""
    statement = rows.select(sa.literal_column("title"), rows.raw)
    found = rows.database.transaction(lambda connection: connection.execute(statement).all())
    parsed = rows.database.dialect.name in ("postgresql", "duckdb")
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


KEYS: dict[str, dict[str, list[object]]] = {
    "sqlite": {
        "INTEGER": [-(2**63), 0, 7, 2**63 - 1], "BIGINT": [1, 2, 3], "TEXT": ['quo"ted\\', "o'neil", "ü\U0001f388", "", "1", "%s", "a\0b"],
        "VARCHAR(40)": ["one", "two", "three"], "BLOB": [b"\x00\xff", b"", b"ab"], "NUMERIC": [1, 2, 3],
        "REAL": [0.5, 1.5, 2.5], "DATE": ["2024-02-29", "2024-03-01", "2024-03-02"],
    },
    "postgresql": {
        "INTEGER": [-(2**31), 0, 2**31 - 1], "BIGINT": [-(2**63), 0, 2**63 - 1], "SMALLINT": [1, 2, 3],
        "TEXT": ['quo"ted\\', "o'neil", "ü\U0001f388", "", "1", "%s", "null"], "VARCHAR(40)": ["one", "two", "three "],
        "CHAR(5)": ["a", "ab", "abc"], "UUID": [f"8d1d0000-0000-0000-0000-00000000000{n}" for n in range(3)],
        "NUMERIC(20,10)": ["0.1", "0.2", "1e9"], "DATE": ["2024-02-29", "2024-03-01", "2024-03-02"],
        "TIMESTAMP": ["2024-02-29 10:00:00.123456", "2024-02-29 10:00:01", "2024-02-29 10:00:02"],
        "TIMESTAMPTZ": ["2024-02-29 10:00:00.123456+02", "2024-02-29 10:00:01+02", "2024-02-29 10:00:02+02"],
        "BYTEA": [b"\x00\xff", b"", b"ab"], "INET": ["10.0.0.1/24", "10.0.0.2", "::1"],
        'TEXT COLLATE "C"': ["a", "A", "b"], "mood": ["sad", "glad", "so-so"], "short": ["x", "y", "z"],
    },
    "mysql": {
        "INTEGER": [-(2**31), 0, 2**31 - 1], "BIGINT": [-(2**63), 0, 2**63 - 1], "BIGINT UNSIGNED": [1, 2, 2**64 - 1],
        "VARCHAR(40)": ['quo"ted\\', "o'neil", "ü\U0001f388", "", "1", "%s"], "VARCHAR(40) CHARACTER SET latin1": ["one", "twö", "three"],
        "VARCHAR(40) COLLATE utf8mb4_unicode_ci": ["one", "two", "thrée"], "CHAR(5)": ["a", "ab", "abc"],
        "BINARY(2)": [b"\x00\xff", b"ab", b"cd"], "VARBINARY(20)": [b"\x00\xff", b"", b"ab"], "DECIMAL(20,10)": ["0.1", "0.2", "3"],
        "DATE": ["2024-02-29", "2024-03-01", "2024-03-02"], "DATETIME(6)": ["2024-02-29 10:00:00.123456", "2024-03-01", "2024-03-02"],
        "ENUM('z','m','a')": ["z", "m", "a"], "UUID": [f"8d1d0000-0000-0000-0000-00000000000{n}" for n in range(3)], "YEAR": [2024, 2025, 2026],
    },
    "duckdb": {
        "INTEGER": [-(2**31), 0, 2**31 - 1], "BIGINT": [-(2**63), 0, 2**63 - 1], "UBIGINT": [1, 2, 2**64 - 1], "HUGEINT": [-(2**100), 0, 2**100],
        "VARCHAR": ['quo"ted\\', "o'neil", "ü\U0001f388", "", "1", "%s", "a\0b"], "UUID": [f"8d1d0000-0000-0000-0000-00000000000{n}" for n in range(3)],
        "BLOB": [b"\x00\xff", b"", b"ab"], "DECIMAL(20,10)": ["0.1", "0.2", "3"], "ENUM('z','m','a')": ["z", "m", "a"],
        "DATE": ["2024-02-29", "2024-03-01", "2024-03-02"], "TIMESTAMP": ["2024-02-29 10:00:00.123456", "2024-03-01", "2024-03-02"],
        "TIMESTAMPTZ": ["2024-02-29 10:00:00.123456+02", "2024-02-29 10:00:01+02", "2024-02-29 10:00:02+02"],
    },
}  # fmt: skip
"""By database: types of keys, and some keys. They are sent as a set, or as parameters of their own."""


@pytest.fixture
def database(any_database_url: str) -> Iterator[Database]:
    with closing(Database(any_database_url)) as database:
        database.connect()
        yield database


def execute(database: Database, *statements: str, **values: object) -> None:
    def run(connection: sa.Connection) -> None:
        for statement in statements:
            connection.execute(sa.text(statement.replace(":", "\\:") if not values else statement), values)

    database.transaction(run)


def kind_of(database: Database) -> str:
    return {"mariadb": "mysql"}.get(database.dialect.name, database.dialect.name)


def fill(database: Database, type_: str, keys: list[object], value: str = "TEXT") -> FileColumn:
    """A table with these keys, whose rows name a file; a second part of the key is a number."""
    execute(database, f"CREATE TABLE doc (id {type_} NOT NULL, n INTEGER NOT NULL, file {value}, PRIMARY KEY (id, n))")
    given = f"CAST(:file AS {value})" if kind_of(database) == "postgresql" else ":file"
    for number, key in enumerate(keys):
        part = ":id" if isinstance(key, int | float | bytes) else f"CAST(:id AS {type_.partition(' COL')[0]})"
        part = part if kind_of(database) == "postgresql" else ":id"
        file = json.dumps({"backend": "old", "filename": f"f{number}"})
        execute(database, f"INSERT INTO doc VALUES ({part}, :n, {given})", id=key, n=number, file=file)
    return FileColumn(database, Column(table="doc", column="file", key=("id", "n")))


def read_files(rows: FileColumn) -> dict[int, tuple[str, str]]:
    """Backend and filename of each row, by the second part of its key."""
    read = [row for window in rows.windows(None, 100) for row in window]
    found = {row.pk[1]: json.loads(row.value) for row in read}
    return {n: (file["backend"], file["filename"]) for n, file in found.items()}


def swap_to_new(rows: FileColumn, window: list[Row]) -> list[bool]:
    swaps = [(row.pk, row.value, row.value.replace('"old"', '"new"')) for row in window]
    return [
        result.done
        for result in rows.database.transaction(lambda connection: rows.compare_and_swap.swap_all(connection, swaps))
    ]


@pytest.mark.parametrize("number", range(max(map(len, KEYS.values()))))
def test_a_set_with_keys_of_each_type(database: Database, number: int) -> None:
    """One row was changed meanwhile, and one was deleted. The others are written."""
    kinds = list(KEYS[kind_of(database)].items())
    if number >= len(kinds):
        return
    type_, keys = kinds[number]
    if kind_of(database) == "postgresql":
        execute(database, "CREATE TYPE mood AS ENUM ('sad', 'glad', 'so-so')", "CREATE DOMAIN short AS TEXT")
    rows = fill(database, type_, keys)
    [window] = rows.windows("old", 100)
    assert len(window) == len(keys)
    execute(database, "UPDATE doc SET file = :file WHERE n = 1", file='{"backend": "theirs", "filename": "f1"}')
    execute(database, "DELETE FROM doc WHERE n = 2")
    assert swap_to_new(rows, window) == [row.pk[1] not in (1, 2) for row in window], type_
    expected = {n: ("theirs" if n == 1 else "new", f"f{n}") for n in range(len(keys)) if n != 2}
    assert read_files(rows) == expected, type_
    rest = [row for row in window if row.pk[1] not in (1, 2)]
    assert swap_to_new(rows, rest) == [True] * len(rest), "what an attempt with a lost answer did is done"


VALUES = {
    "sqlite": ["TEXT", "JSON", "VARCHAR(2000000)", "BLOB"],
    "postgresql": ["TEXT", "JSON", "JSONB", "VARCHAR(2000000)", "VARCHAR"],
    "mysql": ["LONGTEXT", "JSON", "MEDIUMTEXT", "LONGTEXT CHARACTER SET latin1", "LONGTEXT COLLATE utf8mb4_general_ci"],
    "duckdb": ["VARCHAR", "JSON", "VARCHAR COLLATE NOCASE"],
}
NOTES = [
    'quo"ted',
    "back\\slash",
    "it's",
    "%s %(a)s :rows",
    "\\u0000 in words",
    "\x01\x1f\x7f",
    "tab\tnewline\n",
    "A",
    "a",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("number", range(max(map(len, VALUES.values()))))
def test_a_set_with_values_of_each_type(database: Database, number: int) -> None:
    """Their text is compared and written exactly, with a megabyte in one of them."""
    if number >= len(VALUES[kind_of(database)]):
        return
    type_ = VALUES[kind_of(database)][number]
    notes = [*NOTES, *([] if "latin1" in type_ else ["ü\U0001f388\u2028"])]
    rows = fill(database, "INTEGER", list(range(len(notes))), type_)
    [window] = rows.windows("old", 100)
    noted = [
        json.dumps({**json.loads(row.value), "note": notes[n]}, ensure_ascii=n % 2) for n, row in enumerate(window)
    ]
    swaps = [(row.pk, row.value, value) for row, value in zip(window, noted, strict=True)]
    compare = rows.compare_and_swap
    assert database.transaction(lambda connection: compare.swap_each(connection, swaps))
    [now] = rows.windows("old", 100)
    assert [json.loads(row.value)["note"] for row in now] == notes
    assert swap_to_new(rows, now) == [True] * len(notes)
    [again] = rows.windows("new", 100)
    assert [json.loads(row.value) for row in again] == [{**json.loads(row.value), "backend": "new"} for row in now]
    # The old value differs in the case of one letter, or in one space at its end.
    wrong = [(row.pk, row.value.replace("backend", "Backend"), row.value.replace("new", "old")) for row in again[:4]]
    done = database.transaction(lambda connection: compare.swap_all(connection, wrong))
    assert done == [WRITTEN_BY_ANOTHER] * 4


KEEPING = {
    "sqlite": [
        "CREATE TRIGGER keep AFTER UPDATE ON doc WHEN old.n = 3 BEGIN UPDATE doc SET file = old.file WHERE n = 3 AND file <> old.file; END"
    ],
    "postgresql": [
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n = 3 THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER keep BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION keep()",
    ],
    "mysql": ["CREATE TRIGGER keep BEFORE UPDATE ON doc FOR EACH ROW SET NEW.file = IF(OLD.n = 3, OLD.file, NEW.file)"],
}


def test_a_trigger_keeps_the_value_of_one_row_of_a_set(database: Database) -> None:
    """The set is not taken for written, and what is no row of this kind is written without it."""
    if kind_of(database) not in KEEPING:
        return  # that database has no trigger that changes a row
    fill(database, "INTEGER", list(range(10)))
    execute(database, *KEEPING[kind_of(database)])
    rows = FileColumn(database, Column(table="doc", column="file", key=("id", "n")))
    [window] = rows.windows("old", 100)
    with pytest.raises(WrongUpdateError, match="leaves the row as it is"):
        swap_to_new(rows, window)
    assert {backend for backend, _ in read_files(rows).values()} == {"old"}, "it was rolled back"
    assert swap_to_new(rows, [row for row in window if row.pk[1] != 3]) == [True] * 9
    assert [backend for backend, _ in read_files(rows).values()] == ["new"] * 3 + ["old"] + ["new"] * 6
