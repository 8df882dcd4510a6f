"""Find the databases of an application: engines and metadata."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

import sqlalchemy as sa
from advanced_alchemy.config import SQLAlchemyAsyncConfig, SQLAlchemySyncConfig
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import scoped_session, sessionmaker

from migrate_storage.core.errors import ApplicationError
from migrate_storage.core.text import one_line
from migrate_storage.database.urls import AnyEngine, in_memory

__all__ = ("choose_database", "find_databases")


@dataclass(frozen=True)
class NamedDatabase:
    """An engine of the application, and the name that ``--bind-key`` selects it by."""

    name: str
    engine: AnyEngine
    metadata: sa.MetaData | None = None


def find_databases(label: str, module: ModuleType | None, target: object) -> list[NamedDatabase]:
    """Return the databases of an object, or else of its module's attributes."""
    try:
        databases = [] if target is module else list(_yield_databases(target, "default"))
        if not databases and module is not None:
            for name, value in list(vars(module).items()):
                databases.extend(_yield_databases(value, name))
    except ApplicationError:
        raise
    except Exception as error:  # noqa: BLE001 - making the engine runs the application's own code
        raise ApplicationError(f"{label}: its engine cannot be made: {one_line(error)}") from None
    return _merge_same_databases(databases)


def _yield_databases(value: object, name: str) -> Iterator[NamedDatabase]:
    """Yield the databases of one object; none for an object of an unknown type."""
    match value:
        case type() | ModuleType():
            return
        case sa.Engine() | AsyncEngine():
            yield NamedDatabase(name, value)
        case sessionmaker() | async_sessionmaker():
            yield from _yield_databases(value.kw.get("bind"), name)
        case scoped_session():
            yield from _yield_databases(value.session_factory, name)
        case SQLAlchemySyncConfig() | SQLAlchemyAsyncConfig():
            yield NamedDatabase(value.bind_key or name, value.get_engine(), value.metadata)
        case list() | tuple():
            for item in value:
                yield from _yield_databases(item, "default")
        case _:
            yield from _yield_framework_databases(value, name)


def _yield_framework_databases(value: object, name: str) -> Iterator[NamedDatabase]:
    """Yield the databases of an advanced-alchemy extension or its application."""
    library = type(value).__module__.partition(".")[0]
    if library == "advanced_alchemy" and hasattr(value, "config"):
        yield from _yield_databases(list(value.config), name)
    elif _is_instance(value, "litestar", "Litestar"):
        for plugin in value.plugins:  # type: ignore[attr-defined]
            if type(plugin).__module__.startswith("advanced_alchemy."):
                yield from _yield_databases(plugin, name)
    elif _is_instance(value, "starlette.applications", "Starlette"):
        yield from _yield_databases(getattr(value.state, "advanced_alchemy", None), name)  # type: ignore[attr-defined]
    elif _is_instance(value, "flask", "Flask"):
        yield from _yield_databases(value.extensions.get("advanced_alchemy"), name)  # type: ignore[attr-defined]


def _is_instance(value: object, module: str, name: str) -> bool:
    """Whether an object is of a framework's class, without importing it."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _merge_same_databases(databases: Iterable[NamedDatabase]) -> list[NamedDatabase]:
    """Keep one engine for each database, a synchronous one if there is one."""
    kept: dict[object, NamedDatabase] = {}
    for database in databases:
        url = database.engine.url
        place = id(database.engine) if in_memory(url) else (url.get_backend_name(), url.host, url.port, url.database)
        before = kept.get(place)
        if before is None or (isinstance(before.engine, AsyncEngine) and isinstance(database.engine, sa.Engine)):
            kept[place] = database
    return list(kept.values())


def choose_database(label: str, databases: list[NamedDatabase], bind_key: str | None) -> NamedDatabase:
    """Return the one database to use.

    Args:
        label: The name of the application in messages.
        databases: Its databases.
        bind_key: The name of a database; ``None`` if the application has only one.

    Raises:
        ApplicationError: there is no database, or there are several and none of them is named.
    """
    names = ", ".join(sorted(database.name for database in databases))
    if not databases:
        raise ApplicationError(
            f"{label}: no engine found: name an application, an advanced-alchemy configuration or an engine "
            "(module:name), or pass --database URL"
        )
    if bind_key is not None:
        for database in databases:
            if database.name == bind_key:
                return database
        raise ApplicationError(f"--bind-key {bind_key}: {label} holds only {names}")
    if len(databases) > 1:
        raise ApplicationError(f"{label} holds {len(databases)} databases ({names}): say which with --bind-key")
    return databases[0]
