"""What a probe showed of a store counts for an hour of the database's clock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
import sqlalchemy as sa

from migrate_storage.core.model import Capabilities
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal

FOUND = Capabilities(create_only=True, listing=True, large_etag_is_of_parts=True)
STORE = "a" * 64


@pytest.fixture
def journal(database_url: str) -> Iterator[Journal]:
    with contextlib.closing(Database(database_url)) as database:
        database.connect()
        journal = Journal(database)
        journal.prepare()
        yield journal


def write(journal: Journal, **values: object) -> None:
    table = journal.tables.capability
    journal.database.transaction(lambda connection: connection.execute(sa.update(table).values(**values)))


def test_what_was_saved_is_found_until_the_hour_is_over(journal: Journal) -> None:
    assert journal.capabilities.find(STORE) is None
    journal.capabilities.save(STORE, FOUND)
    assert journal.capabilities.find(STORE) == FOUND
    assert journal.capabilities.find("b" * 64) is None
    at = journal.tables.capability.c.at
    write(journal, at=at - 3500)
    assert journal.capabilities.find(STORE) == FOUND
    write(journal, at=at - 101)
    assert journal.capabilities.find(STORE) is None
    # A later probe counts from then on.
    journal.capabilities.save(STORE, Capabilities())
    assert journal.capabilities.find(STORE) == Capabilities()


def test_a_time_that_is_still_to_come_is_of_another_clock(journal: Journal) -> None:
    journal.capabilities.save(STORE, FOUND)
    write(journal, at=journal.tables.capability.c.at + 1000)
    assert journal.capabilities.find(STORE) is None


def test_what_a_request_contradicted_is_forgotten(journal: Journal) -> None:
    journal.capabilities.forget(STORE)
    journal.capabilities.save(STORE, FOUND)
    journal.capabilities.forget(STORE)
    assert journal.capabilities.find(STORE) is None


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"create_only": true}', json.dumps({**asdict(FOUND), "listing": "yes"}),
     json.dumps({**asdict(FOUND), "of_later": True})],
)  # fmt: skip
def test_what_another_program_wrote_there_is_no_capability(journal: Journal, text: str) -> None:
    journal.capabilities.save(STORE, FOUND)
    write(journal, found=text)
    assert journal.capabilities.find(STORE) is None


def test_a_record_is_pruned_like_those_of_old_runs(journal: Journal) -> None:
    journal.capabilities.save(STORE, FOUND)
    now = journal.database.time()
    assert journal.database.transaction(lambda connection: journal.tables.prune(connection, now - 3600)) == 0
    assert journal.capabilities.find(STORE) == FOUND
    assert journal.database.transaction(lambda connection: journal.tables.prune(connection, now + 3600)) == 1
    assert journal.capabilities.find(STORE) is None
