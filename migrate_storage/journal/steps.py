"""The steps from one version of our tables to the next.

Every change of a table is one more step at the end of :data:`STEPS`. A step that was released is never changed. No step
renames the columns by which :mod:`migrate_storage.journal.migrate` detects that tables are in use: ``lease.expires``,
``process.expires``, ``process.name`` and ``outbox.open``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from migrate_storage.core.earlier_words import OUTCOMES, RUN_STATES, STRATEGIES
from migrate_storage.journal.table_names import TableNames

__all__ = ("FIRST_VERSION", "STEPS", "Statement", "Step", "current_version", "needed_statements", "steps_after")

FIRST_VERSION = 1
"""The version before the first step."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a step."""

    #: Returns the SQL.
    sql: Callable[[Connection, TableNames], str]
    #: Returns whether an earlier attempt executed it. It is asked when all statements before it are done, and later
    #: ones may be done too. MariaDB and MySQL commit each change of a table at once, so an interrupted step continues with
    #: the first statement that is not done. Where executing it again changes nothing, it returns ``False``.
    done: Callable[[Connection, TableNames], bool]
    #: The names of the databases that need it; all where ``None``.
    databases: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change of our tables."""

    #: What changes, in one line.
    summary: str
    statements: tuple[Statement, ...]


_TYPES = {
    "postgresql": {"TEXT": "TEXT", "BYTES": "BYTEA", "DOUBLE": "DOUBLE PRECISION"},
    "sqlite": {"TEXT": "TEXT", "BYTES": "BLOB", "DOUBLE": "DOUBLE"},
    "duckdb": {"TEXT": "VARCHAR", "BYTES": "BLOB", "DOUBLE": "DOUBLE"},
    "mysql": {"TEXT": "LONGTEXT", "BYTES": "LONGBLOB", "DOUBLE": "DOUBLE"},
}
"""The words of each database for types that they name differently."""
_OPTIONS = {"mysql": " CHARSET=utf8mb4 COLLATE utf8mb4_bin ENGINE=InnoDB"}


def _database_of(connection: Connection) -> str:
    """Return ``postgresql``, ``sqlite``, ``duckdb``, or ``mysql``, which means MariaDB too."""
    return "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name


def _never_done(_connection: Connection, _names: TableNames) -> bool:
    """Whether a statement is done that changes nothing when it is executed again."""
    return False


def _create_table(table: str, columns: str, *, indexed: bool = False) -> Statement:
    """A statement that creates a table, or does nothing where an earlier attempt did.

    Args:
        table: its name.
        columns: its columns in SQL, with the types that differ in braces.
        indexed: whether statements after it create its indexes, and are not to be executed again.
    """

    def sql(connection: Connection, names: TableNames) -> str:
        database = _database_of(connection)
        options = _OPTIONS.get(database, "")
        return f"CREATE TABLE IF NOT EXISTS {names.qualify(table)} ({columns.format(**_TYPES[database])}){options}"

    if indexed:
        return Statement(sql=sql, done=lambda connection, names: names.has_table(connection, table))
    return Statement(sql=sql, done=_never_done)


def _drop_table(table: str) -> Statement:
    """A statement that drops a table that only PostgreSQL has."""
    return Statement(
        sql=lambda _, names: f"DROP TABLE IF EXISTS {names.qualify(table)}",
        done=lambda connection, names: not names.has_table(connection, table),
        databases=("postgresql",),
    )


def _rename_table(table: str, new: str) -> Statement:
    def sql(connection: Connection, names: TableNames) -> str:
        # MySQL moves the table into the connection's default schema where the new name has none. The others take none.
        target = names.qualify(new) if _database_of(connection) == "mysql" else names.quote(new)
        return f"ALTER TABLE {names.qualify(table)} RENAME TO {target}"

    return Statement(sql=sql, done=lambda connection, names: names.has_table(connection, new))


def _create_index(table: str, index: str, *columns: str) -> Statement:
    def sql(connection: Connection, names: TableNames) -> str:
        name, on = names.quote(index), names.qualify(table)
        if _database_of(connection) == "sqlite":
            name, on = names.qualify(index), names.quote(table)
        return f"CREATE INDEX {name} ON {on} ({', '.join(map(names.preparer.quote_identifier, columns))})"

    return Statement(sql=sql, done=lambda connection, names: names.has_index(connection, table, index))


def _rename_index(table: str, index: str, new: str, column: str) -> tuple[Statement, Statement]:
    """Two statements that replace an index, for SQLite cannot rename it."""

    def drop(connection: Connection, names: TableNames) -> str:
        if _database_of(connection) == "mysql":
            return f"DROP INDEX {names.quote(index)} ON {names.qualify(table)}"
        return f"DROP INDEX {names.qualify(index)}"

    return (
        _create_index(table, new, column),
        Statement(sql=drop, done=lambda connection, names: not names.has_index(connection, table, index)),
    )


def _rename_column(table: str, column: str, new: str) -> Statement:
    def sql(_: Connection, names: TableNames) -> str:
        quote = names.preparer.quote_identifier
        return f"ALTER TABLE {names.qualify(table)} RENAME COLUMN {quote(column)} TO {quote(new)}"

    return Statement(sql=sql, done=lambda connection, names: names.has_column(connection, table, new))


def _add_column(table: str, column: str, kind: str) -> Statement:
    """A statement that adds a column that may be NULL."""

    def sql(connection: Connection, names: TableNames) -> str:
        quoted = names.preparer.quote_identifier(column)
        return f"ALTER TABLE {names.qualify(table)} ADD COLUMN {quoted} {_TYPES[_database_of(connection)][kind]}"

    return Statement(sql=sql, done=lambda connection, names: names.has_column(connection, table, column))


def _widen_column(table: str, column: str, length: int, *, null: bool) -> Statement:
    """A statement that makes a VARCHAR longer. SQLite needs none, for it ignores the length."""

    def sql(connection: Connection, names: TableNames) -> str:
        begun, quoted = f"ALTER TABLE {names.qualify(table)}", names.preparer.quote_identifier(column)
        if _database_of(connection) == "mysql":
            return f"{begun} MODIFY COLUMN {quoted} VARCHAR({length}){'' if null else ' NOT NULL'}"
        return f"{begun} ALTER COLUMN {quoted} TYPE VARCHAR({length})"

    return Statement(
        sql=sql,
        done=lambda connection, names: names.length(connection, table, column) == length,
        databases=("postgresql", "mysql"),
    )


def _replace_values(table: str, column: str, words: Mapping[str, str]) -> Statement:
    """A statement that replaces words in a column. No new word is an old one, so executing it again changes nothing."""

    def sql(_: Connection, names: TableNames) -> str:
        quoted = names.preparer.quote_identifier(column)
        cases = " ".join(f"WHEN '{old}' THEN '{new}'" for old, new in words.items())
        old_words = ", ".join(f"'{old}'" for old in words)
        return f"UPDATE {names.qualify(table)} SET {quoted} = CASE {quoted} {cases} END WHERE {quoted} IN ({old_words})"

    return Statement(sql=sql, done=_never_done)


def _rename_json_names(table: str, column: str, words: Mapping[str, str]) -> Statement:
    """A statement that renames properties in a column of JSON as text."""

    def sql(_: Connection, names: TableNames) -> str:
        quoted = value = names.preparer.quote_identifier(column)
        for old, new in words.items():
            value = f"""REPLACE({value}, '"{old}":', '"{new}":')"""
        return f"UPDATE {names.qualify(table)} SET {quoted} = {value} WHERE {quoted} IS NOT NULL"

    return Statement(sql=sql, done=_never_done)


OBJECT_STATES = {
    "held": "verified",
    "leftover": "unreferenced",
    "listed": "unresolved",
    "purging": "source_deleting",
    "purged": "source_deleted",
    "removing": "copy_deleting",
    "removed": "copy_deleted",
    "moving": "quarantine_copying",
    "deleting": "quarantine_deleting",
}
ROW_STATES = {"swapped": "repointed", "kept": "superseded"}
PROOFS = {
    "same place": "same_object",
    "same place, listed": "same_object_listing",
    "both read": "content_compared",
    "copied by the service, equal digests": "server_side_copy",
    "size and time": "size_and_time",
    "dry run": "dry_run",
    "source digest, destination digest": "source_digest, destination_digest",
    "source digest, read back": "source_digest, destination_readback",
    "local source, destination digest": "local_source, destination_digest",
    "local source, read back": "local_source, destination_readback",
    "read twice, destination digest": "source_reread, destination_digest",
    "read twice, read back": "source_reread, destination_readback",
    "read twice, by option, destination digest": "source_reread, by_option, destination_digest",
    "read twice, by option, read back": "source_reread, by_option, destination_readback",
}

PROGRESS_NAMES = {"listed": "problems", "rows_moved": "rows_repointed", "ranges": "shards"}
"""Names in the JSON of the progress of a run or a shard."""

STEPS: tuple[Step, ...] = (
    Step(
        summary="a re-key records a range of rows in one line",
        statements=(
            _create_table(
                "rekey",
                "id BIGINT NOT NULL, run VARCHAR(36) NOT NULL, table_schema VARCHAR(255), table_name VARCHAR(255) NOT NULL, "
                "column_name VARCHAR(255) NOT NULL, first_key {TEXT} NOT NULL, last_key {TEXT} NOT NULL, row_count INTEGER NOT NULL, "
                "object_count INTEGER NOT NULL, rule {TEXT} NOT NULL, members {BYTES} NOT NULL, state VARCHAR(16) NOT NULL, "
                "at {DOUBLE} NOT NULL, PRIMARY KEY (id)",
            ),
            _create_table(
                "rekey_object", "hash BIGINT NOT NULL, range_id BIGINT NOT NULL, PRIMARY KEY (hash, range_id)"
            ),
        ),
    ),
    # Every name changes before every value, so that each ``done`` finds the names that it asks for.
    Step(
        summary="tables, columns, states and outcomes have plain names",
        statements=(
            # A re-key that was killed may have left it.
            _drop_table("seen"),
            _rename_table("range", "shard"),
            _rename_table("mark", "known_loss"),
            *_rename_index("shard", "range_plan", "shard_plan", "plan"),
            _rename_column("run", "wanted", "control"),
            _rename_column("run", "doing", "progress"),
            _rename_column("shard", "doing", "progress"),
            _rename_column("object", "part", "shard"),
            _rename_column("object", "ours", "written_by_us"),
            _widen_column("object", "state", 32, null=False),
            _widen_column("object", "outcome", 32, null=True),
            _replace_values("object", "state", OBJECT_STATES),
            _replace_values("row", "state", ROW_STATES),
            _replace_values("run", "state", RUN_STATES),
            _replace_values("run", "way", STRATEGIES),
            _replace_values("object", "outcome", OUTCOMES),
            _replace_values("object", "evidence", PROOFS),
            _rename_json_names("run", "progress", PROGRESS_NAMES),
            _rename_json_names("shard", "progress", PROGRESS_NAMES),
        ),
    ),
    Step(
        summary="a run records the rule by which it named its copies",
        statements=(_add_column("run", "renaming", "TEXT"),),
    ),
    Step(
        summary="what a probe showed of a store counts for an hour",
        statements=(
            _create_table(
                "capability", "id VARCHAR(64) NOT NULL, found {TEXT} NOT NULL, at {DOUBLE} NOT NULL, PRIMARY KEY (id)"
            ),
        ),
    ),
    Step(
        summary="texts in which public addresses were changed",
        statements=(
            _create_table(
                "link",
                "id VARCHAR(32) NOT NULL, run VARCHAR(36) NOT NULL, table_schema VARCHAR(255), table_name VARCHAR(255) NOT NULL, "
                "column_name VARCHAR(255) NOT NULL, pk {TEXT} NOT NULL, row_id VARCHAR(32) NOT NULL, backend VARCHAR(255) NOT NULL, "
                "paths {TEXT} NOT NULL, changes {BYTES} NOT NULL, old_digest VARCHAR(64) NOT NULL, new_digest VARCHAR(64) NOT NULL, "
                "state VARCHAR(16) NOT NULL, at {DOUBLE} NOT NULL, PRIMARY KEY (id)",
                indexed=True,
            ),
            _create_index("link", "link_run", "run", "state"),
            _create_index("link", "link_row", "row_id"),
        ),
    ),
)
"""All steps. The first one leads from :data:`FIRST_VERSION` to the next version."""


def current_version() -> int:
    """Return the version of the tables that this program reads and writes."""
    return FIRST_VERSION + len(STEPS)


def steps_after(version: int) -> dict[int, Step]:
    """Return the steps that a journal of a version lacks, by the version to which each leads."""
    numbered = enumerate(STEPS, FIRST_VERSION + 1)
    return {number: step for number, step in numbered if number > version}


def needed_statements(step: Step, connection: Connection) -> list[Statement]:
    """Return the statements of a step that a database needs."""
    database = _database_of(connection)
    return [each for each in step.statements if each.databases is None or database in each.databases]
