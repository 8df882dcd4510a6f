"""The steps from one version of our tables to the next.

Every change of a table is one more step at the end of :data:`STEPS`. A step that was released is never changed. No step
renames the columns by which :mod:`migrate_storage.journal.migrate` detects that tables are in use: ``lease.expires``,
``process.expires``, ``process.name`` and ``outbox.open``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

__all__ = ("FIRST_VERSION", "STEPS", "QualifyName", "Statement", "Step", "current_version", "steps_after")

FIRST_VERSION = 1
"""The version before the first step."""

QualifyName = Callable[[str], str]
"""Returns the quoted name of one of our tables with its schema, from its name without the prefix, such as ``row``."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a step."""

    #: Returns the SQL.
    sql: Callable[[Connection, QualifyName], str]
    #: Returns whether an earlier attempt executed it. It is asked when all statements before it are done. MariaDB and MySQL
    #: commit each change of a table at once, so an interrupted step continues with the first statement that is not done.
    done: Callable[[Connection, QualifyName], bool]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change of our tables."""

    #: What changes, in one line.
    summary: str
    statements: tuple[Statement, ...]


_TYPES = {
    "postgresql": {"TEXT": "TEXT", "BYTES": "BYTEA", "DOUBLE": "DOUBLE PRECISION"},
    "sqlite": {"TEXT": "TEXT", "BYTES": "BLOB", "DOUBLE": "DOUBLE"},
    "mysql": {"TEXT": "LONGTEXT", "BYTES": "LONGBLOB", "DOUBLE": "DOUBLE"},
}
"""The words of each database for types that they name differently."""
_OPTIONS = {"mysql": " CHARSET=utf8mb4 COLLATE utf8mb4_bin ENGINE=InnoDB"}


def _create_table(name: str, columns: str) -> Statement:
    """A statement that creates a table, or does nothing where an earlier attempt did."""

    def sql(connection: Connection, qualify: QualifyName) -> str:
        dialect = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
        return f"CREATE TABLE IF NOT EXISTS {qualify(name)} ({columns.format(**_TYPES[dialect])}){_OPTIONS.get(dialect, '')}"

    return Statement(sql=sql, done=lambda _connection, _qualify: False)


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
)
"""All steps. The first one leads from :data:`FIRST_VERSION` to the next version."""


def current_version() -> int:
    """Return the version of the tables that this program reads and writes."""
    return FIRST_VERSION + len(STEPS)


def steps_after(version: int) -> dict[int, Step]:
    """Return the steps that a journal of a version lacks, by the version to which each leads."""
    numbered = enumerate(STEPS, FIRST_VERSION + 1)
    return {number: step for number, step in numbered if number > version}
