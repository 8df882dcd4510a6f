"""What may differ between databases, with the most common way as the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, TableClause, bindparam, cast, func, text, true, types
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.dialects.sets import RowSets
from migrate_storage.database.dialects.tables import Catalog
from migrate_storage.database.dialects.value_kind import ValueKind

__all__ = ("Dialect", "ReplicaLag", "TableCatalog", "TableFacts", "Trials", "ValueKind", "as_text", "untyped")


class Trials:
    """What a server is asked before rows of it are changed. It keeps no state."""

    def check_settings(self, connection: Connection) -> None:
        """Refuse a driver or a setting with which our statements would mean something else.

        Raises:
            ConfigurationError: there is one.
        """

    def find_read_only(self, connection: Connection) -> str:
        """Why this transaction cannot write at all; empty if it can, or if only a write shows it."""
        return ""

    def is_standby(self, connection: Connection) -> bool:
        """Whether the server is a standby, whose rows are those of another one."""
        return False

    def find_create_refusal(self, connection: Connection, schema: str | None) -> str:
        """Why this role may not create tables in a schema; empty if it may, or if only a try shows it."""
        return self.find_read_only(connection)

    def try_write(self, connection: Connection, statement: Any) -> None:
        """Let the server check a write that touches no row, as it would check one that does.

        Raises:
            DBAPIError: it refuses.
        """
        connection.execute(statement)

    def in_transaction(self, connection: Connection) -> bool:
        """Whether a ROLLBACK would undo the last write: the server itself is asked."""
        try:
            connection.exec_driver_sql("SAVEPOINT migrate_storage_trial")
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT migrate_storage_trial")
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return False
        return True

    def find_untransactional(
        self, connection: Connection, schema: str | None, tables: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Those of some tables that have no transactions, each with the engine that keeps it."""
        return []

    def check_update(self, connection: Connection, table: TableClause, column: str) -> None:
        """Refuse a column of which an UPDATE would change more than this column.

        Raises:
            PreflightError: it would, or no UPDATE can set it.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFacts:
    """What a database enforces of a table's rows, and what it does when they are updated."""

    #: Sets of columns of which it enforces that no two rows have the same values, and that none is NULL.
    unique_keys: tuple[frozenset[str], ...]
    #: Columns that it changes if an UPDATE does not set them.
    set_on_update: tuple[str, ...] = ()
    #: Whether something may change, drop or redirect an UPDATE: a trigger or a rule, seen or not.
    intercepts_updates: bool
    #: Character set and collation of columns of text, where the server compares no two texts of different ones.
    collations: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def enforces(self, key: Iterable[str]) -> bool:
        """Whether a key is different for every two rows."""
        names = frozenset(key)
        return any(columns <= names for columns in self.unique_keys)

    def respell(self, names: Mapping[str, str]) -> TableFacts:
        """The same facts with other names of some columns, such as a model's."""
        return replace(
            self,
            unique_keys=tuple(frozenset(names.get(name, name) for name in key) for key in self.unique_keys),
            collations={names.get(name, name): value for name, value in self.collations.items()},
        )


class TableCatalog:
    """What a server enforces and does of itself in a table, and how it compares keys. It keeps no state."""

    #: A SELECT of the names of the triggers that an UPDATE of table ``:t`` fires.
    update_triggers: ClassVar[str]

    def facts(self, connection: Connection, table: TableClause) -> TableFacts:
        """What the database enforces of the rows of a table, asked of its catalog."""
        raise NotImplementedError

    def list_update_triggers(self, connection: Connection, table: str) -> list[str]:
        """The names of the triggers that an UPDATE of a table fires."""
        return [str(name) for name in connection.execute(text(self.update_triggers), {"t": table}).scalars()]

    def read_tables(self, connection: Connection) -> Catalog:
        """All tables that the role sees, in all schemas, with their columns that can contain text."""
        raise NotImplementedError

    def finds_keys_of(self, type_: types.TypeEngine[Any]) -> bool:
        """Whether each value of a type, as drivers return it, compares equal to itself."""
        exact = (types.Integer, types.String, types.Uuid, types.LargeBinary, types.Boolean, types.Date, types.DateTime)
        return isinstance(type_, exact) or (isinstance(type_, types.Numeric) and not isinstance(type_, types.Float))

    def fold_name(self, name: str) -> str:
        """A name of a table or column such that two names of one are equal."""
        return name.casefold()

    def is_text(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether a value of a column with text is one, and not bytes."""
        return true()

    def in_key_order(self, column: ColumnElement[Any], type_: types.TypeEngine[Any]) -> ColumnElement[Any]:
        """A column of a key as the database both sorts it and compares it with a parameter."""
        return column


class Dialect:
    """One kind of database server. It keeps no state."""

    #: SQLAlchemy's name of it.
    name: ClassVar[str]
    #: A SELECT of the server's clock, in seconds since the epoch.
    clock: ClassVar[str]
    #: Whether a role needs a GRANT for each table and sequence, and for a schema that is not the default one.
    grants_by_table: ClassVar[bool] = False
    #: A SELECT of all tables with a column named ``:c``: schema, table, and whether a statement finds the table without
    #: the schema's name.
    tables_with_column: ClassVar[str]
    #: Error numbers or SQLSTATEs after which the same transaction may succeed.
    transient_codes: ClassVar[frozenset[int | str]] = frozenset()
    #: The same as words in the message, in lower case, of a driver that gives no code.
    transient_messages: ClassVar[tuple[str, ...]] = ()
    #: Error numbers of a server, or messages in lower case, that refuses every write.
    read_only_codes: ClassVar[frozenset[int | str]] = frozenset()
    #: What to do about it.
    read_only_remedy: ClassVar[str] = "connect to the primary, as a role that may write"
    #: A SELECT of the server's product and version.
    version: ClassVar[str]
    #: Error numbers or SQLSTATEs of a full disk or a failed write. No row is to blame, and a retry does not help.
    full_codes: ClassVar[frozenset[int | str]] = frozenset()
    #: The same as words in the message, in lower case.
    full_messages: ClassVar[tuple[str, ...]] = ()
    #: Error numbers or SQLSTATEs of a statement that took longer than the server allows.
    timeout_codes: ClassVar[frozenset[int | str]] = frozenset()
    #: Whether the server itself matches regular expressions.
    matches_patterns: ClassVar[bool] = True
    #: Rows of one compare-and-swap statement; 1 sends the rows as an ``executemany``.
    swap_rows: int = 1
    #: Characters of all values in one compare-and-swap statement of several rows.
    swap_characters: int = 0
    #: Whether one statement can re-point a range of rows and journal each of them.
    repoints_ranges: ClassVar[bool] = False
    #: Whether a SELECT can lock the rows that it reads. Otherwise there is one writer, or the second one of a row fails.
    locks_rows: ClassVar[bool] = True
    #: Whether several processes write faster than one.
    parallel_writers: ClassVar[bool] = True
    #: Whether one process at a time can open the database at all.
    one_process: ClassVar[bool] = False
    #: Whether the journal's tables have indexes beside their primary keys.
    indexes_journal: ClassVar[bool] = True
    #: The statement that makes the sequence of a table's numbers, where the table's own does not make it.
    create_sequence: ClassVar[str] = ""
    #: What to do where a connection fails, by words of the message in lower case.
    unreachable_remedies: ClassVar[Mapping[str, str]] = {}

    #: What it is asked before rows are changed.
    trials: Trials = Trials()
    #: What it enforces, and how it compares keys.
    catalog: TableCatalog = TableCatalog()
    #: How it takes many rows as one parameter.
    sets: RowSets = RowSets()

    def prepare_connection(self, connection: Connection, lock_seconds: float) -> None:
        """Set up a connection before its transaction begins.

        Args:
            connection: fresh from the pool.
            lock_seconds: how long a statement waits for a lock of another transaction.
        """
        connection.execution_options(isolation_level="READ COMMITTED")

    def set_timeouts(self, connection: Connection, lock_seconds: float, idle_seconds: float) -> None:
        """Set timeouts at the beginning of a transaction.

        Args:
            connection: in the transaction.
            lock_seconds: how long a statement waits for a lock of another transaction.
            idle_seconds: after how long the server ends a transaction that sends no statement.
        """

    def allow_hidden_rows(self, connection: Connection) -> None:
        """Let statements of a transaction skip the rows that row level security hides, where there is such a thing."""

    def is_hidden(self, message: str) -> bool:
        """Whether an error means that rows are hidden from this role."""
        return False

    def hides_rows(self, connection: Connection, schema: str | None, table: str) -> bool:
        """Whether row level security may hide rows of a table from this role."""
        return False

    def limit_lock_wait(self, connection: Connection, seconds: float) -> None:
        """Shorten the wait for locks of a transaction that has locks itself."""

    def text_of(self, column: ColumnElement[Any], type_: str = "") -> ColumnElement[str]:
        """The stored value of a column as text. An array of JSON is the text of a JSON list."""
        return cast(column, types.Text())

    def read_text(self, column: ColumnElement[Any], type_: str) -> ColumnElement[Any]:
        """The same to be read, also where the text is no valid one; see :func:`as_text`."""
        return self.text_of(column, type_)

    def value_of(self, text: ColumnElement[Any], type_: str) -> ColumnElement[Any]:
        """The value that a text is in a column of a type, which the server names in capitals."""
        return text

    def is_value(self, column: ColumnElement[Any], type_: str, text: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a column of a type has the value that a text is there."""
        return self.text_of(column, type_) == text

    def searchable(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        """What :meth:`contains` searches: the text of a column, in which no character replaces another."""
        raise NotImplementedError

    def found_value(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        """The value that a search returns: text, or bytes as they are stored."""
        return column if kind is ValueKind.BYTES else self.searchable(column, kind)

    def contains(self, searched: ColumnElement[Any], part: str, *, any_case: bool = False) -> ColumnElement[bool]:
        """Whether a :meth:`searchable` text contains an ASCII text; with ``any_case`` one in lower case, in letters of any."""
        return func.instr(func.lower(searched) if any_case else searched, part) > 0

    def upsert(self, table: TableClause, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        """An INSERT that changes the row instead where one with the same ``id`` exists."""
        raise NotImplementedError

    def replica_lag(self) -> ReplicaLag:
        """A new meter of the lag of one server's replicas."""
        return ReplicaLag()


class ReplicaLag:
    """How far the slowest replica is behind that one server knows of."""

    def seconds(self, connection: Connection, server: str) -> float | None:
        """The lag in seconds; ``None`` where replication has stopped.

        Args:
            connection: to the server, in a transaction.
            server: its name for messages.

        Raises:
            ConfigurationError: this server does not know it.
        """
        raise ConfigurationError(f"{server} has no replicas: leave --max-replica-lag out")


def untyped(name: str, value: Any) -> ColumnElement[Any]:
    """A parameter that reaches the driver unchanged, whatever its type."""
    return bindparam(name, value, type_=NullType(), unique=False)


def as_text(value: Any) -> str:
    """A value of :meth:`Dialect.text_of`, which some drivers return as bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)
