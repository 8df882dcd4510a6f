"""Worlds of the usual kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli.project import empty, pattern, project  # noqa: F401 - fixtures of the command line
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@pytest.fixture
def world(tmp_path: Path, sqlite_url: str) -> Iterator[World]:
    """Everything on this machine: SQLite and two folders."""
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    yield world
    world.close()


@pytest.fixture
def all_worlds(tmp_path: Path, any_database_url: str) -> Iterator[World]:
    """The same as :func:`worlds`, on DuckDB too."""
    old, new = places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build()
    world = World(any_database_url, old, new)
    yield world
    world.close()


@pytest.fixture
def worlds(tmp_path: Path, database_url: str) -> Iterator[World]:
    """Rows on each database in turn, files in two folders."""
    world = World(database_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    yield world
    world.close()
