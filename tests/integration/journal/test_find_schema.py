"""A journal is used where it is, and a database has one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.journal.find_schema import find_schema
from migrate_storage.journal.schema import Tables


@contextlib.contextmanager
def connected(url: str) -> Iterator[Database]:
    with contextlib.closing(Database(url)) as database:
        database.connect()
        yield database


def begin_run(database: Database, schema: str | None) -> None:
    journal = Journal(database, schema)
    journal.prepare()
    values = {
        "source": "old",
        "destination": "new",
        "way": "rekey",
        "state": "completed",
        "started": 1.0,
        "updated": 1.0,
    }
    journal.runs.begin(RunRecord(id=f"run in {schema}", kind="run", **values))  # type: ignore[arg-type]


def test_a_journal_is_used_where_it_is(postgres_url: str) -> None:
    with connected(postgres_url) as database:
        assert find_schema(database, None) is None
        assert find_schema(database, "media") == "media"
        begin_run(database, "media")
        assert find_schema(database, None) == "media"
        assert find_schema(database, "media") == "media"
        assert [run.id for run in Journal.find(database).runs.latest()] == ["run in media"]


def test_a_journal_behind_the_first_schema_of_the_search_path(postgres_url: str) -> None:
    """It is found without the schema's name, although the default schema is another one."""
    with connected(postgres_url) as database:
        begin_run(database, None)
        database.transaction(lambda connection: connection.execute(sa.schema.CreateSchema("app")))
    with connected(
        f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-csearch_path%3Dapp,public"
    ) as database:
        assert [run.id for run in Journal.find(database).runs.latest()] == ["run in None"]


def test_an_outbox_is_no_journal(postgres_url: str) -> None:
    """Its tables stay in the schema of the application, and the journal may be in another."""
    with connected(postgres_url) as database:
        Outbox(database, "files", "app").prepare()
        Outbox(database, "files").prepare()
        assert find_schema(database, None) is None
        assert find_schema(database, "media") == "media"
        begin_run(database, "media")
        assert find_schema(database, None) == "media"


def test_a_second_journal_is_refused(postgres_url: str) -> None:
    with connected(postgres_url) as database:
        begin_run(database, None)
        with pytest.raises(
            ConfigurationError, match="has its journal in schema 'public', so a second one in schema 'media'"
        ):
            Journal.find(database, "media")
        assert Journal.find(database, "public").tables.schema == "public"
        begin_run(database, "media")
        for named in (None, "media", "public"):
            with pytest.raises(
                ConfigurationError, match="two journals, in schema 'media' and in schema 'public'.*journal drop"
            ):
                Journal.find(database, named)
        database.transaction(Tables("media").drop)
        assert find_schema(database, None) is None


def test_a_journal_that_this_role_may_not_read(postgres_url: str) -> None:
    """It may have runs: where nothing is named, a second one is refused. Another tenant's is no matter by name."""
    with connected(postgres_url) as database:
        begin_run(database, "tenant")
        Journal(database).prepare()
        role = "reader_" + sa.make_url(postgres_url).database
        for statement in (f"CREATE ROLE {role} LOGIN", f"GRANT SELECT, INSERT ON migrate_storage_run TO {role}"):
            database.transaction(lambda connection, statement=statement: connection.exec_driver_sql(statement))  # type: ignore[misc]
        with connected(str(sa.make_url(postgres_url).set(username=role).render_as_string(False))) as own:
            assert find_schema(own, None) == "tenant"
            own.transaction(lambda connection: Journal(own).runs and None)
            assert find_schema(own, "public") == "public"
        database.transaction(lambda connection: connection.exec_driver_sql(f"DROP OWNED BY {role}"))
        database.transaction(lambda connection: connection.exec_driver_sql(f"DROP ROLE {role}"))


def test_gone_tables_are_named(database_url: str) -> None:
    """A table that was dropped by itself is not made anew and empty without a word."""
    with connected(database_url) as database:
        journal = Journal(database)
        journal.prepare()
        database.transaction(lambda connection: journal.tables.object.drop(connection))
        for call in (journal.prepare, journal.runs.latest, Outbox(database, "files").prepare):
            with pytest.raises(
                ConfigurationError, match="migrate_storage_object is gone .* 'migrate-storage journal create'"
            ):
                call()
        database.transaction(lambda connection: journal.tables.create(connection, again=True))
        journal.prepare()
