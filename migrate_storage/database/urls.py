"""Engines from database URLs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.extras import install_advice, install_command
from migrate_storage.core.text import one_line
from migrate_storage.database.dialects import refuse_kind

if TYPE_CHECKING:
    # At run time only where an engine is asynchronous, because it imports the whole ORM.
    from sqlalchemy.ext.asyncio import AsyncEngine

    AnyEngine = sa.Engine | AsyncEngine

__all__ = ("engine_from_url", "in_memory", "is_missing_file")


def engine_from_url(url: str) -> AnyEngine:
    """Make an engine, an async one where the URL's driver is async.

    Raises:
        ConfigurationError: when the URL cannot be parsed, its database is not supported, or its driver is not
            installed.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(
            "the database URL cannot be parsed: its form is postgresql+psycopg://user:password@host/name"
        ) from None
    shown = parsed.render_as_string()
    refuse_kind(parsed)
    try:
        if parsed.get_dialect().is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            return create_async_engine(parsed)
        return sa.create_engine(parsed)
    except sa.exc.NoSuchModuleError:
        if advice := install_command(f"{parsed.drivername}_sqlalchemy"):
            raise ConfigurationError(f"{shown}: the driver of {parsed.drivername} is not installed: {advice}") from None
        raise ConfigurationError(f"{shown}: SQLAlchemy knows no database called {parsed.drivername!r}") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{shown}: the driver {error.name!r} is not installed: "
            f"{install_advice(error) or 'pip install it, or migrate-storage[postgres] or [mysql]'}"
        ) from None
    except (sa.exc.ArgumentError, TypeError) as error:
        raise ConfigurationError(f"{shown}: {one_line(error)}") from None


def in_memory(url: sa.URL) -> bool:
    """Whether the database exists only in this process, or only in one connection."""
    if url.get_backend_name() == "duckdb":
        return (url.database or ":memory:").startswith(":memory:")
    file = (url.database or "").removeprefix("file:")
    named = file.partition("?")[0] in {"", ":memory:"} or "mode=memory" in file or url.query.get("mode") == "memory"
    return url.get_backend_name() == "sqlite" and named


def is_missing_file(url: sa.URL) -> bool:
    """Whether a connection would make the database's file."""
    path = url.database or ""
    embedded = url.get_backend_name() in ("sqlite", "duckdb") and not path.startswith("file:")
    return embedded and not in_memory(url) and not Path(path).exists()
