"""The database's own filter by text finds every row whose JSON names a key, in whatever spelling."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, parse_slots

KEYS = [
    "old",
    "a/b",
    "100%",
    "un_der",
    "a!b",
    "it's",
    "<&>",
    "ключ",
    "é",
    "日本",
    "🎈",
    'quo"te',
    "back\\slash",
    "tab\t",
    "\u00a0",
    "K",
]


def by_number(text: str) -> str:
    """Each character as UTF-16 numbers in JSON, upper and lower case in turn."""
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[i] * 256 + units[i + 1]:04{'x' if i % 4 else 'X'}}" for i in range(0, len(units), 2))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: json.dumps(text, ensure_ascii=False),
    "ascii": json.dumps,
    "numbers": lambda text: f'"{by_number(text)}"',
    "last by number": lambda text: f'{json.dumps(text[:-1])[:-1]}{by_number(text[-1])}"',
    "slashes": lambda text: json.dumps(text).replace("/", "\\/"),
}
FORMS = {
    "tight": '{"backend":%s,"filename":"f"}',
    "spaces": '{ "filename" : "f" ,\n\t"backend"\n:\t%s }',
    "word": '{"b\\u0061ckend": %s, "f\\u0069lename": "f"}',
    "list": '[null, {"backend": %s, "filename": "f"}]',
}
TYPES = [
    *(("sqlite", type_) for type_ in ("JSON", "TEXT", "BLOB")),
    *(("postgres", type_) for type_ in ("JSONB", "JSON", "TEXT")),
    ("postgres", 'TEXT COLLATE "no_case"'),
    *(("duckdb", type_) for type_ in ("JSON", "VARCHAR", "VARCHAR COLLATE NOCASE")),
    *(("mariadb", type_) for type_ in ("JSON", "TEXT", "LONGTEXT CHARACTER SET latin1", "TEXT COLLATE utf8mb4_unicode_ci")),
]  # fmt: skip


@pytest.fixture(params=TYPES, ids=" ".join)
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[sa.Engine, str]]:
    database, type_ = request.param
    engine = sa.create_engine(request.getfixturevalue(f"{database}_url"))
    with engine.begin() as connection:
        if "no_case" in type_:
            connection.exec_driver_sql(
                "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        connection.exec_driver_sql(f"CREATE TABLE doc (id INTEGER PRIMARY KEY, file {type_})")
    yield engine, type_
    engine.dispose()


@pytest.mark.parametrize("nested", [False, True])
def test_each_spelling_of_a_key_is_found(engine: tuple[sa.Engine, str], nested: bool) -> None:
    engine_, type_ = engine
    keys = [key for key in KEYS if "latin1" not in type_ or key.isascii() or key == "é"]
    texts = [
        (key, form % spell(key)) for key in keys for spell in SPELLINGS.values() for form in FORMS.values()
    ]  # fmt: skip
    if nested:
        texts += [(key, json.dumps({"deep": [json.dumps(text)]})) for key, text in texts[::3]]
    placed = f"CAST(:file AS {type_})" if type_.startswith("JSON") and engine_.dialect.name == "postgresql" else ":file"
    with engine_.begin() as connection:
        rows = [{"id": number, "file": text} for number, (_, text) in enumerate(texts)]
        connection.execute(sa.text(f"INSERT INTO doc VALUES (:id, {placed})"), rows)
        connection.execute(
            sa.text(f"INSERT INTO doc VALUES (-1, {placed})"), {"file": '{"backend": "none", "filename": "x"}'}
        )
    column = Column(table="doc", column="file", key=("id",), nested=nested)
    with closing(Database(str(engine_.url.render_as_string(hide_password=False)))) as database:
        database.connect()
        rows_of = FileColumn(database, column)
        for key in keys:
            expected = {number for number, (named, _) in enumerate(texts) if named == key}
            read = [row for window in rows_of.windows(key, 50) for row in window]
            assert expected == {row.pk[0] for row in read if names(column, row, key)}
            assert rows_of.estimate(key) == len(read)


def names(column: Column, row: Row, key: str) -> bool:
    return any(slot.file["backend"] == key for slot in parse_slots(column, row))


def test_a_filter_leaves_most_rows_in_the_database(database_url: str) -> None:
    """Names outside ASCII and quoted ETags are spelled with a backslash in most rows, and are not read for that."""
    engine = sa.create_engine(database_url)
    type_ = "JSONB" if engine.dialect.name == "postgresql" else "JSON"
    file = {"backend": "new", "filename": "日本/ключ.txt", "etag": '"quoted"'}
    placed = f"CAST(:file AS {type_})" if type_ == "JSONB" else ":file"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE doc (id INTEGER PRIMARY KEY, file {type_})")
        rows = [{"id": number, "file": json.dumps(file)} for number in range(20)]
        connection.execute(sa.text(f"INSERT INTO doc VALUES (:id, {placed})"), rows)
    with closing(Database(database_url)) as database:
        database.connect()
        rows_of = FileColumn(database, Column(table="doc", column="file", key=("id",)))
        assert (rows_of.estimate("old"), list(rows_of.windows("old", 5))) == (0, [])
    engine.dispose()
