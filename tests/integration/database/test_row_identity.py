"""Whether a key tells rows apart is asked of the database: its constraints, or else its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database import row_identity
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.row_identity import check_row_identity, find_doubtful_keys

FILE = '{"backend": "old", "filename": "f"}'


@pytest.fixture
def database(any_database_url: str) -> Iterator[Database]:
    with closing(Database(any_database_url)) as database:
        database.connect()
        yield database


def execute(database: Database, *statements: str) -> None:
    def run(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%") if "%s" not in statement else statement)

    database.transaction(run)


def rows(database: Database, *key: str, table: str = "doc") -> FileColumn:
    return FileColumn(database, Column(table=table, column="file", key=key or ("id",)))


KEYS = {
    "a primary key": ("all", "CREATE TABLE doc (id INTEGER PRIMARY KEY, file TEXT)", ("id",), True),
    "no key": ("all", "CREATE TABLE doc (id INTEGER NOT NULL, file TEXT)", ("id",), False),
    "a part of the key": (
        "all", "CREATE TABLE doc (tenant INTEGER, id INTEGER, file TEXT, PRIMARY KEY (tenant, id))", ("id",), False,
    ),
    "the whole key": (
        "all", "CREATE TABLE doc (tenant INTEGER NOT NULL, id INTEGER NOT NULL, file TEXT, PRIMARY KEY (tenant, id))",
        ("id", "tenant"), True,
    ),
    "more than the key": (
        "all", "CREATE TABLE doc (tenant INTEGER, id INTEGER PRIMARY KEY, file TEXT)", ("tenant", "id"), True,
    ),
    "unique and not NULL": (
        "all", "CREATE TABLE doc (id INTEGER NOT NULL, file TEXT, CONSTRAINT one UNIQUE (id))", ("id",), True,
    ),
    "unique, may be NULL": ("all", "CREATE TABLE doc (id INTEGER, file TEXT, CONSTRAINT one UNIQUE (id))", ("id",), False),
    "an index of some rows": (
        "sqlite postgresql",
        "CREATE TABLE doc (id INTEGER NOT NULL, file TEXT); CREATE UNIQUE INDEX i ON doc (id) WHERE id > 5", ("id",), False,
    ),
    "an index of an expression": (
        "sqlite postgresql",
        "CREATE TABLE doc (id INTEGER NOT NULL, file TEXT); CREATE UNIQUE INDEX i ON doc (abs(id))", ("id",), False,
    ),
    "a text key that may be NULL": ("sqlite", "CREATE TABLE doc (id TEXT PRIMARY KEY, file TEXT)", ("id",), False),
    "a key without rowid": ("sqlite", "CREATE TABLE doc (id TEXT PRIMARY KEY, file TEXT) WITHOUT ROWID", ("id",), True),
    "an INTEGER key in descending order": (
        "sqlite", "CREATE TABLE doc (id INTEGER PRIMARY KEY DESC, file TEXT)", ("id",), False,
    ),
    "an index that compares otherwise": (
        "sqlite", "CREATE TABLE doc (id TEXT NOT NULL COLLATE NOCASE, file TEXT); CREATE UNIQUE INDEX i ON doc (id COLLATE BINARY)",
        ("id",), False,
    ),
    "a deferrable constraint": (
        "postgresql", "CREATE TABLE doc (id INTEGER NOT NULL UNIQUE DEFERRABLE, file TEXT)", ("id",), False,
    ),
    "a parent of tables": (
        "postgresql", "CREATE TABLE doc (id INTEGER PRIMARY KEY, file TEXT); CREATE TABLE child () INHERITS (doc)", ("id",), False,
    ),
    "a partitioned table": (
        "postgresql",
        ("CREATE TABLE doc (id INTEGER PRIMARY KEY, file TEXT) PARTITION BY HASH (id);"
        "CREATE TABLE part PARTITION OF doc FOR VALUES WITH (MODULUS 1, REMAINDER 0)"), ("id",), True,
    ),
    "an index of another collation": (
        "postgresql",
        ("CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE doc (id TEXT COLLATE blind NOT NULL, file TEXT); CREATE UNIQUE INDEX i ON doc (id COLLATE \"C\")"),
        ("id",), False,
    ),
    "a prefix": ("mysql", "CREATE TABLE doc (id VARCHAR(20) NOT NULL, file TEXT, UNIQUE KEY (id(3)))", ("id",), False),
    "rows that are elsewhere": (
        "mysql", ("CREATE TABLE one (id INTEGER PRIMARY KEY, file TEXT) ENGINE=MyISAM;"
        "CREATE TABLE doc (id INTEGER NOT NULL, file TEXT, KEY (id)) ENGINE=MERGE UNION=(one)"), ("id",), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KEYS)
def test_what_the_database_enforces(database: Database, case: str) -> None:
    kinds, ddl, key, enforced = KEYS[case]
    kind = {"mariadb": "mysql"}.get(database.dialect.name, database.dialect.name)
    if kinds != "all" and kind not in kinds:
        return  # that database has no such thing
    execute(database, *ddl.split(";"))
    assert rows(database, *key).has_unique_key is enforced
    execute(database, "CREATE VIEW seen AS SELECT * FROM doc")
    assert not rows(database, *key, table="seen").has_unique_key


def test_repeated_and_missing_keys_are_counted_window_by_window(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_identity, "SEARCH_WINDOW_ROWS", 4)
    execute(database, "CREATE TABLE doc (tenant INTEGER, id INTEGER, file TEXT)")
    execute(database, *(f"INSERT INTO doc VALUES (1, {n}, '{FILE}')" for n in range(11)))
    check_row_identity(rows(database))
    execute(database, *(f"INSERT INTO doc VALUES ({n}, 7, '{FILE}')" for n in range(2, 12)))
    execute(database, f"INSERT INTO doc VALUES (2, 3, '{FILE}')")
    with pytest.raises(ConfigurationError, match=r"doc has 13 rows that have their key in common .*doc.file\[3\]"):
        check_row_identity(rows(database))
    check_row_identity(rows(database, "tenant", "id"))
    execute(database, f"INSERT INTO doc VALUES (NULL, 5, '{FILE}')", "INSERT INTO doc VALUES (NULL, 6, NULL)")
    with pytest.raises(ConfigurationError, match=r"doc has 1 rows of which a part of the key is NULL.*\[None,5\]"):
        check_row_identity(rows(database, "tenant", "id"))


def test_rows_without_a_whole_key_come_first_and_hide_no_other(database: Database) -> None:
    execute(database, "CREATE TABLE doc (a INTEGER, b INTEGER, file TEXT)")
    keys = [(1, 1), (1, 2), (2, 1), (3, 9)]
    execute(database, *(f"INSERT INTO doc VALUES ({a}, {b}, '{FILE}')" for a, b in keys))
    execute(
        database, *(f"INSERT INTO doc VALUES ({a}, {b}, '{FILE}')" for a, b in [("NULL", 1), (1, "NULL"), (3, "NULL")])
    )
    windows = list(rows(database, "a", "b").windows("old", 3))
    assert {None in row.pk for row in windows[0]} == {True}
    assert len(windows[0]) == 3
    assert [row.pk for window in windows[1:] for row in window] == keys


ODD_KEYS = {
    "sqlite": {"REAL": ("0.1", True), "TIME": ("'10:00:01'", True), "NUMERIC": ("0.30000000000000004", True)},
    "postgresql": {
        "REAL": ("0.1", False), "DOUBLE PRECISION": ("0.1", True), "NUMERIC(20,10)": ("0.1", True), "TIME": ("'10:00:01.5'", True),
        "TIMETZ": ("'10:00:01+02'", True), "DATE": ("'2024-02-29'", True), "TIMESTAMP": ("'2024-02-29 10:00:00.123456'", True),
        "TIMESTAMPTZ": ("'2024-02-29 10:00:00.123456+02'", True), "INTERVAL": ("'1 day 00:00:00.000001'", True), "BOOLEAN": ("true", True),
        "INET": ("'10.0.0.1/24'", True), "CIDR": ("'10.0.0.0/8'", True), "MACADDR": ("'08:00:2b:01:02:03'", True), "BYTEA": ("'\\x00ff'", True),
        "CHAR(5)": ("'ab'", True), "INTEGER[]": ("'{1,2}'", None), "JSONB": ("'{}'", None),
        "UUID": ("'8d1d0000-0000-0000-0000-000000000001'", True), "MONEY": ("'1.50'", None), "INT4RANGE": ("'[1,3)'", False),
    },
    "mysql": {
        "FLOAT": ("0.1", False), "DOUBLE": ("0.1", True), "DECIMAL(20,10)": ("0.1", True), "TIME(6)": ("'-10:00:01.5'", True),
        "TIME": ("'100:00:01'", True), "DATE": ("'2024-02-29'", True), "DATETIME(6)": ("'2024-02-29 10:00:00.123456'", True),
        "BOOLEAN": ("1", True), "YEAR": ("2024", True), "BINARY(4)": ("x'00ff'", True), "VARBINARY(4)": ("x'00ff'", True),
        "CHAR(5)": ("'ab'", True), "ENUM('z','a')": ("'z'", True), "SET('z','a')": ("'z,a'", True), "UUID": ("'8d1d0000-0000-0000-0000-000000000001'", True),
        "INET6": ("'::1'", True), "BIT(9)": ("b'100000001'", None),
    },
    "duckdb": {
        "FLOAT": ("0.1", True), "DOUBLE": ("0.1", True), "DECIMAL(20,10)": ("0.1", True), "TIME": ("'10:00:01.5'", True),
        "TIMETZ": ("'10:00:01+02'", None), "DATE": ("'2024-02-29'", True), "TIMESTAMP": ("'2024-02-29 10:00:00.123456'", True),
        "TIMESTAMPTZ": ("'2024-02-29 10:00:00.123456+02'", True), "TIMESTAMP_NS": ("'2024-02-29 10:00:00.123456789'", None),
        "BOOLEAN": ("true", True), "BLOB": ("'\\x00\\xFF'", True), "BIT": ("'101'", None),
        "ENUM('z','a')": ("'z'", True), "UUID": ("'8d1d0000-0000-0000-0000-000000000001'", True), "HUGEINT": ("170141183460469231731687303715884105727", True),
    },
}  # fmt: skip
"""By database: types of keys, a value, and whether it compares equal to itself (None: it depends on the driver)."""


def test_keys_of_every_type_work_or_are_refused(database: Database) -> None:
    kind = {"mariadb": "mysql"}.get(database.dialect.name, database.dialect.name)
    for number, (type_, (value, works)) in enumerate(ODD_KEYS[kind].items()):
        name = f"t{number}"
        execute(database, f"CREATE TABLE {name} (id {type_} NOT NULL PRIMARY KEY, file TEXT)")
        execute(database, f"INSERT INTO {name} VALUES ({value}, '{FILE}')")
        try:
            check_row_identity(rows(database, table=name))
            found = True
        except ConfigurationError as error:
            assert "\n" not in str(error)
            assert name in str(error)
            found = False
        assert works in (found, None), (type_, found)
        if found:
            [[row]] = rows(database, table=name).windows("old", 5)
            column = rows(database, table=name)
            new = row.value.replace('"old"', '"new"')
            work = partial(column.compare_and_swap.swap, pk=row.pk, old=row.value, new=new)
            assert database.transaction(work).done, type_
            assert not list(find_doubtful_keys(column)), type_


def test_keys_that_a_driver_cannot_return_are_refused_before_a_row_is_read(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:
        database.connect()
        for number, (type_, value) in enumerate(
            (("DATE", "infinity"), ("TIMESTAMP", "infinity"), ("DATE", "0044-03-15 BC"))
        ):
            execute(database, f"CREATE TABLE t{number} (id {type_} PRIMARY KEY, file TEXT)")
            execute(database, *(f"INSERT INTO t{number} VALUES ('{key}', '{FILE}')" for key in ("2024-02-29", value)))
            with pytest.raises(ConfigurationError, match=f"return the keys of t{number}: .* leave the table out"):
                check_row_identity(rows(database, table=f"t{number}"))


def test_names_in_another_case_are_those_of_the_model(database: Database) -> None:
    """As the database takes them: the key that it enforces is known to be enforced."""
    if database.dialect.name == "postgresql":
        return  # a name in another case is another one there
    execute(database, "CREATE TABLE doc (id INTEGER PRIMARY KEY, file TEXT)", f"INSERT INTO doc VALUES (1, '{FILE}')")
    rows = FileColumn(database, Column(table="doc", column="FILE", key=("Id",)))
    assert rows.has_unique_key
    [[row]] = rows.windows("old", 5)
    new = row.value.replace('"old"', '"new"')
    assert database.transaction(partial(rows.compare_and_swap.swap, pk=row.pk, old=row.value, new=new)).done


ALIKE = {
    "sqlite": "TEXT COLLATE NOCASE NOT NULL",
    "postgresql": "CITEXT NOT NULL",
    "mysql": "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",
    "duckdb": "VARCHAR COLLATE NOCASE NOT NULL",
}


def test_keys_that_the_database_takes_for_one_are_one(database: Database) -> None:
    """Windows neither skip nor repeat them, and two spellings of a key are found where it is not unique."""
    kind = {"mariadb": "mysql"}.get(database.dialect.name, database.dialect.name)
    if kind == "postgresql":
        execute(database, "CREATE EXTENSION citext")
    execute(database, f"CREATE TABLE doc (id {ALIKE[kind]}, file TEXT)")
    names = ["b", "A", "a1", "Ö", "B2", "c", "Z", "é"]
    execute(database, *(f"INSERT INTO doc VALUES ('{name}', '{FILE}')" for name in names))
    for size in (1, 2, 3):
        read = [row.pk[0] for window in rows(database).windows("old", size) for row in window]
        assert sorted(read) == sorted(names)
    check_row_identity(rows(database))
    execute(database, f"INSERT INTO doc VALUES ('C', '{FILE}')")
    with pytest.raises(ConfigurationError, match="doc has 2 rows that have their key in common"):
        check_row_identity(rows(database))


def test_an_enum_in_a_key_is_sorted_as_it_is_compared(database: Database) -> None:
    """MariaDB and DuckDB sort an ENUM by its number and compare it as a text: windows would skip rows."""
    if database.dialect.name not in ("mysql", "mariadb", "duckdb"):
        return
    execute(database, "CREATE TABLE doc (kind ENUM('z','m','a'), id INTEGER, file TEXT, PRIMARY KEY (kind, id))")
    keys = [(kind, n) for kind in "zma" for n in range(5)]
    execute(database, *(f"INSERT INTO doc VALUES ('{kind}', {n}, '{FILE}')" for kind, n in keys))
    for size in (1, 2, 4, 7):
        read = [row.pk for window in rows(database, "kind", "id").windows("old", size) for row in window]
        assert sorted(read) == sorted(keys), size
