"""The :class:`Application`: engine, StoredObject columns and storage backends.

It comes from an application's own code, or from a database and the names of its columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from migrate_storage.application.binds import divide_tables
from migrate_storage.application.columns import (
    backends_of,
    described_columns,
    find_tables,
    inspected_columns,
    names_of,
    select_columns,
)
from migrate_storage.application.discovery import NamedDatabase, choose_database, find_databases
from migrate_storage.application.importing import enter_lifespan, import_target
from migrate_storage.application.lifespan import Lifespan
from migrate_storage.core.errors import ApplicationError, ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database.urls import engine_from_url

if TYPE_CHECKING:
    from advanced_alchemy.types.file_object import StorageBackend

    from migrate_storage.database.urls import AnyEngine

__all__ = ("Application", "from_database", "load_application", "running_application")


@dataclass(frozen=True)
class OtherDatabase:
    """A database of the application that was not chosen."""

    name: str
    engine: AnyEngine
    columns: tuple[Column, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.columns))})"


@dataclass(frozen=True, kw_only=True)
class Application:
    """The parts of an application that a migration uses."""

    #: The engine of the application's database. The application's sessions and event listeners are not used.
    engine: AnyEngine
    #: The columns of files: those of models in order of their names, then those that were named; never empty.
    columns: tuple[Column, ...]
    #: Storage backends by their keys.
    backends: Mapping[str, StorageBackend]
    #: The application's lifespan, if :func:`load_application` entered it.
    lifespan: Lifespan | None = None
    #: The name of the database, where the application has several with files.
    name: str = ""
    #: The other databases of the application with columns of files.
    elsewhere: tuple[OtherDatabase, ...] = ()
    #: Leave rows that row level security hides as they are, instead of refusing to work without them.
    visible_rows_only: bool = False
    #: All columns of the application, where ``columns`` are only some of them.
    all_columns: tuple[Column, ...] = ()
    #: Columns by further names that were given for them.
    names: Mapping[str, Column] = field(default_factory=dict)

    def select(self, names: Sequence[str]) -> tuple[Column, ...]:
        """Return the columns with these names, see :func:`.select_columns`."""
        return select_columns(self.columns, names, also=self.names)

    @property
    def known_columns(self) -> tuple[Column, ...]:
        """All columns of the application, those included that were not selected."""
        return self.all_columns or self.columns

    def close(self) -> None:
        """Leave the application's lifespan, if it was entered."""
        if self.lifespan is not None:
            self.lifespan.exit()


def load_application(
    target: object,
    *,
    bind_key: str | None = None,
    database: str | None = None,
    lifespan: bool = False,
    columns: Sequence[str] = (),
    json_columns: Sequence[str] = (),
) -> Application:
    """Import an application and read its engine, columns and backends.

    Args:
        target: ``module`` or ``module:name``. The name may be dotted. It names a callable without arguments, a
            Litestar, FastAPI, Starlette, Flask or Sanic application, an advanced-alchemy configuration or plugin, a list of
            them, an engine or a session maker. Without a name the attributes of the module are searched. Instead of
            a string, ``target`` may be such an object.
        bind_key: The database, if the application has several: an advanced-alchemy bind key, or the name of the
            module's attribute.
        database: URL to connect to instead of the application's own engine.
        lifespan: Enter the application's ASGI lifespan, until :meth:`Application.close`.
        columns: Names to select, ``table.column`` or ``schema.table.column``; empty selects all.
        json_columns: Names of columns that no model declares; files are found at any depth of their JSON. A name in
            ``columns`` that no model has is one of them.

    Returns:
        The application, with at least one column.

    Raises:
        ApplicationError: when the application cannot be imported, or lacks an engine, a column or a primary key.
        ConfigurationError: when ``database`` is not a usable URL, or a named column does not exist.
    """
    label = f"--app {target}" if isinstance(target, str) else "this application"
    module, named = import_target(target) if isinstance(target, str) else (None, target)
    with contextlib.ExitStack() as undo:
        entered = enter_lifespan(label, named) if lifespan else None
        if entered is not None:
            undo.callback(entered.exit)
        databases = find_databases(label, module, named) if database is None or bind_key is not None else []
        chosen = None if not databases and database is not None else choose_database(label, databases, bind_key)
        engine = engine_from_url(database) if database is not None else chosen.engine if chosen else None
        assert engine is not None
        chosen = chosen or NamedDatabase("--database", engine)
        divided = divide_tables(_find_file_tables(engine), chosen, databases or [chosen])
        described = list(described_columns(divided.pop(chosen.name), engine))
        known = [column for column, _ in described]
        others = [name for name in (*json_columns, *columns) if name not in names_of(known)]
        elsewhere = tuple(
            OtherDatabase(
                each.name,
                each.engine,
                tuple(column for column, _ in described_columns(divided[each.name], each.engine)),
            )
            for each in databases
            if divided.get(each.name)
        )
        _refuse_elsewhere(others, elsewhere)
        inspected = inspected_columns(engine, others, there=known)
        known += [column for column in dict.fromkeys(inspected.values()) if column not in known]
        application = Application(
            engine=engine,
            columns=_narrow_columns(label, known, columns, inspected),
            backends=backends_of(backend for _, backend in described),
            lifespan=entered,
            name=chosen.name if elsewhere else "",
            elsewhere=elsewhere,
            all_columns=tuple(known),
            names=inspected,
        )
        undo.pop_all()
    return application


def _find_file_tables(engine: AnyEngine) -> list[sa.Table]:
    return [table for table in find_tables() if any(described_columns([table], engine))]


def _refuse_elsewhere(names: Sequence[str], elsewhere: Sequence[OtherDatabase]) -> None:
    for other in elsewhere:
        for name in names:
            if name in names_of(other.columns):
                raise ApplicationError(
                    f"--columns {name}: that column is in the database {other.name}: --bind-key {other.name}"
                )


def _narrow_columns(
    label: str, known: list[Column], names: Sequence[str], inspected: Mapping[str, Column]
) -> tuple[Column, ...]:
    if not known:
        raise ApplicationError(
            f"{label}: no StoredObject column is in any model that importing it declared: "
            "name a module that imports the models, or the columns with --columns"
        )
    selected = sorted(select_columns(known, names, also=inspected), key=known.index)
    for column in selected:
        if not column.key:
            raise ApplicationError(
                f"{column}: the table has no primary key, so its rows cannot be distinguished: "
                "give it one, or leave the column out with --columns"
            )
    return tuple(selected)


def running_application(engine: AnyEngine, metadata: sa.MetaData | None = None) -> Application:
    """Return this process's application: its models and registered backends.

    Args:
        engine: The engine of its database.
        metadata: The metadata of the models in that database, if the process has several; ``None`` means all.

    Raises:
        ApplicationError: no model with a StoredObject column is loaded.
    """
    described = list(described_columns(find_tables(metadata), engine))
    if not described:
        raise ApplicationError("no StoredObject column is in any model loaded here: import the models first")
    return Application(
        engine=engine,
        columns=tuple(column for column, _ in described),
        backends=backends_of(backend for _, backend in described),
    )


def from_database(url: str, columns: Sequence[str], backends: Mapping[str, StorageBackend]) -> Application:
    """Read columns from a database by reflection, without application code.

    Args:
        url: SQLAlchemy URL of the database, also of an async driver.
        columns: ``table.column`` or ``schema.table.column`` names.
        backends: Storage backends by their keys.

    Returns:
        The application. Files are found at any depth of the columns' JSON.

    Raises:
        ConfigurationError: when the database cannot be reached, or a table, column or primary key does not exist.
    """
    if not columns:
        raise ConfigurationError('no column is named: set columns = ["table.column"] in the configuration')
    engine = engine_from_url(url)
    found = inspected_columns(engine, columns)
    return Application(
        engine=engine, columns=tuple(dict.fromkeys(found.values())), backends=dict(backends), names=found
    )
