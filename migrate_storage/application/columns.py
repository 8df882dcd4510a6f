"""Columns of files: StoredObject columns of loaded models, and others by name in a database."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from migrate_storage.application.discovery import iterate_subclasses
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database, schemas_of

if TYPE_CHECKING:
    from advanced_alchemy.types.file_object import StorageBackend, StoredObject

    from migrate_storage.database.urls import AnyEngine

__all__ = ("backends_of", "described_columns", "find_tables", "inspected_columns", "names_of", "select_columns")


def _are_file_objects_loaded() -> bool:
    """Whether a model can have a StoredObject, or a backend be registered. To import them here takes half a second."""
    return "advanced_alchemy.types.file_object" in sys.modules


def find_tables(only: sa.MetaData | None = None) -> list[sa.Table]:
    """Return the tables of one metadata, or of all that is loaded."""
    return [
        table
        for metadata in ([only] if only is not None else _find_metadata())
        for table in list(metadata.tables.values())
    ]


def described_columns(tables: Iterable[sa.Table], engine: AnyEngine) -> Iterator[tuple[Column, StorageBackend | None]]:
    """Yield the StoredObject columns by name, each with its own backend if any.

    Args:
        tables: Of one database.
        engine: The database's. A type may be a StoredObject for some databases only, and the engine may translate the
            names of schemas.
    """
    if not _are_file_objects_loaded():
        return iter(())
    described: dict[tuple[str, str, str], tuple[Column, StorageBackend | None]] = {}
    schemas = schemas_of(engine)
    for table in tables:
        for column in table.columns:
            name = (table.schema or "", table.name, column.name)
            if name not in described and (found := _unwrap_stored_object(column.type, engine.dialect)) is not None:
                known, backend = _describe_column(table, column.name, *found)
                described[name] = replace(known, schema=schemas.get(table.schema, table.schema)), backend
    return iter(described[name] for name in sorted(described))


def _describe_column(
    table: sa.Table, name: str, kind: StoredObject, array: bool
) -> tuple[Column, StorageBackend | None]:
    backend = kind._raw_backend  # noqa: SLF001 - the property would resolve the backend and cache it
    column = Column(
        table=table.name, column=name, schema=table.schema, key=tuple(part.name for part in table.primary_key.columns),
        backend=backend if isinstance(backend, str) else backend.key, multiple=kind.multiple or array,
    )  # fmt: skip
    return column, None if isinstance(backend, str) else backend


def _find_metadata() -> list[sa.MetaData]:
    """Return every MetaData object. ``gc.freeze`` hides objects from the collector."""
    frozen = gc.get_freeze_count() > 0
    if frozen:
        gc.unfreeze()
    kinds = frozenset(iterate_subclasses(sa.MetaData))  # isinstance() takes twice the time of a search by type
    metadata = [item for item in gc.get_objects() if type(item) in kinds]
    if frozen:
        gc.freeze()
    return metadata


def _unwrap_stored_object(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> tuple[StoredObject, bool] | None:
    """Return the StoredObject that a column's type is or wraps in this database, and whether it is in an array."""
    from advanced_alchemy.types.file_object import StoredObject

    array = False
    while True:
        kind = kind.dialect_impl(dialect)
        if isinstance(kind, StoredObject):
            return kind, array
        if isinstance(kind, sa.TypeDecorator):
            kind = kind.impl_instance
        elif isinstance(kind, sa.ARRAY):
            kind, array = kind.item_type, True
        else:
            return None


def backends_of(backends: Iterable[StorageBackend | None]) -> dict[str, StorageBackend]:
    """Return the registered backends, and the unregistered ones of columns, by key."""
    if not _are_file_objects_loaded():
        return {}
    from advanced_alchemy.types.file_object import storages

    unregistered = {backend.key: backend for backend in backends if backend is not None}
    return unregistered | {key: storages.get_backend(key) for key in storages.registered_backends()}


def select_columns(
    columns: Sequence[Column], names: Sequence[str], *, also: Mapping[str, Column] | None = None
) -> tuple[Column, ...]:
    """Return the columns with these names, in this order, or all without names.

    Args:
        columns: The columns to select from.
        names: ``table.column`` or ``schema.table.column``.
        also: Further names of some of them.

    Raises:
        ConfigurationError: a name is that of no column.
    """
    if not names:
        return tuple(columns)
    known = {**names_of(columns), **(also or {})}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            f"no StoredObject column {', '.join(unknown)}; there is {', '.join(map(str, columns))}"
        )
    return tuple(dict.fromkeys(known[name] for name in names))


def names_of(columns: Iterable[Column]) -> dict[str, Column]:
    """Return the columns by each of their names: with the schema, and without it where only one schema has it."""
    columns = list(columns)
    bare = Counter(f"{column.table}.{column.column}" for column in columns)
    short = {f"{each.table}.{each.column}": each for each in columns if bare[f"{each.table}.{each.column}"] == 1}
    return short | {str(column): column for column in columns}


def inspected_columns(engine: AnyEngine, names: Sequence[str], *, there: Sequence[Column] = ()) -> dict[str, Column]:
    """Return columns by their names in the schema of a database. No model need declare them.

    Args:
        engine: The engine of the database.
        names: ``table.column`` or ``schema.table.column``, in any case where the database has one such name only.
        there: The columns of models. A name in another spelling means one of them.

    Raises:
        ConfigurationError: a table or column does not exist, or the table has no primary key, or the database cannot
            be reached.
    """
    if not names:
        return {}

    def inspect(connection: sa.Connection) -> dict[str, Column]:
        inspector, found = sa.inspect(connection), dict[str, Column]()
        for name in names:
            found[name] = _inspect_column(inspector, database, name, [*there, *found.values()])
        return found

    with contextlib.closing(Database(engine)) as database:
        database.connect()
        try:
            return database.transaction(inspect)
        except ConfigurationError as error:
            models = f"; models declare {', '.join(map(str, there))}" if there else ""
            raise ConfigurationError(f"column {error}{models}") from None


def _inspect_column(inspector: sa.Inspector, database: Database, name: str, there: Sequence[Column]) -> Column:
    schema, table, column, kind = _find_column(inspector, database, name)
    home = inspector.default_schema_name or ""
    for known in there:
        parts = (known.schema or home, known.table, known.column), (schema or home, table, column)
        one, other = (tuple(map(database.dialect.catalog.fold_name, names)) for names in parts)
        if one == other:
            return known
    if isinstance(kind, sa.LargeBinary):
        raise ConfigurationError(f"{name!r}: the column is of type {kind}: files are found in JSON and text only")
    key = tuple(inspector.get_pk_constraint(table, schema=schema)["constrained_columns"])
    if not key:
        raise ConfigurationError(
            f"{name!r}: the table has no primary key, so its rows cannot be distinguished: give it one"
        )
    return Column(table=table, column=column, schema=schema, key=key, nested=True)


def _find_column(
    inspector: sa.Inspector, database: Database, name: str
) -> tuple[str | None, str, str, sa.types.TypeEngine[Any]]:
    """Return schema, table and column as the database spells them, and the column's type. Each part may have dots."""
    owner, _, _ = name.rpartition(".")
    problem = ""
    schemas = inspector.get_schema_names()
    for schema, table, column in _split_name(name):
        where = database.schema(schema)
        if where is not None and (where := _spell(where, schemas)) is None:
            continue
        tables = [*inspector.get_table_names(where), *inspector.get_view_names(where)]
        spelled = _spell(table, tables) or (table if inspector.has_table(table, schema=where) else None)
        if spelled is None:
            continue
        types = {described["name"]: described["type"] for described in inspector.get_columns(spelled, schema=where)}
        found = _spell(column, list(types))
        if found is not None:
            return where, spelled, found, types[found]
        problem = problem or f"{name!r}: the table has no such column; it has {', '.join(types)}"
    if not owner:
        raise ConfigurationError(f"{name!r}: write it as table.column or schema.table.column")
    raise ConfigurationError(problem or f"{name!r}: the database has no table {owner!r}")


def _split_name(name: str) -> Iterator[tuple[str | None, str, str]]:
    """Yield what a name may mean, as schema, table and column: first the usual, then with dots in the parts."""
    parts = name.split(".")
    for column in range(len(parts) - 1, 0, -1):
        for table in range(column - 1, -1, -1):
            yield ".".join(parts[:table]) or None, ".".join(parts[table:column]), ".".join(parts[column:])


def _spell(name: str, there: Collection[str]) -> str | None:
    """Return a name as the database spells it; ``None`` where it has none, or several that differ in case only."""
    if name in there:
        return name
    alike = [each for each in there if each.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None
