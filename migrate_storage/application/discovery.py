"""Engines: made from a URL, or found in what an application holds."""

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

__all__ = (
    "choose",
    "databases_of",
)


@dataclass(frozen=True)
class HeldDatabase:
    """One engine that the application holds, with the name that ``--bind-key`` picks it by."""

    name: str
    engine: AnyEngine
    metadata: sa.MetaData | None = None


def databases_of(label: str, module: ModuleType | None, target: object) -> list[HeldDatabase]:
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


def _held(value: object, name: str) -> Iterator[HeldDatabase]:
    """Yield the databases that one object stands for; none for anything that is no front door."""
    match value:
        case type() | ModuleType():
            return
        case sa.Engine() | AsyncEngine():
            yield HeldDatabase(name, value)
        case sessionmaker() | async_sessionmaker():
            yield from _held(value.kw.get("bind"), name)
        case scoped_session():
            yield from _held(value.session_factory, name)
        case SQLAlchemySyncConfig() | SQLAlchemyAsyncConfig():
            yield HeldDatabase(value.bind_key or name, value.get_engine(), value.metadata)
        case list() | tuple():
            for each in value:
                yield from _held(each, "default")
        case _:
            yield from _held_by_framework(value, name)


def _held_by_framework(value: object, name: str) -> Iterator[HeldDatabase]:
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


def _distinct(found: Iterable[HeldDatabase]) -> list[HeldDatabase]:
    """Keep one of those that reach the same database, the synchronous one where there are both."""
    kept: dict[object, HeldDatabase] = {}
    for each in found:
        url = each.engine.url
        place = id(each.engine) if in_memory(url) else (url.get_backend_name(), url.host, url.port, url.database)
        before = kept.get(place)
        if before is None or (isinstance(before.engine, AsyncEngine) and isinstance(each.engine, sa.Engine)):
            kept[place] = each
    return list(kept.values())


def choose(label: str, found: list[HeldDatabase], bind_key: str | None) -> HeldDatabase:
    """The one database that is meant.

    Args:
        label: what a person calls the application.
        found: those that it holds.
        bind_key: the name of one; ``None`` where there must be one only.

    Raises:
        ApplicationError: there is none, or several and none of them is named.
    """
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
