"""Stores for two ends, and what is needed to run a sync in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.ends import backend_at
from migrate_storage.events import Event
from migrate_storage.filters import Filters
from migrate_storage.options import SyncOptions
from migrate_storage.report import Report
from migrate_storage.sync import Sync

Run = Callable[..., Report]


@pytest.fixture
def events() -> list[Event]:
    """What the syncs of this test told."""
    return []


@pytest.fixture
def sync(tmp_path: Path, events: list[Event]) -> Run:
    """Sync two stores, each a text or a backend, with a journal of the test's own."""

    def run(source: Any, destination: Any, *, application: Any = None, filters: Any = None, **options: Any) -> Report:
        journal = None if application is not None else f"sqlite:///{tmp_path / 'journal.db'}"
        values = {"journal": journal, "concurrency": 8, **options}
        return Sync(
            end(source), end(destination), SyncOptions(**values), application=application,
            filters=filters or Filters(), listener=events.append,
        ).run()  # fmt: skip

    return run


def end(store: Any, **options: Any) -> Any:
    """A backend as it is, or what a text names."""
    return backend_at(str(store), {}, options, "FROM") if isinstance(store, str | Path) else store
