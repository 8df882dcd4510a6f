"""The two front doors: an application's own code, or a database with its columns named.

Both give an :class:`Application`: the engine, the StoredObject columns, and the storage backends that rows may name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import sqlalchemy as sa
from advanced_alchemy.types.file_object import StorageBackend

from migrate_storage.application.columns import (
    backends_of,
    described_columns,
    inspected_columns,
    names_of,
    refuse_unknown,
)
from migrate_storage.application.discovery import choose, databases_of
from migrate_storage.application.importing import enter_lifespan, import_target
from migrate_storage.application.lifespan import Lifespan
from migrate_storage.core.errors import ApplicationError, ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.core.text import one_line
from migrate_storage.database.urls import AnyEngine, engine_from_url

__all__ = (
    "Application",
    "from_database",
    "load_application",
    "running_application",
    "take_application",
)


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a migration needs to know of an application."""

    #: The engine of the application's database; nothing of the engine's own session or listeners is used.
    engine: AnyEngine
    #: The StoredObject columns, in order of their names; never empty.
    columns: tuple[Column, ...]
    #: Storage backends by the key that rows name them with.
    backends: Mapping[str, StorageBackend]
    #: The application's lifespan, while it is held open.
    lifespan: Lifespan | None = None

    def close(self) -> None:
        """Leave the application's lifespan, where one was entered."""
        if self.lifespan is not None:
            self.lifespan.exit()


def load_application(
    spec: str,
    *,
    bind_key: str | None = None,
    database: str | None = None,
    lifespan: bool = False,
    columns: Sequence[str] = (),
) -> Application:
    """Import an application and take its engine, StoredObject columns and storage backends.

    Args:
        spec: ``module`` or ``module:name``. The name may be dotted, and may be a callable without arguments, a
            Litestar, FastAPI, Starlette or Flask application, an advanced-alchemy configuration or plugin, a list of
            them, an engine or a session maker. Without a name the module's attributes are looked through.
        bind_key: Which database, where the application holds several: an advanced-alchemy bind key, or the name of
            the module's attribute.
        database: URL to connect to instead of the application's own engine.
        lifespan: Enter the application's ASGI lifespan, and hold it until :meth:`Application.close`.
        columns: ``table.column`` or ``schema.table.column`` names to narrow to; empty means all.

    Returns:
        The application, with at least one column.

    Raises:
        ApplicationError: when the application cannot be imported, or lacks an engine, a column or a primary key.
        ConfigurationError: when ``database`` is no usable URL.
    """
    module, target = import_target(spec)
    return _taken(
        f"--app {spec}", module, target, bind_key=bind_key, database=database, lifespan=lifespan, columns=columns
    )


def take_application(
    target: object,
    *,
    bind_key: str | None = None,
    database: str | None = None,
    lifespan: bool = False,
    columns: Sequence[str] = (),
) -> Application:
    """Take engine, StoredObject columns and storage backends of an application that is imported already.

    Args:
        target: What :func:`load_application` may name, but for a module.
        bind_key: As there, as are the others.
        database: URL to connect to instead of the application's own engine.
        lifespan: Enter the application's ASGI lifespan, and hold it until :meth:`Application.close`.
        columns: Names to narrow to; empty means all.

    Raises:
        ApplicationError: when the application lacks an engine, a column or a primary key.
        ConfigurationError: when ``database`` is no usable URL.
    """
    return _taken(
        "this application", None, target, bind_key=bind_key, database=database, lifespan=lifespan, columns=columns
    )


def _taken(
    label: str,
    module: ModuleType | None,
    target: object,
    *,
    bind_key: str | None,
    database: str | None,
    lifespan: bool,
    columns: Sequence[str],
) -> Application:
    entered = enter_lifespan(label, target) if lifespan else None
    try:
        found = databases_of(label, module, target) if database is None or bind_key is not None else []
        chosen = None if not found and database is not None else choose(label, found, bind_key)
        engine = engine_from_url(database) if database is not None else chosen.engine if chosen else None
        assert engine is not None
        several = len({id(each.metadata) for each in found if each.metadata is not None}) > 1
        described = list(described_columns(chosen.metadata if several and chosen else None))
        if not described:
            raise ApplicationError(
                f"{label}: no StoredObject column is in any model that importing it declared: "
                "name a module that imports the models"
            )
        kept = [each for each in described if not columns or names_of(each[0]) & set(columns)]
        refuse_unknown(columns, [each[0] for each in described])
        for column, _ in kept:
            if not column.key:
                raise ApplicationError(
                    f"{column}: the table has no primary key, so its rows cannot be told apart: "
                    "give it one, or leave the column out with --columns"
                )
        return Application(
            engine=engine,
            columns=tuple(column for column, _ in kept),
            backends=backends_of(backend for _, backend in described),
            lifespan=entered,
        )
    except BaseException:
        if entered is not None:
            entered.exit()
        raise


def running_application(engine: AnyEngine, metadata: sa.MetaData | None = None) -> Application:
    """Take the application that this process is: the models that are loaded, the backends that are registered.

    Args:
        engine: the engine of its database.
        metadata: of the models in that database, where the process has models in several; ``None`` means all.

    Raises:
        ApplicationError: no model with a StoredObject column is loaded.
    """
    described = list(described_columns(metadata))
    if not described:
        raise ApplicationError("no StoredObject column is in any model loaded here: import the models first")
    return Application(
        engine=engine,
        columns=tuple(column for column, _ in described),
        backends=backends_of(backend for _, backend in described),
    )


def from_database(url: str, columns: Sequence[str], backends: Mapping[str, StorageBackend]) -> Application:
    """Take columns from a database by reflection, without any application code.

    Args:
        url: SQLAlchemy URL of the database; async drivers will do.
        columns: ``table.column`` or ``schema.table.column`` names.
        backends: The storage backends, by the key that rows name them with.

    Returns:
        The application. Whether a column holds single files or lists is left to its values.

    Raises:
        ConfigurationError: when the database cannot be reached, or holds no such table, column or primary key.
    """
    engine = engine_from_url(url)
    try:
        found = inspected_columns(engine, tuple(columns))
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"cannot connect to {engine.url.render_as_string()}: {one_line(_cause(error))}: check the database URL"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot connect to {engine.url.render_as_string()}: {one_line(error)}: check the database URL"
        ) from None
    return Application(engine=engine, columns=found, backends=dict(backends))


def _cause(error: BaseException) -> BaseException:
    """The driver's own error says it without SQLAlchemy's background link."""
    return getattr(error, "orig", None) or error
