"""Steps from one version of our tables to the next, with two steps that this test makes up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal, steps
from migrate_storage.journal.migrate import migrate_tables
from migrate_storage.journal.statements import write_sql
from migrate_storage.journal.steps import QualifyName, Statement, Step
from tests.support.cli.project import APPLICATION, Project, one_line_of

CRASH = """
    import os, signal, sys
    from migrate_storage.__main__ import main
    from migrate_storage.journal import steps
    from tests.integration.journal.test_migrate import MADE_UP

    steps.STEPS = MADE_UP
    if sys.argv[1] == "--kill-before":
        wanted, done = int(sys.argv[2]), 0
        del sys.argv[1:3]
        for step in MADE_UP[-2:]:
            for statement in step.statements:
                def sql(connection, qualify, original=statement.sql, number=done):
                    if number == wanted:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return original(connection, qualify)
                object.__setattr__(statement, "sql", sql)
                done += 1
    sys.exit(main())
"""


def _has_column(connection: sa.Connection, table: str, column: str) -> bool:
    return column in {each["name"] for each in sa.inspect(connection).get_columns(table)}


def _is_filled(connection: sa.Connection, qualify: QualifyName) -> bool:
    statement = f"SELECT count(*) FROM {qualify('run')} WHERE author IS NULL"
    return not connection.exec_driver_sql(statement).scalar_one()


BASE = steps.current_version()
"""The version of this program."""
MADE_UP = (
    *steps.STEPS,
    Step(
        summary="runs have an author",
        statements=(
            Statement(
                sql=lambda _, qualify: f"ALTER TABLE {qualify('run')} ADD COLUMN author VARCHAR(20)",
                done=lambda connection, _: _has_column(connection, "migrate_storage_run", "author"),
            ),
            Statement(
                sql=lambda _, qualify: f"UPDATE {qualify('run')} SET author = 'unknown' WHERE author IS NULL",
                done=_is_filled,
            ),
        ),
    ),
    Step(
        summary="leases have a host",
        statements=(
            Statement(
                sql=lambda _, qualify: f"ALTER TABLE {qualify('lease')} ADD COLUMN host VARCHAR(20)",
                done=lambda connection, _: _has_column(connection, "migrate_storage_lease", "host"),
            ),
        ),
    ),
)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program is two versions later."""
    monkeypatch.setattr(steps, "STEPS", MADE_UP)


@contextlib.contextmanager
def journal_in(url: str) -> Iterator[Journal]:
    with contextlib.closing(Database(url)) as database:
        database.connect()
        yield Journal(database)


def version(journal: Journal) -> int | None:
    return journal.database.transaction(journal.tables.read_version)


def test_a_new_journal_has_the_current_version_and_needs_no_step(database_url: str) -> None:
    with journal_in(database_url) as journal:
        with pytest.raises(ConfigurationError, match="no journal here"):
            migrate_tables(journal.database, journal.tables)
        journal.prepare()
        assert version(journal) == steps.current_version()
        assert migrate_tables(journal.database, journal.tables) == []


def test_older_and_newer_tables_are_refused_by_every_call(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal_in(database_url) as journal:
        journal.prepare()
        monkeypatch.setattr(steps, "STEPS", MADE_UP)
        for call in (journal.prepare, journal.runs.latest, Outbox(journal.database, "files").prepare):
            with pytest.raises(
                ConfigurationError,
                match=f"of version {BASE}, and this program needs version {BASE + 2}: run .*journal migrate",
            ):
                call()
        assert migrate_tables(journal.database, journal.tables) == [
            f"{BASE + 1}: runs have an author",
            f"{BASE + 2}: leases have a host",
        ]
        assert version(journal) == BASE + 2
        journal.prepare()
        assert migrate_tables(journal.database, journal.tables) == []
        monkeypatch.setattr(steps, "STEPS", steps.STEPS[:-2])
        for call in (journal.prepare, lambda: migrate_tables(journal.database, journal.tables)):
            with pytest.raises(
                ConfigurationError, match=f"of version {BASE + 2}, and this program knows them up to version {BASE}"
            ):
                call()


def test_refused_while_the_tables_are_in_use(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal_in(database_url) as journal:
        journal.prepare()
        outbox = Outbox(journal.database, "files")
        phase = SharedPhase(outbox, name="web 1")
        assert journal.leases.acquire("somebody", seconds=300) == 0.0
        outbox.request_repair("a.txt", Side.SOURCE)
        with phase.acquire(writing=False) or phase.renew(writing=False):
            pass
        monkeypatch.setattr(steps, "STEPS", MADE_UP)

        def refusal() -> str:
            with pytest.raises(ConfigurationError, match="the journal's tables are in use") as refused:
                migrate_tables(journal.database, journal.tables)
            assert version(journal) == BASE
            return str(refused.value)

        assert all(
            words in refusal() for words in ("holds a lease", "1 process may act", "web 1", "1 key of a cutover")
        )
        journal.leases.release("somebody")
        assert "lease" not in refusal()
        phase.close()
        assert "process" not in refusal()
        entry = outbox.claim_entry("a.txt", "test", 60)
        assert entry is not None
        assert outbox.close_claimed("a.txt", entry)
        assert migrate_tables(journal.database, journal.tables)


@pytest.mark.usefixtures("made_up")
def test_a_person_can_run_the_statements(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal_in(database_url) as journal:
        monkeypatch.setattr(steps, "STEPS", MADE_UP[:-2])
        journal.prepare()
        monkeypatch.setattr(steps, "STEPS", MADE_UP)
        text = journal.database.transaction(lambda connection: write_sql(connection, journal.tables))
        assert text.startswith(f"BEGIN;\n-- {BASE + 1}: runs have an author\n")
        with contextlib.closing(sa.create_engine(database_url).raw_connection()) as raw:
            if database_url.startswith("sqlite"):
                raw.driver_connection.isolation_level = None  # type: ignore[union-attr]
            cursor = raw.cursor()
            for statement in text.split(";\n")[:-1]:
                cursor.execute(statement)
            raw.commit()
        assert version(journal) == BASE + 2
        journal.prepare()


def test_killed_and_continued(empty: Project, database_url: str) -> None:
    """A migration that is killed three times ends; then the run before it is resumed, reverted and purged."""
    empty.environment["APP_DATABASE"] = database_url
    empty.write(APPLICATION)
    empty.write(CRASH, "next_version.py")
    empty.fill(4)
    keys = ("--app", "app", "--from", "old", "--to", "new")
    assert empty("run", *keys, "--limit", "2").returncode == 4
    # Before the first statement, within a step, and between two steps.
    for statement in range(3):
        killed = empty.python("next_version.py", "--kill-before", str(statement), "journal", "migrate", "--app", "app")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        half = database_url.startswith("mysql") and statement
        line = one_line_of(empty.python("next_version.py", "runs", "--app", "app"))
        assert (f"on their way to version {BASE + 1}" if half else f"of version {BASE}") in line
        assert "run 'migrate-storage journal migrate'" in line
    if half:
        # Half a step stays there, and the earlier program does not touch the tables either.
        assert f"up to version {BASE}" in one_line_of(empty("runs", "--app", "app"))
    ended = empty.python("next_version.py", "journal", "migrate", "--app", "app")
    assert ended.returncode == 0, ended.stderr
    assert f"{BASE + 2}: leases have a host" in ended.stdout
    assert f"up to version {BASE}" in one_line_of(empty("runs", "--app", "app"))
    purge = ("purge", "--app", "app", "--older-than", "0s", "--visible-tables-only", "--yes")
    for words in (("run", *keys), ("revert", "--app", "app"), ("run", *keys), purge):
        ended = empty.python("next_version.py", *words)
        assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
    assert not list((empty.directory / "old").rglob("*.txt"))


def make_older(journal: Journal) -> None:
    """Give a journal the tables and the number of version 1."""

    def change(connection: sa.Connection) -> None:
        for table in (journal.tables.rekey, journal.tables.rekey_object):
            table.drop(connection)
        connection.execute(sa.update(journal.tables.version).values(version=1))

    journal.database.transaction(change)


def describe_tables(journal: Journal) -> dict[str, list[tuple[str, str, bool]]]:
    def describe(connection: sa.Connection) -> dict[str, list[tuple[str, str, bool]]]:
        inspector = sa.inspect(connection)
        return {
            table.name: [
                *((each["name"], str(each["type"]), bool(each["nullable"])) for each in inspector.get_columns(table.name)),
                (",".join(inspector.get_pk_constraint(table.name)["constrained_columns"]), "", False),
            ]
            for table in journal.tables.metadata.sorted_tables
        }  # fmt: skip

    return journal.database.transaction(describe)


def test_the_steps_make_the_tables_that_a_new_journal_has(database_url: str) -> None:
    with journal_in(database_url) as journal:
        journal.prepare()
        made = describe_tables(journal)
        make_older(journal)
        assert len(migrate_tables(journal.database, journal.tables)) == BASE - 1
        assert version(journal) == BASE
        journal.prepare()
        assert describe_tables(journal) == made
