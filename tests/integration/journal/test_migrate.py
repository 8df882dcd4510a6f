"""Steps from one version of our tables to the next, with two steps that this test makes up."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from migrate_storage.core.earlier_words import OUTCOMES, RUN_STATES, STRATEGIES
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.core.proofs import EXPLANATIONS, split_proof
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal, steps
from migrate_storage.journal.migrate import migrate_tables
from migrate_storage.journal.statements import write_sql
from migrate_storage.journal.states import ObjectState, RowState
from migrate_storage.journal.steps import (
    OBJECT_STATES,
    PROOFS,
    ROW_STATES,
    Statement,
    Step,
    needed_statements,
)
from migrate_storage.journal.table_names import TableNames
from tests.support.cli.project import APPLICATION, Project, one_line_of
from tests.support.journal import earlier_versions

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
                def sql(connection, names, original=statement.sql, number=done):
                    if number == wanted:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return original(connection, names)
                object.__setattr__(statement, "sql", sql)
                done += 1
    sys.exit(main())
"""


def _is_filled(connection: sa.Connection, names: TableNames) -> bool:
    statement = f"SELECT count(*) FROM {names.qualify('run')} WHERE author IS NULL"
    return not connection.exec_driver_sql(statement).scalar_one()


BASE = steps.current_version()
"""The version of this program."""
MADE_UP = (
    *steps.STEPS,
    Step(
        summary="runs have an author",
        statements=(
            Statement(
                sql=lambda _, names: f"ALTER TABLE {names.qualify('run')} ADD COLUMN author VARCHAR(20)",
                done=lambda connection, names: names.has_column(connection, "run", "author"),
            ),
            Statement(
                sql=lambda _, names: f"UPDATE {names.qualify('run')} SET author = 'unknown' WHERE author IS NULL",
                done=_is_filled,
            ),
        ),
    ),
    Step(
        summary="leases have a host",
        statements=(
            Statement(
                sql=lambda _, names: f"ALTER TABLE {names.qualify('lease')} ADD COLUMN host VARCHAR(20)",
                done=lambda connection, names: names.has_column(connection, "lease", "host"),
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

        assert all(words in refusal() for words in ("has a lease", "1 process may act", "web 1", "1 key of a cutover"))
        journal.leases.release("somebody")
        assert "lease" not in refusal()
        phase.close()
        assert "process" not in refusal()
        entry = outbox.claim_entry("a.txt", "test", 60)
        assert entry is not None
        assert outbox.close_claimed("a.txt", entry)
        assert migrate_tables(journal.database, journal.tables)


def execute_by_hand(url: str, text: str) -> None:
    """Execute statements as a person does who pipes them into the database's own client."""
    with contextlib.closing(sa.create_engine(url).raw_connection()) as raw:
        if url.startswith("sqlite"):
            raw.driver_connection.isolation_level = None  # type: ignore[union-attr]
        cursor = raw.cursor()
        for statement in text.split(";\n")[:-1]:
            cursor.execute(statement)
        raw.commit()


@pytest.mark.usefixtures("made_up")
def test_a_person_can_run_the_statements(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal_in(database_url) as journal:
        monkeypatch.setattr(steps, "STEPS", MADE_UP[:-2])
        journal.prepare()
        monkeypatch.setattr(steps, "STEPS", MADE_UP)
        text = journal.database.transaction(lambda connection: write_sql(connection, journal.tables))
        assert text.startswith(f"BEGIN;\n-- {BASE + 1}: runs have an author\n")
        execute_by_hand(database_url, text)
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


def describe_tables(journal: Journal) -> dict[str, list[tuple[str, ...]]]:
    def describe(connection: sa.Connection) -> dict[str, list[tuple[str, ...]]]:
        inspector = sa.inspect(connection)
        return {
            table: [
                *((each["name"], _type_of(each["type"]), str(each["nullable"])) for each in inspector.get_columns(table)),
                tuple(inspector.get_pk_constraint(table)["constrained_columns"]),
                *sorted((str(each["name"]), str(each["unique"]), *map(str, each["column_names"])) for each in inspector.get_indexes(table)),
            ]
            for table in inspector.get_table_names()
        }  # fmt: skip

    def _type_of(found: sa.types.TypeEngine[object]) -> str:
        # SQLite ignores the length of a text.
        return re.sub(r"VARCHAR\(\d+\)", "VARCHAR", str(found)) if sqlite else str(found)

    sqlite = journal.database.dialect.name == "sqlite"
    return journal.database.transaction(describe)


def read_values(journal: Journal) -> dict[str, object]:
    """The values that :func:`insert_every_state` inserted, by what they are."""

    def read(connection: sa.Connection) -> dict[str, object]:
        objects, rows, run, shard, loss = (
            connection.execute(sa.select(table)).mappings().all()
            for table in (tables.object, tables.row, tables.run, tables.shard, tables.known_loss)
        )
        return {
            "objects": {
                row["source_path"]: (row["state"], row["written_by_us"], row["shard"])
                for row in objects
                if " " not in row["source_path"]
            },
            "outcomes": {row["source_path"][3:]: row["outcome"] for row in objects if row["source_path"][:3] == "as "},
            "proofs": {row["source_path"][3:]: row["evidence"] for row in objects if row["source_path"][:3] == "by "},
            "rows": {row["run"]: row["state"] for row in rows},
            "runs": {row["id"]: f"{row['way']} {row['state']}" for row in run},
            "progress": {(row["control"], row["progress"]) for row in run},
            "shard": [(row["number"], row["progress"]) for row in shard],
            "loss": [(row["path"], row["marked_by"]) for row in loss],
        }

    tables = journal.tables
    return journal.database.transaction(read)


EXPECTED = {
    "objects": {
        state: (OBJECT_STATES.get(state, state), state == "held", 7) for state in earlier_versions.STATES["object"]
    },
    "outcomes": {outcome: OUTCOMES.get(outcome, outcome) for outcome in earlier_versions.OUTCOMES},
    "proofs": {proof: PROOFS.get(proof, proof) for proof in earlier_versions.PROOFS},
    "rows": {state: ROW_STATES.get(state, state) for state in earlier_versions.STATES["row"]},
    "runs": {
        **{f"move {state}": f"move {RUN_STATES.get(state, state)}" for state in earlier_versions.RUN_STATES},
        **{f"{way} running": f"{STRATEGIES.get(way, way)} running" for way in earlier_versions.STRATEGIES},
    },
    "progress": {('{"paused": true}', '{"bytes": 3, "problems": 1, "rows_repointed": 2, "shards": 4}')},
    "shard": [(0, '{"bytes": 3, "problems": 1}')],
    "loss": [("lost", "me")],
}


@pytest.mark.parametrize("before", [1, 2])
def test_every_state_of_an_earlier_version(database_url: str, before: int) -> None:
    """The statements are interrupted at each, and continued."""
    with journal_in(database_url) as journal:
        journal.prepare()
        new = describe_tables(journal)
        journal.database.transaction(journal.tables.drop)
        journal.database.transaction(lambda connection: earlier_versions.create_tables(connection, before))
        journal.database.transaction(earlier_versions.insert_every_state)
        for number, statement in journal.database.transaction(lambda connection: _list_needed(connection, before)):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
                patch.setattr(steps, "STEPS", _interrupt_steps(number, statement))
                migrate_tables(journal.database, journal.tables)
        migrate_tables(journal.database, journal.tables)
        assert version(journal) == BASE
        journal.prepare()
        assert describe_tables(journal) == new
        assert read_values(journal) == EXPECTED


def _list_needed(connection: sa.Connection, before: int) -> list[tuple[int, Statement]]:
    """The statements that a database of a version needs, each with the index of its step."""
    pending = list(enumerate(steps.STEPS))[before - steps.FIRST_VERSION :]
    return [(number, statement) for number, step in pending for statement in needed_statements(step, connection)]


def _interrupt_steps(number: int, statement: Statement) -> tuple[Step, ...]:
    """The steps, of which one statement fails."""

    def fail(_connection: sa.Connection, _names: TableNames) -> str:
        raise ZeroDivisionError

    statements = (replace(each, sql=fail) if each is statement else each for each in steps.STEPS[number].statements)
    changed = replace(steps.STEPS[number], statements=tuple(statements))
    return (*steps.STEPS[:number], changed, *steps.STEPS[number + 1 :])


def test_a_person_can_run_the_statements_of_an_earlier_version(database_url: str) -> None:
    with journal_in(database_url) as journal:
        journal.database.transaction(lambda connection: earlier_versions.create_tables(connection, 1))
        journal.database.transaction(earlier_versions.insert_every_state)
        text = journal.database.transaction(lambda connection: write_sql(connection, journal.tables))
        assert "\n-- 3: " in text
        execute_by_hand(database_url, text)
        journal.prepare()
        assert read_values(journal) == EXPECTED


@pytest.mark.parametrize(
    ("words", "earlier", "today"),
    [
        (OBJECT_STATES, earlier_versions.STATES["object"], set(ObjectState)),
        (ROW_STATES, earlier_versions.STATES["row"], set(RowState)),
        (OUTCOMES, earlier_versions.OUTCOMES, set(OutcomeKind) - {"reverted", "kept", "in_use"}),
        (
            RUN_STATES,
            earlier_versions.RUN_STATES,
            {"running", "completed", "interrupted", "limit_reached", "failed", "planned"},
        ),
        (STRATEGIES, earlier_versions.STRATEGIES, {*Strategy, ""}),
    ],
    ids=["object", "row", "outcome", "run", "strategy"],
)
def test_each_word_has_one_new_word(words: dict[str, str], earlier: tuple[str, ...], today: set[str]) -> None:
    """No new word is an old one, so a statement that is executed twice changes a value once."""
    assert not set(words) & set(words.values())
    assert set(words) <= set(earlier)
    new = [words.get(word, word) for word in earlier]
    assert len(set(new)) == len(new)
    assert set(new) == today


def test_each_proof_has_its_tokens() -> None:
    assert not set(PROOFS) & set(PROOFS.values())
    assert set(PROOFS) <= set(earlier_versions.PROOFS)
    assert {token for proof in PROOFS.values() for token in split_proof(proof)} <= set(EXPLANATIONS)


def test_runs_of_version_1_are_resumed_reverted_and_purged(empty: Project, database_url: str) -> None:
    """Of six documents one run re-pointed two, another one two more before it was killed."""
    empty.environment["APP_DATABASE"] = database_url
    empty.write(APPLICATION)
    empty.fill(6)
    with journal_in(database_url) as journal:

        def write(connection: sa.Connection) -> None:
            earlier_versions.create_tables(connection, 1)
            for run, state, numbers in (("20250101-a", "limited", (0, 1)), ("20250101-b", "running", (2, 3))):
                earlier_versions.insert_run(connection, run, state=state)
                for number in numbers:
                    earlier_versions.repoint_document(connection, empty.directory, number, run)
            earlier_versions.intend_document(connection, empty.directory, 4, "20250101-b")

        journal.database.transaction(write)
    app = ("--app", "app")
    assert "run 'migrate-storage journal migrate'" in one_line_of(empty("runs", *app))
    ended = empty("journal", "migrate", *app)
    assert ended.returncode == 0, ended.stderr
    assert "3: " in ended.stdout

    def backends() -> list[str]:
        with sa.create_engine(database_url).connect() as connection:
            values = connection.exec_driver_sql("SELECT file FROM document ORDER BY id").scalars()
            return [(json.loads(value) if isinstance(value, str) else value)["backend"] for value in values]

    def call(*words: str) -> str:
        ended = empty(*words, *app)
        assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
        return ended.stdout

    assert backends() == ["new"] * 4 + ["old"] * 2
    assert "2 rows re-pointed" in call("status", "20250101-b")
    assert "Stopped at the limit that you set. 2 rows still name 'old'." in empty("report", "20250101-a", *app).stdout
    call("run", "--from", "old", "--to", "new")
    assert backends() == ["new"] * 6
    call("revert", "20250101-a")
    assert backends() == ["old"] * 2 + ["new"] * 4
    call("purge", "20250101-b", "--older-than", "0s", "--visible-tables-only", "--yes")
    left = sorted(path.name for path in (empty.directory / "old").rglob("*.txt"))
    assert left == ["0.txt", "1.txt", "4.txt", "5.txt"]
    call("verify", "--key", "new")
