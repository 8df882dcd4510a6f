"""StoredObject columns: those of the models that are loaded, or those that a database has."""

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

__all__ = (
    "backends_of",
    "described_columns",
    "inspected_columns",
    "names_of",
    "refuse_unknown",
    "select_columns",
)


def described_columns(only: sa.MetaData | None) -> Iterator[tuple[Column, StorageBackend | None]]:
    """Yield the StoredObject columns in the order of their names, each with the backend instance that it holds."""
    everywhere = [only] if only is not None else _loaded()
    described: dict[tuple[str, str, str], tuple[Column, StorageBackend | None]] = {}
    for metadata in everywhere:
        for table in list(metadata.tables.values()):
            for column in table.columns:
                kind = _stored_object(column.type)
                name = (table.schema or "", table.name, column.name)
                if kind is None or name in described:
                    continue
                held = kind._raw_backend  # noqa: SLF001 - the property would resolve the backend, and cache it for good
                described[name] = (
                    Column(
                        table=table.name,
                        column=column.name,
                        schema=table.schema,
                        key=tuple(part.name for part in table.primary_key.columns),
                        backend=held if isinstance(held, str) else held.key,
                        multiple=kind.multiple,
                    ),
                    None if isinstance(held, str) else held,
                )
    return iter(described[name] for name in sorted(described))


def _loaded() -> list[sa.MetaData]:
    """All that there are: also where somebody called ``gc.freeze``, which hides from the collector what it froze."""
    frozen = gc.get_freeze_count() > 0
    if frozen:
        gc.unfreeze()
    found = [each for each in gc.get_objects() if isinstance(each, sa.MetaData)]
    if frozen:
        gc.freeze()
    return found


def _stored_object(kind: object) -> StoredObject | None:
    """Return the StoredObject that a column's type is, or wraps."""
    while isinstance(kind, sa.TypeDecorator):
        if isinstance(kind, StoredObject):
            return kind
        kind = kind.impl_instance
    return None


def backends_of(held: Iterable[StorageBackend | None]) -> dict[str, StorageBackend]:
    """Return the registered backends, and those that a column holds and no registry knows."""
    found = {backend.key: backend for backend in held if backend is not None}
    return found | {key: storages.get_backend(key) for key in storages.registered_backends()}


def names_of(column: Column) -> set[str]:
    """What a person may call a column."""
    return {str(column), f"{column.table}.{column.column}"}


def refuse_unknown(asked: Iterable[str], known: Sequence[Column]) -> None:
    """See that each name is that of a known column.

    Raises:
        ConfigurationError: one is not.
    """
    for name in asked:
        if not any(name in names_of(column) for column in known):
            raise ConfigurationError(
                f"--columns {name}: no such StoredObject column; there is {', '.join(map(str, known))}"
            )


def inspected_columns(engine: AnyEngine, columns: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of these names, as the database has them.

    Raises:
        ConfigurationError: it has no such table or column, or the table no primary key.
        SQLAlchemyError: it cannot be reached.
    """

    def read(connection: sa.Connection) -> tuple[Column, ...]:
        inspector = sa.inspect(connection)
        if not columns:
            raise ConfigurationError('no column is named: say columns = ["table.column"] in the configuration')
        return tuple(_inspected_column(inspector, name) for name in dict.fromkeys(columns))

    if isinstance(engine, AsyncEngine):

        async def read_async() -> tuple[Column, ...]:
            async with engine.connect() as connection:
                try:
                    return await connection.run_sync(read)
                finally:
                    await connection.invalidate()  # its socket belongs to this short-lived event loop

        return asyncio.run(read_async())
    with engine.connect() as connection:
        return read(connection)


def _inspected_column(inspector: sa.Inspector, name: str) -> Column:
    owner, _, column = name.rpartition(".")
    schema, _, table = owner.rpartition(".")
    if not table or not column:
        raise ConfigurationError(f"column {name!r}: write it as table.column or schema.table.column")
    where = schema or None
    if not inspector.has_table(table, schema=where):
        raise ConfigurationError(f"column {name!r}: the database has no table {owner!r}")
    there = [each["name"] for each in inspector.get_columns(table, schema=where)]
    if column not in there:
        raise ConfigurationError(f"column {name!r}: the table has no such column; it has {', '.join(there)}")
    key = tuple(inspector.get_pk_constraint(table, schema=where)["constrained_columns"])
    if not key:
        raise ConfigurationError(
            f"column {name!r}: the table has no primary key, so its rows cannot be told apart: give it one"
        )
    return Column(table=table, column=column, schema=where, key=key)


def select_columns(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """The columns that ``--column`` names, or all of them.

    Raises:
        ConfigurationError: no such column.
    """
    if not names:
        return tuple(columns)
    known = {str(column): column for column in columns}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(f"no StoredObject column {', '.join(unknown)}; there is {', '.join(known)}")
    return tuple(known[name] for name in names)
