"""Check in the database whether the key of a table is unique, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from migrate_storage.core.errors import ConfigurationError, RefusedError
from migrate_storage.core.model import RowRef
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import dump_key, load_key
from migrate_storage.database.row_statements import key_equals

__all__ = ("DoubtfulKeys", "check_row_identity", "find_doubtful_keys")

SEARCH_WINDOW_ROWS = 5_000
"""Rows whose keys one statement compares with each other."""
SENT_KEYS = 100
"""Keys that are sent back in one statement."""
_EXAMPLES = 2


@dataclass(frozen=True, slots=True)
class DoubtfulKeys:
    """Rows that share their key with others."""

    #: How many rows.
    count: int
    #: The keys of some of them.
    examples: tuple[tuple[Any, ...], ...]
    #: What is the matter with them, after "of which".
    reason: str
    #: What to do about it.
    remedy: str = "map a key that the database enforces (a primary key, or UNIQUE and NOT NULL)"


def check_row_identity(rows: FileColumn) -> None:
    """Refuse a table with rows that share a key.

    Args:
        rows: any column of the table. All its rows are searched, whatever the column is restricted to.

    Raises:
        ConfigurationError: a part of a key is NULL, several rows have one key, or a key that was read finds no row.
    """
    for found in find_doubtful_keys(rows):
        examples = " and ".join(str(RowRef(rows.column, key)) for key in found.examples)
        raise ConfigurationError(
            f"{rows.column.table} has {found.count} rows {found.reason}, such as {examples}: nothing was touched; "
            f"{found.remedy}, or leave the table out with --columns"
        )


def find_doubtful_keys(rows: FileColumn) -> Iterator[DoubtfulKeys]:
    """Search all rows of a table for keys that do not identify one row, a window at a time.

    A table is not searched where the database enforces the key, and returns such keys exactly.

    Raises:
        ConfigurationError: a key of this type cannot be recorded, compared or sorted.
    """
    table = rows.unrestricted()
    try:
        if not table.has_unique_key:
            yield from _find_null_keys(table)
            yield from _find_repeated_keys(table)
        if not all(table.database.dialect.catalog.finds_keys_of(type_) for type_ in table.key_types):
            yield from _find_unequal_keys(table)
        for row in table.sample(1):
            dump_key(row.pk)
    except RefusedError as error:
        raise ConfigurationError(
            f"the database cannot compare or return the keys of {rows.column.table}: {error.reason}; leave the table "
            "out with --columns"
        ) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"the keys of {rows.column.table} cannot be used: {error}") from error


def _find_null_keys(table: FileColumn) -> Iterator[DoubtfulKeys]:
    """Rows of which a part of the key is NULL, and that have a file."""
    missing = [or_(*(part.is_(None) for part in table.key)), table.raw.is_not(None)]
    some = table.database.transaction(
        lambda connection: connection.execute(table.select().where(*missing).limit(_EXAMPLES)).all()
    )
    if some:
        count = select(func.count()).select_from(table.table).where(*missing)
        number = int(table.database.transaction(lambda connection: connection.execute(count).scalar_one()))
        yield DoubtfulKeys(number, tuple(tuple(key) for key in some), "of which a part of the key is NULL")


def _find_repeated_keys(table: FileColumn) -> Iterator[DoubtfulKeys]:
    """Rows that have their key in common with others."""
    count, examples = 0, []

    def read(connection: Connection, part: FileColumn) -> Sequence[Any]:
        number = func.count().label("number")
        statement = part.select(number).group_by(*part.key).having(number > 1)
        return connection.execute(statement.where(*(column.is_not(None) for column in part.key))).all()

    for repeated in table.in_ranges(SEARCH_WINDOW_ROWS, read):
        count += sum(number for *_, number in repeated)
        examples += [tuple(key) for *key, _ in repeated]
    if count:
        yield DoubtfulKeys(count, tuple(examples[:_EXAMPLES]), "that have their key in common with another row")


def _find_unequal_keys(table: FileColumn) -> Iterator[DoubtfulKeys]:
    """Rows that are not found by the key that was read of them."""
    count, examples = 0, []
    for unequal in table.in_ranges(SEARCH_WINDOW_ROWS, _read_unequal):
        count += len(unequal)
        examples += unequal
    if count:
        yield DoubtfulKeys(
            count, tuple(examples[:_EXAMPLES]), "whose key does not compare equal to itself",
            "the value that the driver returns does not find the row: map a key of another type",
        )  # fmt: skip


def _read_unequal(connection: Connection, part: FileColumn) -> list[tuple[Any, ...]]:
    keys = [tuple(key) for key in connection.execute(part.select())]
    sent = [load_key(dump_key(key)) for key in keys]
    unequal = []
    for start in range(0, len(keys), SENT_KEYS):
        batch = sent[start : start + SENT_KEYS]
        if _count_rows(connection, part, batch) != len(batch):
            unequal += [keys[start + n] for n, key in enumerate(batch) if _count_rows(connection, part, [key]) != 1]
    return unequal


def _count_rows(connection: Connection, part: FileColumn, keys: Sequence[tuple[Any, ...]]) -> int:
    equal = [and_(*key_equals(part.key, key, f"key{n}_")) for n, key in enumerate(keys)]
    return int(connection.execute(select(func.count()).select_from(part.table).where(or_(*equal))).scalar_one())
