"""MySQL, and MariaDB, which differs from it in JSON columns and in one timeout."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    LargeBinary,
    TableClause,
    Text,
    cast,
    literal_column,
    text,
    types,
)
from sqlalchemy import column as sql_column
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.dialects.base import Dialect, ReplicaLag, TableCatalog, TableFacts, Trials, ValueKind
from migrate_storage.database.dialects.mysql_tables import read_mysql_tables
from migrate_storage.database.dialects.sets import RowSets
from migrate_storage.database.dialects.tables import Catalog

__all__ = ("LONG_BYTES", "LONG_TEXT", "TABLE_OPTIONS", "MariaDB", "MySQL")

LONG_TEXT = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""The type of a text of any length: TEXT has at most 64 KiB there."""
LONG_BYTES = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
"""The type of bytes of any number: BLOB has at most 64 KiB there."""
TABLE_OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}
"""Options of a table that keeps every text exactly and has transactions."""

_UNTRANSACTIONAL = """
SELECT t.engine FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = COALESCE(:s, DATABASE()) AND t.table_name = :t AND e.transactions <> 'YES'
"""
_VIEW = """
SELECT view_definition FROM information_schema.views WHERE table_schema = COALESCE(:s, DATABASE()) AND table_name = :t
"""
_QUALIFIED = re.compile(r"`([^`]+)`\.`([^`]+)`(?!\.)")
"""A name with its schema in a view's definition, as the server writes it."""
_KEPT_MODES = (
    "PIPES_AS_CONCAT", "IGNORE_SPACE", "NO_BACKSLASH_ESCAPES", "NO_ZERO_DATE", "NO_ZERO_IN_DATE", "ALLOW_INVALID_DATES",
)  # fmt: skip
"""What the application's ``sql_mode`` may decide for us. With others an empty text is NULL, or names have other quotes."""
_STRICT = "SESSION sql_mode = CONCAT_WS(',', {quotes}'STRICT_ALL_TABLES', {kept})"
"""A value that is too long for its column is refused. Otherwise the server would cut it."""
_WHOLE = "SESSION sql_select_limit = 18446744073709551615, SESSION sql_big_selects = 1, SESSION sql_safe_updates = 0, SESSION completion_type = 0"
"""No statement is refused or cut because it is large, and a COMMIT is only that, whatever the application or the server sets (``--safe-updates``)."""
_ENGINES = frozenset({"innodb", "aria", "myisam", "memory", "rocksdb", "ndbcluster"})
"""Storage engines that enforce unique keys by themselves; others have their rows elsewhere."""
_FREE_OF_TRIGGERS = text("""
SELECT (
    EXISTS (SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'TRIGGER' AND grantee = me)
    OR EXISTS (SELECT 1 FROM information_schema.schema_privileges WHERE privilege_type = 'TRIGGER' AND grantee = me
        AND home LIKE table_schema)
    OR EXISTS (SELECT 1 FROM information_schema.table_privileges WHERE privilege_type = 'TRIGGER' AND grantee = me
        AND table_schema = home AND table_name = :t)
) AND NOT EXISTS (SELECT 1 FROM information_schema.triggers WHERE event_object_schema = home
    AND event_object_table = :t AND event_manipulation = 'UPDATE')
FROM (SELECT CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''') AS me, COALESCE(:s, DATABASE()) AS home) AS here
""")
"""Whether no trigger fires. A user without the TRIGGER privilege does not see those that its UPDATEs fire."""
_LAG_COLUMNS = ("Seconds_Behind_Source", "Seconds_Behind_Master")


class _MySQLTrials(Trials):
    """What MySQL and MariaDB are asked before their rows are changed."""

    def find_untransactional(
        self, connection: Connection, schema: str | None, tables: Sequence[str]
    ) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for name in tables:
            parts = {"s": schema, "t": name}
            kept = connection.execute(text(_UNTRANSACTIONAL), parts).first()
            if kept is not None:
                found.append((name, str(kept[0])))
            view = str(connection.execute(text(_VIEW), parts).scalar() or "")
            for owner, behind in dict.fromkeys(_QUALIFIED.findall(view)):
                if (owner, behind) != (schema, name):
                    found.extend(self.find_untransactional(connection, owner, [behind]))
        return found


class _MySQLCatalog(TableCatalog):
    update_triggers = (
        "SELECT trigger_name FROM information_schema.triggers WHERE event_object_table = :t"
        " AND event_manipulation = 'UPDATE' AND event_object_schema = DATABASE()"
    )

    def read_tables(self, connection: Connection) -> Catalog:
        return read_mysql_tables(connection)

    def facts(self, connection: Connection, table: TableClause) -> TableFacts:
        where = " WHERE table_schema = COALESCE(:s, DATABASE()) AND table_name = :t"
        name = {"s": table.schema, "t": table.name}
        columns = connection.execute(
            text(
                f"SELECT column_name, extra, character_set_name, collation_name FROM information_schema.columns{where}"
            ),
            name,
        ).all()
        engine = connection.execute(text(f"SELECT engine FROM information_schema.tables{where}"), name).scalar()
        keys: dict[str, set[str]] = {}
        open_to_doubt: set[str] = set()
        if str(engine).lower() in _ENGINES:
            # Not information_schema.statistics, which may mix tables whose names differ in case only.
            quoted = connection.dialect.identifier_preparer.format_table(table)
            for part in connection.exec_driver_sql(f"SHOW INDEX FROM {quoted}").mappings():
                keys.setdefault(part["Key_name"], set()).add(part["Column_name"])
                # A prefix, an expression, or a column that may be NULL.
                if part["Non_unique"] or part["Sub_part"] or part["Column_name"] is None or part["Null"]:
                    open_to_doubt.add(part["Key_name"])
        return TableFacts(
            unique_keys=tuple(frozenset(columns) for key, columns in keys.items() if key not in open_to_doubt),
            set_on_update=tuple(column for column, extra, _, _ in columns if "on update" in (extra or "").lower()),
            intercepts_updates=not connection.execute(_FREE_OF_TRIGGERS, name).scalar(),
            collations={column: (charset, collation) for column, _, charset, collation in columns if collation},
        )

    def finds_keys_of(self, type_: types.TypeEngine[Any]) -> bool:
        # Where clocks are put back, two times that differ have one text.
        return super().finds_keys_of(type_) and not isinstance(type_, types.TIMESTAMP)

    def in_key_order(self, column: ColumnElement[Any], type_: types.TypeEngine[Any]) -> ColumnElement[Any]:
        # An ENUM or SET is sorted by its number, and compared with a text by its text.
        return _as_utf8(column) if isinstance(type_, (mysql.ENUM, mysql.SET)) else column


class MySQL(Dialect):
    """MySQL."""

    name = "mysql"
    trials = _MySQLTrials()
    catalog = _MySQLCatalog()
    version = "SELECT CONCAT(VERSION(), ' ', @@version_comment)"
    # Not of NOW(): where clocks are put back, two times have one local time.
    clock = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"
    # Other schemas are other databases, which may belong to other applications.
    tables_with_column = (
        "SELECT table_schema, table_name, 1 FROM information_schema.columns WHERE column_name = :c"
        " AND table_schema = DATABASE() ORDER BY 2"
    )
    # Serialization failures, deadlocks, lock timeouts, restarts, lost connections.
    transient_codes = frozenset(
        {1020, 1040, 1053, 1203, 1205, 1213, 1226, 1317, 1412, 1927, 1969, 2002, 2003, 2006, 2013, 2055, 4031}
        # The server answers as a read-only replica: a failover is in progress.
        | {1290, 1792, 1836}
    )
    read_only_codes = frozenset({1290, 1792, 1836})
    full_codes = frozenset({3, 1021, 1026, 1114})
    timeout_codes = frozenset({1969, 3024})
    # The server is asked for each row of an executemany by itself, so that one statement for many rows is faster.
    swap_rows = 100
    # Each character may be four bytes, and an old server takes statements of at most 4 MiB.
    swap_characters = 250_000

    def set_timeouts(self, connection: Connection, lock_seconds: float, idle_seconds: float) -> None:
        connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {lock_seconds}, {_settings(connection)}")

    def limit_lock_wait(self, connection: Connection, seconds: float) -> None:
        connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {seconds}")

    def text_of(self, column: ColumnElement[Any], type_: str = "") -> ColumnElement[str]:
        return _as_utf8(column)

    def is_value(self, column: ColumnElement[Any], type_: str, text: ColumnElement[str]) -> ColumnElement[bool]:
        return column == cast(text, mysql.JSON()) if type_ == "JSON" else self._is_text(column, text)

    def _is_text(self, column: ColumnElement[Any], text: ColumnElement[str]) -> ColumnElement[bool]:
        return self.text_of(column).collate("utf8mb4_bin") == text

    def searchable(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        name = "`" + str(column.key).replace("`", "``") + "`"
        # As latin1 each byte is a character, whatever the bytes are.
        name = f"CONVERT({name} USING latin1)" if kind is ValueKind.BYTES else name
        return literal_column(f"CONVERT({name} USING utf8mb4)", Text()).collate("utf8mb4_bin")

    def upsert(self, table: TableClause, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        return mysql.insert(table).values(values).on_duplicate_key_update(list(changes.items()))

    def replica_lag(self) -> ReplicaLag:
        return _StatusLag()


class _MariaDBSets(RowSets):
    values = frozenset({"JSON", "LONGTEXT", "MEDIUMTEXT", "TEXT", "VARCHAR"})

    def are_read(self, connection: Connection) -> bool:
        return bool((connection.dialect.server_version_info or (0,)) >= (10, 6))

    def are_written(self, connection: Connection) -> bool:
        return self.are_read(connection)

    def given(self, columns: Mapping[str, types.TypeEngine[Any]]) -> FromClause:
        declared = ", ".join(f"`{name}` {_type_in_json(type_)} PATH '$.{name}'" for name, type_ in columns.items())
        read = ", ".join(f"{_read_json(name, type_)} AS `{name}`" for name, type_ in columns.items())
        rows = "CONVERT(FROM_BASE64(:rows) USING utf8mb4)"
        statement = text(f"SELECT {read} FROM JSON_TABLE({rows}, '$[*]' COLUMNS ({declared})) AS ms_rows")
        return statement.columns(*(sql_column(name, type_) for name, type_ in columns.items())).subquery("ms_given")

    def dump(self, rows: Sequence[Mapping[str, Any]]) -> str:
        # PyMySQL takes 10 ns for each character of a text in which one is to be escaped, and 1 ns without such a one.
        return base64.b64encode(super().dump(rows).encode()).decode()

    def key_type(self, type_: types.TypeEngine[Any], collation: tuple[str, str] | None) -> types.TypeEngine[Any] | None:
        if isinstance(type_, types.Integer) and not getattr(type_, "unsigned", False):
            return types.BigInteger()
        if type(type_) in (types.BINARY, types.VARBINARY):
            return types.LargeBinary()
        if isinstance(type_, types.String) and not isinstance(type_, (types.Enum, mysql.SET)) and collation:
            return mysql.VARCHAR(charset=collation[0], collation=collation[1])
        return None


def _type_in_json(type_: types.TypeEngine[Any]) -> str:
    """A type of :meth:`Dialect.given`. A text is refused where it is too long for its column, and not cut before."""
    if isinstance(type_, types.Double):
        return "DOUBLE"
    if isinstance(type_, types.Boolean):
        return "BOOLEAN"
    return "BIGINT" if isinstance(type_, types.Integer) else "LONGTEXT"


def _read_json(name: str, type_: types.TypeEngine[Any]) -> str:
    """A value of :meth:`Dialect.given`: a key in the collation of its column, so that its index is used."""
    if isinstance(type_, types.LargeBinary):
        return f"UNHEX(SUBSTRING(`{name}`, 3))"
    charset = getattr(type_, "charset", None)
    return f"CONVERT(`{name}` USING {charset}) COLLATE {type_.collation}" if charset else f"`{name}`"  # type: ignore[attr-defined]


class MariaDB(MySQL):
    """MariaDB. Its JSON columns are text, and it can end idle transactions."""

    name = "mariadb"
    sets = _MariaDBSets()

    def set_timeouts(self, connection: Connection, lock_seconds: float, idle_seconds: float) -> None:
        connection.exec_driver_sql(
            f"SET SESSION innodb_lock_wait_timeout = {lock_seconds}, "
            f"SESSION idle_transaction_timeout = {idle_seconds}, {_settings(connection)}"
        )

    def is_value(self, column: ColumnElement[Any], type_: str, text: ColumnElement[str]) -> ColumnElement[bool]:
        return self._is_text(column, text)


def _settings(connection: Connection) -> str:
    """What each session of ours sets."""
    kept = ", ".join(f"IF(FIND_IN_SET('{mode}', @@SESSION.sql_mode), '{mode}', NULL)" for mode in _KEPT_MODES)
    quotes = "'ANSI_QUOTES', " if connection.dialect.identifier_preparer.initial_quote == '"' else ""
    return f"{_STRICT.format(quotes=quotes, kept=kept)}, {_WHOLE}"


def _as_utf8(column: ColumnElement[Any]) -> ColumnElement[str]:
    name = "`" + str(column.key).replace("`", "``") + "`"
    return literal_column(f"CONVERT({name} USING utf8mb4)", Text())


class _StatusLag(ReplicaLag):
    """The lag that a replica reports. A primary does not know the lag of its replicas."""

    def seconds(self, connection: Connection, server: str) -> float | None:
        names = ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
        for statement in names:
            try:
                rows = connection.exec_driver_sql(statement).mappings().all()
                break
            except SQLAlchemyError:
                if statement == names[-1]:
                    raise
        if not rows:
            raise ConfigurationError(
                f"{server} is no replica, and a primary of this kind does not know how far its replicas lag: name "
                "them with --replicas URL"
            )
        lags = [next((row[name] for name in _LAG_COLUMNS if name in row), None) for row in rows]
        return None if None in lags else max(float(seconds) for seconds in lags if seconds is not None)
