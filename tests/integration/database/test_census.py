"""The census finds every FileObject that names a key: in any table, type and spelling that the role sees."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.core.census import Census
from migrate_storage.core.errors import ConfigurationError, StoppedError
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.database import table_search as module
from migrate_storage.database.census import CensusScope, take_census
from migrate_storage.database.connection import Database
from migrate_storage.database.file_search import FileFinder

FILE = {"filename": "a/b.txt", "backend": "old", "size": 3}
TEXT = json.dumps(FILE)
NAMED = {
    "one file": TEXT,
    "a list": json.dumps([FILE, {**FILE, "backend": "new"}]),
    "deep": json.dumps({"a": [{"b": {"c": [0, FILE]}}]}),
    "no space, other order": '{"backend":"old","filename":"x"}',
    "spaces": '{ "filename"\t:\n"x" ,  "backend"   :   "old" }',
    "an escaped key": '{"backend": "\\u006fld", "filename": "x"}',
    "an escaped name": '{"\\u0062ackend": "o\\u006C\\u0064", "filename": "x"}',
    "JSON in JSON": json.dumps({"event": json.dumps({"file": TEXT})}),
    "escapes in JSON in JSON": json.dumps([json.dumps({"x": 1}), '{"backend": "\\u006fld", "filename": "x"}']),
    "a line of a log": f"2026-01-01 saved {TEXT} for user 7",
    "a page": f"<file><![CDATA[{TEXT}]]></file>",
    "an attribute of a page": f"<input value='{TEXT}'/>".replace('"', "&quot;"),
    "a line of CSV": f'7,2026-01-01,"{TEXT.replace(chr(34), chr(34) * 2)}",saved',
    "a line of CSV in a log": json.dumps({"line": f'7,"{TEXT.replace(chr(34), chr(34) * 2)}"'}),
}
NOT_NAMED = {
    "another key": json.dumps({**FILE, "backend": "new"}),
    "a longer key": json.dumps({**FILE, "backend": "older"}),
    "no filename": '{"backend": "old", "name": "x"}',
    "a value, not a name": '{"filename": "backend", "key": "old"}',
    "words": "the old backend had a filename",
    "a French text": json.dumps({"filename": "x", "title": "était vieux (old backend)"}),
}


def scope(**changes: Any) -> CensusScope:
    return CensusScope(**{"keys": ("old",), "known": frozenset(), **changes})


@pytest.fixture
def database(any_database_url: str) -> Iterator[Database]:
    database = Database(any_database_url)
    database.connect()
    yield database
    database.close()


@pytest.fixture
def sql(database: Database) -> Callable[..., None]:
    def execute(*statements: str, **values: Any) -> None:
        def run(connection: sa.Connection) -> None:
            for statement in statements:
                connection.execute(sa.text(statement), values)

        database.transaction(run)

    return execute


def census(database: Database, listen: Callable[[CensusAdvanced], None] = lambda _: None, **changes: Any) -> Census:
    changes.setdefault("hidden_excused", True)
    return take_census(database, scope(**changes), wait=threading.Event().wait, send=listen)


def rows(found: Census, key: str = "old") -> dict[str, int]:
    return {str(each): each.rows[key] for each in found.columns if each.rows.get(key)}


@pytest.mark.parametrize("what", NAMED)
def test_a_file_is_found_however_it_is_written(database: Database, sql: Callable[..., None], what: str) -> None:
    sql("CREATE TABLE audit (id INTEGER PRIMARY KEY, payload TEXT)")
    sql("INSERT INTO audit VALUES (1, :value), (2, :value), (3, NULL), (4, '')", value=NAMED[what])
    assert rows(census(database)) == {"audit.payload": 2}


@pytest.mark.parametrize("what", NOT_NAMED)
def test_nothing_else_is_taken_for_one(database: Database, sql: Callable[..., None], what: str) -> None:
    sql("CREATE TABLE audit (id INTEGER PRIMARY KEY, payload TEXT)")
    sql("INSERT INTO audit VALUES (1, :value)", value=NOT_NAMED[what])
    found = census(database)
    assert (found.columns, found.rows, found.whole) == ((), 1, True)


@pytest.mark.parametrize(
    "key", ["bücher", "a/b", 'say "x"', "back\\slash", "50%_!", "日本", "smile \U0001f600", "o'ld"]
)
def test_a_key_of_any_characters_in_each_spelling(database: Database, sql: Callable[..., None], key: str) -> None:
    sql("CREATE TABLE audit (id INTEGER PRIMARY KEY, payload TEXT)")
    written = {"backend": key, "filename": "x"}
    spellings = (
        json.dumps(written), json.dumps(written, ensure_ascii=False), json.dumps(json.dumps(written)),
        json.dumps(written).replace("/", "\\/"),
        '{"filename": "x", "backend": "' + "".join(f"\\u{unit:04X}" for unit in units(key)) + '"}',
    )  # fmt: skip
    for number, value in enumerate(spellings):
        sql("INSERT INTO audit VALUES (:id, :value)", id=number, value=value)
    sql("INSERT INTO audit VALUES (99, :value)", value=json.dumps({**written, "backend": f"{key}2"}))
    found = take_census(database, scope(keys=("old", key)), wait=threading.Event().wait, send=lambda _: None)
    assert rows(found, key) == {"audit.payload": len(spellings)}


def units(text: str) -> list[int]:
    encoded = text.encode("utf-16-be")
    return [int.from_bytes(encoded[at : at + 2], "big") for at in range(0, len(encoded), 2)]


TYPES = {
    "sqlite": {
        "TEXT": ":v", "BLOB": "CAST(:v AS BLOB)", "INTEGER": ":v", "NUMERIC": ":v", "DATE": "CAST(:v AS BLOB)", "": ":v",
    },
    "postgresql": {
        "text": ":v", "varchar(500)": ":v", "char(500)": ":v", "json": "CAST(:v AS json)", "jsonb": "CAST(:v AS jsonb)",
        "json[]": "ARRAY[CAST(:v AS json)]", "jsonb[]": "ARRAY[NULL, CAST(:v AS jsonb)]", "text[]": "ARRAY['x', :v]",
        "text[][]": "ARRAY[ARRAY['y'], ARRAY[CAST(:v AS text)]]", "xml": "xmlelement(name file, :v)",
        "bytea": "convert_to(:v, 'UTF8')", "hstore": "hstore('file', :v)", "citext": "CAST(:v AS citext)",
        "document": "CAST(:v AS jsonb)", "documents": "ARRAY[CAST(:v AS jsonb)]", "pair": "ROW(1, CAST(:v AS text))::pair",
        "binary_document": "convert_to(:v, 'UTF8')", "bytea[]": "ARRAY[NULL, convert_to(:v, 'UTF8')]",
        "binary_pair": "ROW(1, convert_to(:v, 'UTF8'))::binary_pair", "binary_pair[]": "ARRAY[ROW(1, convert_to(:v, 'UTF8'))::binary_pair]",
        "words": "words(CAST(:v AS text), NULL)", "few": "CAST(:v AS few)",
    },
    "mysql": {
        "TEXT": ":v", "VARCHAR(500) CHARACTER SET latin1": ":v", "LONGTEXT": ":v", "JSON": ":v", "BLOB": ":v",
        "VARBINARY(500)": ":v", "CHAR(200)": ":v", "TEXT CHARACTER SET utf16": ":v", "ENUM('x', :v)": ":v", "TEXT COMPRESSED": ":v",
    },
    "duckdb": {
        "VARCHAR": ":v", "VARCHAR COLLATE NOCASE": ":v", "JSON": ":v", "BLOB": "encode(:v)", "ENUM('x', :v)": ":v", "JSON[]": "[NULL, CAST(:v AS JSON)]",
        "VARCHAR[]": "['x', :v]", "VARCHAR[2]": "['x', :v]", "STRUCT(a INTEGER, b VARCHAR)": "{'a': 1, 'b': :v}", "MAP(VARCHAR, VARCHAR)": "MAP {'file': :v}",
        "UNION(a INTEGER, b VARCHAR)": "union_value(b := :v)", "BLOB[]": "[encode(:v)]", "STRUCT(b BLOB)[]": "[{'b': encode(:v)}]",
    },
}  # fmt: skip


@pytest.mark.parametrize("escaped", [False, True])
def test_each_type_that_can_contain_text(database: Database, sql: Callable[..., None], *, escaped: bool) -> None:
    kind = database.url.get_backend_name()
    value = NAMED["an escaped key"] if escaped else TEXT
    label = "'" + value.replace("\\", "\\\\" if kind == "mysql" else "\\").replace(":", "\\:") + "'"
    if kind == "postgresql":
        sql(
            "CREATE EXTENSION hstore", "CREATE EXTENSION citext", "CREATE DOMAIN document AS jsonb",
            "CREATE DOMAIN documents AS jsonb[]", "CREATE TYPE pair AS (number int, payload text)",
            "CREATE DOMAIN bytes_of_file AS bytea", "CREATE DOMAIN binary_document AS bytes_of_file",
            "CREATE TYPE binary_pair AS (number int, payload bytea)", "CREATE TYPE words AS RANGE (subtype = text)",
            f"CREATE TYPE few AS ENUM ('x', {label})",
        )  # fmt: skip
    for number, (type_, expression) in enumerate(TYPES[kind].items()):
        written = expression.replace(":v", "CAST(:v AS text)" if kind == "postgresql" else ":v")
        sql(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, value {type_.replace(':v', label)})")
        sql(f"INSERT INTO t{number} VALUES (1, {written}), (2, NULL)", v=value)
    expected = {f"t{number}.value": 1 for number in range(len(TYPES[kind]))}
    assert rows(census(database)) == expected


def test_bytes_that_are_no_text_are_searched_too(database: Database, sql: Callable[..., None]) -> None:
    type_ = {"postgresql": "bytea"}.get(database.url.get_backend_name(), "BLOB")
    sql(f"CREATE TABLE raw (id INTEGER PRIMARY KEY, value {type_})")
    for number, value in enumerate((b"\xff\x00\\" + TEXT.encode(), b"\x80\x81", b"", bytes(range(256)) * 20)):
        sql("INSERT INTO raw VALUES (:id, :value)", id=number, value=value)
    assert rows(census(database)) == {"raw.value": 1}


KEYS = {
    "none": "a INTEGER, payload TEXT",
    "of text": "a VARCHAR(50) PRIMARY KEY, payload TEXT",
    "of two columns": "a INTEGER, b VARCHAR(20) DEFAULT 'x', payload TEXT, PRIMARY KEY (b, a)",
    "unique, may be NULL": "a INTEGER UNIQUE, payload TEXT",
    "unique": "a INTEGER NOT NULL UNIQUE, payload TEXT",
    "a float": "a DOUBLE PRECISION PRIMARY KEY, payload TEXT",
}


@pytest.mark.parametrize("key", KEYS)
def test_every_row_is_searched_once_whatever_the_key_is(
    database: Database, sql: Callable[..., None], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_WINDOW_ROWS", 7)
    monkeypatch.setattr(module, "_CURSOR_ROWS", (7, 1))
    sql(f"CREATE TABLE log ({KEYS[key]})")
    for number in range(100):
        sql("INSERT INTO log (a, payload) VALUES (:a, :value)", a=number, value=TEXT if number % 3 else "x")
    seen: list[CensusAdvanced] = []
    found = census(database, seen.append)
    assert (rows(found), found.rows) == ({"log.payload": 66}, 100)
    assert (seen[-1].rows, seen[-1].done, seen[-1].tables) == (100, 1, 1)
    assert len(seen) > 3, "progress is reported"


@pytest.mark.parametrize("key", KEYS)
def test_a_connection_that_is_lost_counts_no_row_twice(
    database: Database, sql: Callable[..., None], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_WINDOW_ROWS", 7)
    monkeypatch.setattr(module, "_CURSOR_ROWS", (7, 1))
    original, values = FileFinder.keys_in, []  # type: Any, list[Any]

    def keys_in(self: FileFinder, value: str | bytes) -> frozenset[str]:
        values.append(value)
        if len(values) in (10, 30):
            raise ConnectionResetError("gone")
        return frozenset(original(self, value))

    monkeypatch.setattr(FileFinder, "keys_in", keys_in)
    sql(f"CREATE TABLE log ({KEYS[key]})")
    for number in range(40):
        sql("INSERT INTO log (a, payload) VALUES (:a, :value)", a=number, value=TEXT)
    seen: list[CensusAdvanced] = []
    found = census(database, seen.append)
    assert len(values) > 40, "it was read again"
    assert (rows(found), found.rows, found.whole, seen[-1].rows) == ({"log.payload": 40}, 40, True, 40)


SEEN = """
CREATE FUNCTION seen() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('t.rows', CASE WHEN current_setting('t.at', true) = statement_timestamp()::text
        THEN (current_setting('t.rows')::int + 1)::text ELSE '1' END, true),
        set_config('t.at', statement_timestamp()::text, true);
    IF current_setting('t.rows')::int > 250 THEN RAISE 'too slow' USING ERRCODE = '57014'; END IF;
    RETURN true;
END $$"""
"""Cancels a statement or fetch that reads too many rows, as a timeout does. It is no question of time."""


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "INTEGER"])
def test_a_window_that_the_server_cancels_is_made_smaller(postgres_url: str, key: str) -> None:
    role = f"slow_{os.getpid()}"
    owner = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        for statement in (
            SEEN,
            f"CREATE TABLE audit (id {key}, payload TEXT)",
            f"INSERT INTO audit SELECT i, '{TEXT}' FROM generate_series(1, 700) AS n(i)",
            "ALTER TABLE audit ENABLE ROW LEVEL SECURITY", "CREATE POLICY slowly ON audit USING (seen())",
            f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON audit TO {role}",
        ):  # fmt: skip
            connection.exec_driver_sql(statement)
        url = sa.make_url(postgres_url).set(username=role).render_as_string()
        with closing(Database(url, visible_rows_only=True, attempts=1)) as limited:
            limited.connect()
            found = census(limited)
        assert (rows(found), found.rows, found.unseen) == ({"audit.payload": 700}, 700, ())
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    owner.dispose()


def test_several_columns_and_keys_are_counted_by_row(database: Database, sql: Callable[..., None]) -> None:
    other = json.dumps({**FILE, "backend": "other"})
    sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")
    sql(
        "INSERT INTO t VALUES (1, :file, :other), (2, :both, NULL)",
        file=TEXT,
        other=other,
        both=f"[{TEXT},{TEXT},{other}]",
    )
    found = census(database, keys=("old", "other"))
    assert [(str(each), each.rows) for each in found.columns] == [
        ("t.a", {"old": 2, "other": 1}),
        ("t.b", {"other": 1}),
    ]


def test_known_and_excused_columns_stay_in_the_report(database: Database, sql: Callable[..., None]) -> None:
    for name in ("doc", "audit", "invoice"):
        sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, file TEXT)", f"INSERT INTO {name} VALUES (1, :v)", v=TEXT)
    found = census(database, known=frozenset({(None, "doc", "file")}), excused=("audit.*",))
    assert (len(found.columns), found.known("old")) == (3, 1)
    assert [str(each) for each in found.unknown("old")] == ["invoice.file"]
    assert [str(each) for each in found.excused("old")] == ["audit.file"]
    assert Census.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_narrowed_census_is_not_whole(database: Database, sql: Callable[..., None]) -> None:
    for name in ("doc", "audit"):
        sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, file TEXT)", f"INSERT INTO {name} VALUES (1, :v)", v=TEXT)
    found = census(database, tables=("doc",))
    assert (rows(found), found.tables, found.whole) == ({"doc.file": 1}, 1, False)
    with pytest.raises(ConfigurationError, match="--census nowhere: this role sees no such table"):
        census(database, tables=("doc", "nowhere"))


def test_our_own_tables_are_left_out(database: Database, sql: Callable[..., None]) -> None:
    for name in ("ours", "theirs"):
        sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, file TEXT)", f"INSERT INTO {name} VALUES (1, :v)", v=TEXT)
    assert rows(census(database, leave_out=frozenset({"ours"}))) == {"theirs.file": 1}


def test_names_that_need_quotes(database: Database, sql: Callable[..., None]) -> None:
    quote = "`" if database.url.get_backend_name() == "mysql" else '"'
    table, column = (f"{quote}{name}{quote}" for name in ("Order 1%", "select:x"))
    sql(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {column.replace(':', chr(92) + ':')} TEXT)")
    sql(f"INSERT INTO {table} VALUES (1, :v)", v=TEXT)
    assert rows(census(database)) == {"Order 1%.select:x": 1}


def test_a_stop_ends_it(database: Database, sql: Callable[..., None]) -> None:
    sql("CREATE TABLE audit (id INTEGER PRIMARY KEY, payload TEXT)", "INSERT INTO audit VALUES (1, 'x')")
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError, match="not whole"):
        take_census(database, scope(), wait=stop.wait, send=lambda _: None)
