"""StoredObject columns, found in loaded models or in a database."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa
from advanced_alchemy.types.file_object import StorageBackend, StoredObject, storages
from sqlalchemy.ext.asyncio import AsyncEngine

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database.urls import AnyEngine

__all__ = ("backends_of", "described_columns", "inspected_columns", "select_columns")


def described_columns(only: sa.MetaData | None) -> Iterator[tuple[Column, StorageBackend | None]]:
    """Yield the StoredObject columns by name, each with its own backend if any."""
    described: dict[tuple[str, str, str], tuple[Column, StorageBackend | None]] = {}
    for metadata in [only] if only is not None else _find_metadata():
        for table in list(metadata.tables.values()):
            for column in table.columns:
                name = (table.schema or "", table.name, column.name)
                if name not in described and (kind := _unwrap_stored_object(column.type)) is not None:
                    described[name] = _describe_column(table, column.name, kind)
    return iter(described[name] for name in sorted(described))


def _describe_column(table: sa.Table, name: str, kind: StoredObject) -> tuple[Column, StorageBackend | None]:
    backend = kind._raw_backend  # noqa: SLF001 - the property would resolve the backend and cache it
    column = Column(
        table=table.name, column=name, schema=table.schema, key=tuple(part.name for part in table.primary_key.columns),
        backend=backend if isinstance(backend, str) else backend.key, multiple=kind.multiple,
    )  # fmt: skip
    return column, None if isinstance(backend, str) else backend


def _find_metadata() -> list[sa.MetaData]:
    """Return every MetaData object. ``gc.freeze`` hides objects from the collector."""
    frozen = gc.get_freeze_count() > 0
    if frozen:
        gc.unfreeze()
    metadata = [item for item in gc.get_objects() if isinstance(item, sa.MetaData)]
    if frozen:
        gc.freeze()
    return metadata


def _unwrap_stored_object(kind: object) -> StoredObject | None:
    """Return the StoredObject that a column's type is, or wraps."""
    while isinstance(kind, sa.TypeDecorator):
        if isinstance(kind, StoredObject):
            return kind
        kind = kind.impl_instance
    return None


def backends_of(backends: Iterable[StorageBackend | None]) -> dict[str, StorageBackend]:
    """Return the registered backends, and the unregistered ones of columns, by key."""
    unregistered = {backend.key: backend for backend in backends if backend is not None}
    return unregistered | {key: storages.get_backend(key) for key in storages.registered_backends()}


def select_columns(columns: Sequence[Column], names: Sequence[str], *, flag: str = "") -> tuple[Column, ...]:
    """Return the columns with these names, in this order, or all without names.

    Args:
        columns: The columns to select from.
        names: ``table.column`` or ``schema.table.column``.
        flag: The option that named them, for the message.

    Raises:
        ConfigurationError: a name is that of no column.
    """
    if not names:
        return tuple(columns)
    known = {name: column for column in columns for name in (f"{column.table}.{column.column}", str(column))}
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(map(str, columns))
        raise ConfigurationError(
            f"{flag} {unknown[0]}: no such StoredObject column; there is {there}"
            if flag
            else f"no StoredObject column {', '.join(unknown)}; there is {there}"
        )
    return tuple(dict.fromkeys(known[name] for name in names))


def inspected_columns(engine: AnyEngine, columns: tuple[str, ...]) -> tuple[Column, ...]:
    """Return the columns with these names from the schema of a database.

    Raises:
        ConfigurationError: a table or column does not exist, or the table has no primary key.
        SQLAlchemyError: the database cannot be reached.
    """

    def read(connection: sa.Connection) -> tuple[Column, ...]:
        inspector = sa.inspect(connection)
        if not columns:
            raise ConfigurationError('no column is named: say columns = ["table.column"] in the configuration')
        return tuple(_inspect_column(inspector, name) for name in dict.fromkeys(columns))

    if isinstance(engine, AsyncEngine):

        async def read_async() -> tuple[Column, ...]:
            async with engine.connect() as connection:
                try:
                    return await connection.run_sync(read)
                finally:
                    await connection.invalidate()  # its socket belongs to this event loop, which ends now

        return asyncio.run(read_async())
    with engine.connect() as connection:
        return read(connection)


def _inspect_column(inspector: sa.Inspector, name: str) -> Column:
    owner, _, column = name.rpartition(".")
    schema, _, table = owner.rpartition(".")
    if not table or not column:
        raise ConfigurationError(f"column {name!r}: write it as table.column or schema.table.column")
    where = schema or None
    if not inspector.has_table(table, schema=where):
        raise ConfigurationError(f"column {name!r}: the database has no table {owner!r}")
    names = [described["name"] for described in inspector.get_columns(table, schema=where)]
    if column not in names:
        raise ConfigurationError(f"column {name!r}: the table has no such column; it has {', '.join(names)}")
    key = tuple(inspector.get_pk_constraint(table, schema=where)["constrained_columns"])
    if not key:
        raise ConfigurationError(
            f"column {name!r}: the table has no primary key, so its rows cannot be told apart: give it one"
        )
    return Column(table=table, column=column, schema=where, key=key)
