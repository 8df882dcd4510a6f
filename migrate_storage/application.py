"""The two front doors: an application's own code, or a database with its columns named.

Both give an :class:`Application`: the engine, the StoredObject columns, and the storage backends that rows may name.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.config import SQLAlchemyAsyncConfig, SQLAlchemySyncConfig
from advanced_alchemy.types.file_object import StorageBackend, StoredObject, storages
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from migrate_storage.errors import ApplicationError, ConfigurationError
from migrate_storage.lifespan import Lifespan
from migrate_storage.model import Column
from migrate_storage.text import masked, one_line

__all__ = (
    "Application",
    "engine_from_url",
    "from_database",
    "load_application",
    "running_application",
    "take_application",
)

AnyEngine = sa.Engine | AsyncEngine


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


@dataclass(frozen=True)
class _Database:
    """One engine that the application holds, with the name that ``--bind-key`` picks it by."""

    name: str
    engine: AnyEngine
    metadata: sa.MetaData | None = None


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
    module, target = _import(spec)
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
    entered = _enter(label, target) if lifespan else None
    try:
        found = _databases(label, module, target) if database is None or bind_key is not None else []
        chosen = None if not found and database is not None else _choose(label, found, bind_key)
        engine = engine_from_url(database) if database is not None else chosen.engine if chosen else None
        assert engine is not None
        several = len({id(each.metadata) for each in found if each.metadata is not None}) > 1
        described = list(_described_columns(chosen.metadata if several and chosen else None))
        if not described:
            raise ApplicationError(
                f"{label}: no StoredObject column is in any model that importing it declared: "
                "name a module that imports the models"
            )
        kept = [each for each in described if not columns or _names(each[0]) & set(columns)]
        _refuse_unknown(columns, [each[0] for each in described])
        for column, _ in kept:
            if not column.key:
                raise ApplicationError(
                    f"{column}: the table has no primary key, so its rows cannot be told apart: "
                    "give it one, or leave the column out with --columns"
                )
        return Application(
            engine=engine,
            columns=tuple(column for column, _ in kept),
            backends=_backends(backend for _, backend in described),
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
    described = list(_described_columns(metadata))
    if not described:
        raise ApplicationError("no StoredObject column is in any model loaded here: import the models first")
    return Application(
        engine=engine,
        columns=tuple(column for column, _ in described),
        backends=_backends(backend for _, backend in described),
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
        found = _inspected(engine, tuple(columns))
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"cannot connect to {engine.url.render_as_string()}: {one_line(_cause(error))}: check the database URL"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot connect to {engine.url.render_as_string()}: {one_line(error)}: check the database URL"
        ) from None
    return Application(engine=engine, columns=found, backends=dict(backends))


def engine_from_url(url: str) -> AnyEngine:
    """Make an engine, an async one where the URL's driver is async.

    Raises:
        ConfigurationError: when the URL cannot be parsed, or its driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(
            "the database URL cannot be parsed: it looks like postgresql+psycopg://user:password@host/name"
        ) from None
    shown = parsed.render_as_string()
    try:
        if parsed.get_dialect().is_async:
            return create_async_engine(parsed)
        return sa.create_engine(parsed)
    except sa.exc.NoSuchModuleError:
        raise ConfigurationError(f"{shown}: SQLAlchemy knows no database called {parsed.drivername!r}") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{shown}: the driver {error.name!r} is not installed: pip install it") from None
    except (sa.exc.ArgumentError, TypeError) as error:
        raise ConfigurationError(f"{shown}: {one_line(error)}") from None


def _import(spec: str) -> tuple[ModuleType, Any]:
    name, _, attribute = spec.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ApplicationError(f"--app {masked(spec)}: write it as module or module:name, such as myapp.storage:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ApplicationError(
                f"--app {spec}: there is no module {error.name!r} in {here} or on the Python path"
            ) from None
        raise ApplicationError(
            f"--app {spec}: importing it needs {error.name!r}, which is not installed here"
        ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an application may raise anything while it is imported
        raise ApplicationError(f"--app {spec}: importing it raised {one_line(error)}") from None
    target: Any = module
    for part in attribute.split(".") if attribute else ():
        try:
            target = getattr(target, part)
        except AttributeError:
            raise ApplicationError(f"--app {spec}: {name} has no {part!r}") from None
    if target is not module and _is_factory(target):
        try:
            target = target()
            if inspect.iscoroutine(target):
                target = asyncio.run(target)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an application may raise anything while it is built
            raise ApplicationError(f"--app {spec}: calling it raised {one_line(error)}") from None
    return module, target


def _is_factory(target: object) -> bool:
    return inspect.isroutine(target) or (inspect.isclass(target) and not hasattr(target, "__table__"))


def _enter(label: str, target: object) -> Lifespan:
    if isinstance(target, ModuleType):
        target = getattr(target, "app", None) or getattr(target, "application", None)
    if target is None or not callable(target):
        raise ApplicationError(f"{label}: --lifespan needs an ASGI application: name it, as in myapp.main:app")
    entered = Lifespan(target)
    entered.enter()
    return entered


def _databases(label: str, module: ModuleType | None, target: object) -> list[_Database]:
    """Return the databases of the named thing, or else of the module around it."""
    try:
        found = [] if target is module else list(_held(target, "default"))
        if not found and module is not None:
            for name, value in list(vars(module).items()):
                found.extend(_held(value, name))
    except ApplicationError:
        raise
    except Exception as error:  # noqa: BLE001 - making the engine runs the application's own code
        raise ApplicationError(f"{label}: its engine cannot be made: {one_line(error)}") from None
    return _distinct(found)


def _held(value: object, name: str) -> Iterator[_Database]:
    """Yield the databases that one object stands for; none for anything that is no front door."""
    match value:
        case type() | ModuleType():
            return
        case sa.Engine() | AsyncEngine():
            yield _Database(name, value)
        case sessionmaker() | async_sessionmaker():
            yield from _held(value.kw.get("bind"), name)
        case scoped_session():
            yield from _held(value.session_factory, name)
        case SQLAlchemySyncConfig() | SQLAlchemyAsyncConfig():
            yield _Database(value.bind_key or name, value.get_engine(), value.metadata)
        case list() | tuple():
            for each in value:
                yield from _held(each, "default")
        case _:
            yield from _held_by_framework(value, name)


def _held_by_framework(value: object, name: str) -> Iterator[_Database]:
    """Yield the databases of advanced-alchemy's extensions, in the application or by themselves."""
    home = type(value).__module__.partition(".")[0]
    if home == "advanced_alchemy" and hasattr(value, "config"):
        yield from _held(list(value.config), name)
    elif _is_a(value, "litestar", "Litestar"):
        for plugin in value.plugins:  # type: ignore[attr-defined]
            if type(plugin).__module__.startswith("advanced_alchemy."):
                yield from _held(plugin, name)
    elif _is_a(value, "starlette.applications", "Starlette"):
        yield from _held(getattr(value.state, "advanced_alchemy", None), name)  # type: ignore[attr-defined]
    elif _is_a(value, "flask", "Flask"):
        yield from _held(value.extensions.get("advanced_alchemy"), name)  # type: ignore[attr-defined]


def _is_a(value: object, module: str, name: str) -> bool:
    """Ask for a framework's type only where the application has imported the framework."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _distinct(found: Iterable[_Database]) -> list[_Database]:
    """Keep one of those that reach the same database, the synchronous one where there are both."""
    kept: dict[object, _Database] = {}
    for each in found:
        url = each.engine.url
        in_memory = url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}
        place = id(each.engine) if in_memory else (url.get_backend_name(), url.host, url.port, url.database)
        before = kept.get(place)
        if before is None or (isinstance(before.engine, AsyncEngine) and isinstance(each.engine, sa.Engine)):
            kept[place] = each
    return list(kept.values())


def _choose(label: str, found: list[_Database], bind_key: str | None) -> _Database:
    names = ", ".join(sorted(each.name for each in found))
    if not found:
        raise ApplicationError(
            f"{label}: no engine found: name an application, an advanced-alchemy configuration or an engine "
            "(module:name), or pass --database URL"
        )
    if bind_key is not None:
        for each in found:
            if each.name == bind_key:
                return each
        raise ApplicationError(f"--bind-key {bind_key}: {label} holds only {names}")
    if len(found) > 1:
        raise ApplicationError(f"{label} holds {len(found)} databases ({names}): say which with --bind-key")
    return found[0]


def _described_columns(only: sa.MetaData | None) -> Iterator[tuple[Column, StorageBackend | None]]:
    """Yield the StoredObject columns in the order of their names, each with the backend instance that it holds."""
    everywhere = [only] if only is not None else [each for each in gc.get_objects() if isinstance(each, sa.MetaData)]
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


def _stored_object(kind: object) -> StoredObject | None:
    """Return the StoredObject that a column's type is, or wraps."""
    while isinstance(kind, sa.TypeDecorator):
        if isinstance(kind, StoredObject):
            return kind
        kind = kind.impl_instance
    return None


def _backends(held: Iterable[StorageBackend | None]) -> dict[str, StorageBackend]:
    """Return the registered backends, and those that a column holds and no registry knows."""
    found = {backend.key: backend for backend in held if backend is not None}
    return found | {key: storages.get_backend(key) for key in storages.registered_backends()}


def _names(column: Column) -> set[str]:
    return {str(column), f"{column.table}.{column.column}"}


def _refuse_unknown(asked: Iterable[str], known: Sequence[Column]) -> None:
    for name in asked:
        if not any(name in _names(column) for column in known):
            raise ConfigurationError(
                f"--columns {name}: no such StoredObject column; there is {', '.join(map(str, known))}"
            )


def _cause(error: BaseException) -> BaseException:
    """The driver's own error says it without SQLAlchemy's background link."""
    return getattr(error, "orig", None) or error


def _inspected(engine: AnyEngine, columns: tuple[str, ...]) -> tuple[Column, ...]:
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
