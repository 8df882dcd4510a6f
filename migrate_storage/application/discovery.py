"""Find the databases of an application: engines and metadata."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Mapper, scoped_session, sessionmaker

from migrate_storage.core.errors import ApplicationError, ConfigurationError
from migrate_storage.core.text import one_line
from migrate_storage.database.connection import schemas_of
from migrate_storage.database.dialects import refuse_kind
from migrate_storage.database.urls import in_memory

if TYPE_CHECKING:
    from migrate_storage.database.urls import AnyEngine

__all__ = ("NamedDatabase", "choose_database", "find_databases", "iterate_subclasses")


@dataclass(frozen=True)
class NamedDatabase:
    """An engine of the application, and the name that ``--bind-key`` selects it by."""

    name: str
    engine: AnyEngine
    metadata: sa.MetaData | None = None
    #: The tables that a session maker binds to it; empty if none does.
    tables: frozenset[sa.Table] = frozenset()
    #: Other engines of the same database, by their names.
    aliases: Mapping[str, AnyEngine] = field(default_factory=dict)


def find_databases(label: str, module: ModuleType | None, target: object) -> list[NamedDatabase]:
    """Return the databases of an object, or else of its module's attributes."""
    try:
        databases = [] if target is module else list(_yield_databases(target, "default"))
        if not databases and module is not None:
            for name, value in list(vars(module).items()):
                databases.extend(_yield_databases(value, name))
    except ApplicationError:
        raise
    except ConfigurationError as error:
        raise ApplicationError(f"{label}: {error}") from None
    except Exception as error:  # noqa: BLE001 - making the engine runs the application's own code
        raise ApplicationError(f"{label}: its engine cannot be made: {one_line(error)}") from None
    return _merge_same_databases(databases)


def _yield_databases(value: object, name: str) -> Iterator[NamedDatabase]:
    """Yield the databases of one object; none for an object of an unknown type."""
    from advanced_alchemy.config import SQLAlchemyAsyncConfig, SQLAlchemySyncConfig

    match value:
        case type() | ModuleType():
            return
        case sa.Engine() | AsyncEngine():
            yield NamedDatabase(name, value)
        case sessionmaker() | async_sessionmaker():
            yield from _yield_databases(value.kw.get("bind"), name)
            yield from _yield_bound_databases(value.kw.get("binds") or {}, name)
        case scoped_session():
            yield from _yield_databases(value.session_factory, name)
        case SQLAlchemySyncConfig() | SQLAlchemyAsyncConfig():
            if value.connection_string and value.engine_instance is None:
                refuse_kind(sa.make_url(value.connection_string))
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
    elif library == "advanced_alchemy" and hasattr(value, "sqlalchemy_config"):  # the one for Sanic
        yield from _yield_databases(list(value.sqlalchemy_config), name)
    elif _is_instance(value, "litestar", "Litestar"):
        for plugin in value.plugins:  # type: ignore[attr-defined]
            if type(plugin).__module__.startswith("advanced_alchemy."):
                yield from _yield_databases(plugin, name)
    elif _is_instance(value, "starlette.applications", "Starlette"):
        yield from _yield_databases(getattr(value.state, "advanced_alchemy", None), name)  # type: ignore[attr-defined]
    elif _is_instance(value, "flask", "Flask"):
        yield from _yield_databases(value.extensions.get("advanced_alchemy"), name)  # type: ignore[attr-defined]
    elif _is_instance(value, "sanic", "Sanic"):
        for extension in _list_sanic_extensions(value):
            yield from _yield_databases(extension, name)


def _list_sanic_extensions(application: object) -> list[object]:
    """Return the extensions of advanced-alchemy that a Sanic application has, or gets when it starts."""
    registry = getattr(getattr(sys.modules.get("sanic_ext"), "Extend", None), "_pre_registry", ())
    started = getattr(getattr(application, "_ext", None), "extensions", ())
    return [each for each in (*registry, *started) if getattr(each, "_app", None) is application]


def _yield_bound_databases(binds: Mapping[Any, Any], name: str) -> Iterator[NamedDatabase]:
    """Yield the databases of ``binds``, each with its tables: the nearest class in the order of inheritance decides."""
    bound: dict[sa.Table, AnyEngine] = {key: engine for key, engine in binds.items() if isinstance(key, sa.Table)}
    classes = {getattr(key, "class_", key): engine for key, engine in binds.items() if not isinstance(key, sa.Table)}
    for mapped in {each for key in classes for each in iterate_subclasses(key)}:
        mapper: object = sa.inspect(mapped, raiseerr=False)
        if isinstance(mapper, Mapper):
            engine = next(classes[base] for base in mapped.__mro__ if base in classes)
            bound.update((table, engine) for table in mapper.tables if isinstance(table, sa.Table))
    for key, engine in binds.items():
        label = getattr(getattr(key, "class_", key), "__name__", None) or getattr(key, "name", "")
        tables = frozenset(table for table, of in bound.items() if of is engine)
        yield NamedDatabase(f"{name}.{label}", engine, tables=tables)


def iterate_subclasses(of: type[Any]) -> Iterator[type[Any]]:
    """Yield a class and all classes that derive from it."""
    yield of
    for each in of.__subclasses__():
        yield from iterate_subclasses(each)


def _is_instance(value: object, module: str, name: str) -> bool:
    """Whether an object is of a framework's class, without importing it."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _merge_same_databases(databases: Iterable[NamedDatabase]) -> list[NamedDatabase]:
    """Keep one engine for each database and name, and one without a name of its own; a synchronous one if there is one."""
    kept: dict[object, NamedDatabase] = {}
    for database in databases:
        before = kept.get(place := _locate(database.engine))
        if before is None:
            kept[place] = database
            continue
        better = isinstance(before.engine, AsyncEngine) and isinstance(database.engine, sa.Engine)
        named = min((before, database), key=lambda each: "." in each.name) if not better else database
        kept[place] = replace(
            named,
            engine=database.engine if better else before.engine,
            metadata=named.metadata or before.metadata or database.metadata,
            tables=before.tables | database.tables,
            aliases={**before.aliases, before.name: before.engine, database.name: database.engine},
        )
    return list(kept.values())


def _locate(engine: AnyEngine) -> Hashable:
    """What two engines have in common if they reach the same tables."""
    url = engine.url
    if in_memory(url):
        return id(engine)
    schemas = tuple(sorted(schemas_of(engine).items(), key=repr))
    where = (url.query.get("options"), url.query.get("unix_socket"), url.query.get("host"))
    return url.get_backend_name(), url.host, url.port, url.database, repr(where), schemas


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
            if bind_key in database.aliases:
                return replace(database, name=bind_key, engine=database.aliases[bind_key])
        raise ApplicationError(f"--bind-key {bind_key}: {label} has only {names}")
    if len(databases) > 1:
        raise ApplicationError(f"{label} has {len(databases)} databases ({names}): name one with --bind-key")
    return databases[0]
