"""One database for all tests of a worker that only need some: each has an outbox of its own in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, event

from migrate_storage.cutover.outbox import Outbox
from migrate_storage.database.connection import Database

_backends = itertools.count()


@pytest.fixture(scope="session")
def common_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('cutover') / 'app.db'}")
    # No test of these is about a machine that loses its power.
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    database = Database(engine)
    Outbox(database, "files").prepare()
    yield database
    database.close()
    engine.dispose()


@pytest.fixture
def outbox(common_database: Database) -> Outbox:
    return Outbox(common_database, f"files{next(_backends)}")
