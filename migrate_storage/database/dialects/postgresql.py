"""PostgreSQL: typed JSON, SQLSTATEs, positions in a write-ahead log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    TableClause,
    and_,
    bindparam,
    cast,
    column,
    func,
    select,
    text,
    types,
)

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.dialects.base import Dialect, ReplicaLag, TableCatalog, TableFacts, Trials, ValueKind
from migrate_storage.database.dialects.postgresql_tables import read_postgresql_tables
from migrate_storage.database.dialects.sets import RowSets
from migrate_storage.database.dialects.tables import Catalog

__all__ = ("PostgreSQL",)

_UNIQUE_KEYS = text("""
SELECT array_agg(a.attname::text)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS part
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[part] AND a.attnotnull
    AND a.attcollation = i.indcollation[part]
LEFT JOIN pg_opclass o ON o.oid = i.indclass[part] AND o.opcdefault
WHERE c.oid = to_regclass(:t) AND i.indisunique AND i.indisvalid AND i.indimmediate
    AND i.indpred IS NULL AND i.indexprs IS NULL
    AND (c.relkind = 'p' OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))
GROUP BY i.indexrelid HAVING bool_and(a.attnum IS NOT NULL AND o.oid IS NOT NULL)
""")
"""Indexes that compare as ``=`` does. A table that others inherit from does not enforce a key of all their rows."""
_INTERCEPTED = text("""
WITH RECURSIVE parts AS (
    SELECT to_regclass(:t)::oid AS oid UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = parts.oid)
SELECT EXISTS (SELECT FROM pg_trigger JOIN parts ON tgrelid = parts.oid WHERE NOT tgisinternal AND tgtype & 16 <> 0)
    OR EXISTS (SELECT FROM pg_rewrite JOIN parts ON ev_class = parts.oid WHERE ev_type = '2')
""")
"""Whether an UPDATE of the table fires a trigger, or is rewritten by a rule."""
_PRIMARY = """
SELECT count(*), count(state), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), min(pg_wal_lsn_diff(replay_lsn, '0/0')),
    EXTRACT(epoch FROM max(replay_lag) FILTER (WHERE replay_lsn < pg_current_wal_lsn()))
FROM pg_stat_replication
"""
_STANDBY = """
SELECT (SELECT count(*) FROM pg_stat_wal_receiver), 1, pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0'),
    pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), NULL
"""
_WAL_POSITIONS = 100_000
"""Positions of the log that are remembered with their time."""


class _JsonType(types.UserDefinedType[str]):
    """``json`` or ``jsonb`` by name, without SQLAlchemy's JSON serializer."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


class _PostgreSQLTrials(Trials):
    """What PostgreSQL is asked before its rows are changed."""

    def find_read_only(self, connection: Connection) -> str:
        if connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() != "on":
            return ""
        if self.is_standby(connection):
            return "the server is a standby"
        return "default_transaction_read_only is on for this role, database or connection"

    def is_standby(self, connection: Connection) -> bool:
        return bool(connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one())

    def find_create_refusal(self, connection: Connection, schema: str | None) -> str:
        statement = text("SELECT coalesce(:s, current_schema())")
        name = connection.execute(statement, {"s": schema}).scalar()
        if name is None:
            return "no schema of its search_path exists"
        statement = text("SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = :s")
        may = connection.execute(statement, {"s": name}).scalar()
        if may is None:
            # The journal creates its schema.
            may = connection.exec_driver_sql("SELECT has_database_privilege(current_database(), 'CREATE')").scalar()
            if not may:
                return f"there is no schema {name}, and permission to create one is denied"
        return self.find_read_only(connection) if may else f"permission denied for schema {name}"

    def try_write(self, connection: Connection, statement: Any) -> None:
        # EXPLAIN checks rights and rules as the statement does, and fires no trigger.
        connection.exec_driver_sql(f"EXPLAIN {statement.compile(connection)}")


class _PostgreSQLCatalog(TableCatalog):
    update_triggers = (
        "SELECT DISTINCT trigger_name FROM information_schema.triggers WHERE event_object_table = :t"
        " AND event_manipulation = 'UPDATE'"
    )

    def read_tables(self, connection: Connection) -> Catalog:
        return read_postgresql_tables(connection)

    def facts(self, connection: Connection, table: TableClause) -> TableFacts:
        name = {"t": connection.dialect.identifier_preparer.format_table(table)}
        return TableFacts(
            unique_keys=tuple(frozenset(names) for names in connection.execute(_UNIQUE_KEYS, name).scalars()),
            intercepts_updates=bool(connection.execute(_INTERCEPTED, name).scalar()),
        )

    def fold_name(self, name: str) -> str:
        return name

    def finds_keys_of(self, type_: types.TypeEngine[Any]) -> bool:
        # No driver has a date before year 1, and none or another one for infinity.
        return super().finds_keys_of(type_) and not isinstance(type_, (types.Date, types.DateTime))


class _PostgreSQLSets(RowSets):
    values = frozenset({"JSONB", "JSON", "TEXT", "VARCHAR"})

    def are_read(self, connection: Connection) -> bool:
        return True

    def are_written(self, connection: Connection) -> bool:
        return True

    def given(self, columns: Mapping[str, types.TypeEngine[Any]]) -> FromClause:
        # A text is refused where it is too long for its column. Cast to the column's own type, it would be cut.
        named = [
            column(name, types.Text() if isinstance(type_, types.String) else type_) for name, type_ in columns.items()
        ]
        json = cast(bindparam("rows", type_=types.Text()), _JsonType("JSON"))
        return func.json_to_recordset(json).table_valued(*named).render_derived("ms_given", with_types=True)

    def key_type(self, type_: types.TypeEngine[Any], collation: tuple[str, str] | None) -> types.TypeEngine[Any] | None:
        # Neither an ENUM, a domain nor CITEXT compares as a text does, nor CHAR, which is padded.
        if isinstance(type_, (types.Integer, types.Uuid, types.LargeBinary)):
            return type_
        return types.Text() if type(type_) in (types.VARCHAR, types.TEXT) else None


class PostgreSQL(Dialect):
    """PostgreSQL."""

    name = "postgresql"
    trials = _PostgreSQLTrials()
    catalog = _PostgreSQLCatalog()
    sets = _PostgreSQLSets()
    version = "SELECT version()"
    clock = "SELECT extract(epoch FROM clock_timestamp())"
    grants_by_table = True
    tables_with_column = (
        "SELECT n.nspname, c.relname, pg_table_is_visible(c.oid) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.attname = :c AND c.relkind IN ('r', 'p')"
        " AND NOT a.attisdropped AND NOT pg_is_other_temp_schema(n.oid) ORDER BY 1, 2"
    )
    # Serialization failures, deadlocks, lock timeouts, restarts, lost connections.
    transient_codes = frozenset(
        {"40001", "40P01", "40003", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "53300"}
        | {"08000", "08001", "08003", "08004", "08006", "08007"}
        # The server answers as a read-only replica: a failover is in progress.
        | {"25006"}
    )
    read_only_codes = frozenset({"25006"})
    full_codes = frozenset({"53100"})
    timeout_codes = frozenset({"57014"})
    repoints_ranges = True

    def prepare_connection(self, connection: Connection, lock_seconds: float) -> None:
        super().prepare_connection(connection, lock_seconds)
        if connection.dialect.driver == "psycopg":
            # PgBouncer in transaction mode gives each transaction another server connection: prepare nothing.
            driver_connection: Any = connection.connection.driver_connection
            driver_connection.prepare_threshold = None

    def set_timeouts(self, connection: Connection, lock_seconds: float, idle_seconds: float) -> None:
        connection.exec_driver_sql(
            f"SELECT set_config('lock_timeout', '{lock_seconds}s', true), "
            f"set_config('idle_in_transaction_session_timeout', '{idle_seconds}s', true), "
            # An error instead of hidden rows, as in pg_dump. It lasts as long as the transaction, for PgBouncer.
            "set_config('row_security', 'off', true)"
        )

    def text_of(self, column: ColumnElement[Any], type_: str = "") -> ColumnElement[str]:
        # In a collation that ignores case LIKE fails, and two texts are equal that are not.
        return super().text_of(func.to_json(column) if type_.endswith("[]") else column).collate("C")

    def allow_hidden_rows(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT set_config('row_security', 'on', true)")

    def is_hidden(self, message: str) -> bool:
        return "row-level security policy for table" in message and "new row" not in message

    def hides_rows(self, connection: Connection, schema: str | None, table: str) -> bool:
        statement = text(
            "SELECT row_security_active(to_regclass(coalesce(quote_ident(:s) || '.', '') || quote_ident(:t)))"
        )
        return bool(connection.execute(statement, {"s": schema, "t": table}).scalar())

    def limit_lock_wait(self, connection: Connection, seconds: float) -> None:
        connection.exec_driver_sql(f"SELECT set_config('lock_timeout', '{seconds}s', true)")

    def value_of(self, text: ColumnElement[Any], type_: str) -> ColumnElement[Any]:
        json_type = type_.removesuffix("[]")
        if json_type not in ("JSONB", "JSON"):
            return text
        json = cast(text, _JsonType(json_type))
        if json_type == type_:
            return json
        elements = func.jsonb_array_elements if json_type == "JSONB" else func.json_array_elements
        return func.array(select(elements(json)).scalar_subquery())

    def is_value(self, column: ColumnElement[Any], type_: str, text: ColumnElement[str]) -> ColumnElement[bool]:
        if type_ == "JSONB":
            return column == self.value_of(text, type_)
        if not type_.endswith("[]"):
            return super().is_value(column, type_, text)
        same = func.to_jsonb(column) == self.value_of(text, "JSONB")
        # Its JSON shows neither where an array's numbering starts nor whether it has more dimensions.
        return and_(same, func.array_dims(column) == func.concat("[1:", func.cardinality(column), "]"))

    def searchable(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        if kind is ValueKind.BYTES:
            return func.encode(column, "escape").collate("C")
        return cast(func.to_json(column) if kind is ValueKind.COMPOSED else column, types.Text()).collate("C")

    def contains(self, searched: ColumnElement[Any], part: str, *, any_case: bool = False) -> ColumnElement[bool]:
        return func.strpos(func.lower(searched) if any_case else searched, part) > 0

    def upsert(self, table: TableClause, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        from sqlalchemy.dialects.postgresql import insert

        return insert(table).values(values).on_conflict_do_update(index_elements=["id"], set_=changes)

    def replica_lag(self) -> ReplicaLag:
        return _WalLag()


class _WalLag(ReplicaLag):
    """The lag by positions in the write-ahead log.

    The server gives a time only for what was replayed. For the rest the time counts since we saw it written.
    """

    def __init__(self) -> None:
        self._written: deque[tuple[float, Decimal]] = deque(maxlen=_WAL_POSITIONS)

    def seconds(self, connection: Connection, server: str) -> float | None:
        standby = connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
        replicas, visible, written, replayed, lag = connection.exec_driver_sql(_STANDBY if standby else _PRIMARY).one()
        if standby and not replicas:
            return None
        if not standby and replicas != visible:
            raise ConfigurationError(
                f"this user may not see how far the replicas of {server} lag: GRANT pg_monitor to it, or name the "
                "replicas with --replicas"
            )
        if written is None or replayed is None:
            return 0.0
        now = time.monotonic()
        if not self._written or self._written[-1][1] < written:
            self._written.append((now, written))
        while self._written and self._written[0][1] <= replayed:
            self._written.popleft()
        return max(now - self._written[0][0] if self._written else 0.0, float(lag or 0))
