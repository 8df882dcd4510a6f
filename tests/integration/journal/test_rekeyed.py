"""Re-keyed ranges answer every question as a journal record for each row and object does."""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import SAME_OBJECT, SAME_OBJECT_LISTING, describe_proof
from migrate_storage.database.connection import Database
from migrate_storage.engine.rekey import batched, postgres
from migrate_storage.jobs.explain import explain
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run import passes
from migrate_storage.jobs.verify.job import VerifyJob, VerifyOptions
from migrate_storage.journal import Journal, object_id
from migrate_storage.journal.migrate import migrate_tables
from migrate_storage.journal.steps import STEPS
from migrate_storage.reporting import Report
from migrate_storage.reporting.statistics import figures
from migrate_storage.stores.resolved_backend import ResolvedBackend
from tests.support import services
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.servers import DatabaseServer

DATABASES = ("sqlite", "postgres", "mariadb")
KEPT = {"packed": 1, "unpacked": 1, "row by row": 10**9}
"""How the rows are recorded, and from which number of rows on they are re-keyed together."""


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-key any number of rows together, eight in a range."""
    monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 1)
    monkeypatch.setattr(batched, "REKEY_WINDOW_ROWS", 8)
    monkeypatch.setattr(postgres, "REKEY_RANGE_ROWS", 8)


@contextmanager
def world_in(database: str, folder: Path, rows: int) -> Iterator[World]:
    """Rows with even numbers, each with a file on the disk. The filenames lose the name of a folder."""
    base = folder / uuid.uuid4().hex
    old, new = places.old_local(base), places.new_local(base / "b")
    if database == "sqlite":
        with closing(World(f"sqlite:///{base}.db", old.build(), new.build())) as world:
            yield fill(world, rows)
        return
    with DatabaseServer(service=services.ensure(database)).database() as url:
        with closing(World(url, old.build(), new.build())) as world:
            yield fill(world, rows)


def fill(world: World, rows: int) -> World:
    files = world.files_at_once([f"b/docs/{n % 7}/d{n}.bin" for n in range(rows)])
    world.add(*(Document(id=2 * n, title="t", file=file) for n, file in enumerate(files, 1)))
    return world


@contextmanager
def journal_of(world: World) -> Iterator[Journal]:
    with closing(Database(world.url)) as database:
        database.connect()
        yield Journal(database)


def write(world: World, id_: int, value: dict[str, Any] | None) -> None:
    given = "CAST(:value AS JSONB)" if world.engine.dialect.name == "postgresql" else ":value"
    world.sql(
        f"UPDATE documents SET file = {given} WHERE id = :id",
        id=id_,
        value=None if value is None else json.dumps(value),
    )


def read(world: World, id_: int) -> dict[str, Any]:
    [(value,)] = world.sql("SELECT file FROM documents WHERE id = :id", id=id_)
    return dict(json.loads(value) if isinstance(value, str) else value)


def disturb(world: World, before: dict[int, dict[str, Any]]) -> None:
    """What the application does among the rows of the ranges after they were re-keyed."""
    write(world, 2, before[2])  # back to the old key, with the same file
    write(world, 4, {**read(world, 4), "filename": read(world, 100)["filename"]})  # another row's file
    with world.session() as session:
        document = session.get(Document, 6)
        assert document is not None
        document.file = world.file("b/later/6.bin")
        session.commit()
    world.sql("DELETE FROM documents WHERE id IN (8, 206)")
    write(world, 10, {**read(world, 10), "metadata": {**read(world, 10)["metadata"], "by": "the application"}})
    write(world, 12, None)
    world.add(Document(id=13, title="inserted", file=world.file("b/later/13.bin")))
    value = {**read(world, 104), "metadata": {"name": "b/docs/1/d1.bin"}}
    world.sql("DELETE FROM documents WHERE id = 104")
    world.sql("INSERT INTO documents (id, title, updated_at) SELECT 105, title, updated_at FROM documents WHERE id = 2")
    write(world, 105, value)  # a row that the run did not re-point, with a file of the range
    world.sql("INSERT INTO documents (id, title, updated_at) SELECT 8, title, updated_at FROM documents WHERE id = 2")
    write(world, 8, before[8])  # the same key and file again, under the old key


TOUCHED = ("2", "4", "6", "8", "10", "12", "13", "14", "100", "105", "208")


def told(report: Report) -> Any:
    """A report without what is another in each run."""
    counts = {kind.value: count for kind, count in report.counts.items()}
    listed = sorted((each.kind.value, str(each.source), plain(each.reason)) for each in report.problems)
    return (
        report.state,
        report.exit_code,
        counts,
        report.rows_repointed,
        report.rows_remaining,
        sorted(report.kept.items()),
        listed,
    )


def plain(line: str) -> str:
    """A line without run, time, proof and folder."""
    line = line.replace(describe_proof(SAME_OBJECT_LISTING), describe_proof(SAME_OBJECT))
    line = re.sub(r"\d{8}-\d{6}-[0-9a-f]{8}", "RUN", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", line)
    line = re.sub(r"ETag \S+", "ETag", line)
    return re.sub(r"/\S+/([0-9a-f]{32})/", "/FOLDER/", line)


def stories(world: World) -> list[list[str]]:
    return [[plain(line) for line in explain(world.application, "documents.file", [pk])] for pk in TOUCHED]


def journaled(world: World, report: Report, rows_of_all: int) -> Any:
    """What each reader of the journal is answered of a run, by filenames."""
    with journal_of(world) as journal:
        objects, rows, run = journal.objects, journal.rows, report.run
        source = ResolvedBackend(world.old)
        ids = [object_id(source.place(f"b/docs/{n % 7}/d{n}.bin"), "new") for n in range(0, rows_of_all, 37)]
        found = objects.find(ids)
        at = objects.at_destinations([record.destination for record in found.values()])
        assert {location: record.id for location, record in at.items()} == {
            record.destination: record.id for record in found.values()
        }
        sums = figures(report, journal)
        return (
            [(each.source_path, each.destination_path, each.state, each.size, each.written_by_us, each.outcome) for each in (found[id_] for id_ in ids)],
            sorted(record.source_path for batch in objects.in_states("verified", run=run) for record in batch),
            sorted(record.source_path for batch in objects.of_run(run) for record in batch),
            objects.count(run), sum(objects.count_evidence(run).values()), objects.any_in("verified"),
            [[(row["pk"], json.loads(row["old_value"]), json.loads(row["new_value"])["filename"]) for row in group] for group in rows.repointed_by([run])],
            [row["pk"] for row in rows.of_object(ids[0])], rows.of_object("0" * 32),
            rows.count_by_column(run), rows.count_repointed(run), rows.last_repointed([run]) is not None,
            sorted(row["row_id"] for batch in rows.in_state("repointed", run=run) for row in batch),
            sums.objects, sums.outcomes, sum(share.bytes for share in sums.verified_by.values()), sums.columns,
        )  # fmt: skip


def live(world: World, kept: str, ranges: int) -> list[Any]:
    """Re-key, disturb, and ask every job; return the answers."""
    answers: list[Any] = []
    before = {2 * n: value for n, value in enumerate(world.raw(), 1)}
    first = world.run()
    assert (first.state, first.exit_code, first.rows_repointed) == ("completed", 0, len(before))
    with journal_of(world) as journal:
        packed = sum(1 for _ in journal.rekeyed.rows(first.run))
        assert packed == (0 if kept == "row by row" else ranges)
        if kept == "unpacked":
            deque(journal.rekeyed.unpack_runs([first.run]))
            assert not journal.database.transaction(journal.rekeyed.any)
    answers.append(told(first))
    answers.append(journaled(world, first, len(before)))
    disturb(world, before)
    answers.append(stories(world))
    answers.append(told(VerifyJob(world.application, VerifyOptions()).run()))
    for yes in (False, True):
        options = PurgeOptions(older_than=0, yes=yes, lease_ttl=1.0, visible_tables_only=True, max_delete=10**6)
        answers.append(told(PurgeJob(world.application, options).run()))
    answers.append(told(RevertJob(world.application, RevertOptions(dry_run=True)).run()))
    answers.append(told(world.run()))
    answers.append(stories(world))
    answers.append(told(RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()))
    answers.append(stories(world))
    values = {
        id_: read(world, id_) for (id_,) in world.sql("SELECT id FROM documents WHERE file IS NOT NULL ORDER BY id")
    }
    answers.append({id_: (value["backend"], value["filename"]) for id_, value in values.items()})
    untouched = [id_ for id_ in before if str(id_) not in TOUCHED and id_ not in (104, 206)]
    assert all(values[id_] == before[id_] for id_ in untouched)
    answers.append(told(world.run()))
    answers.append(told(VerifyJob(world.application, VerifyOptions()).run()))
    return answers


@pytest.mark.parametrize(("rows", "ranges"), [(150, 4), pytest.param(2_000, 7, marks=pytest.mark.soak)])
def test_every_job_answers_as_with_a_record_for_each_row(
    database: str, rows: int, ranges: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched, "REKEY_WINDOW_ROWS", -(-rows // ranges))
    monkeypatch.setattr(postgres, "REKEY_RANGE_ROWS", -(-rows // ranges))
    found = {}
    for kept, many in KEPT.items():
        monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", many)
        with world_in(database, tmp_path.resolve(), rows) as world:
            found[kept] = live(world, kept, ranges)
    for number, (packed, unpacked, expected) in enumerate(zip(*(found[kept] for kept in KEPT), strict=True)):
        assert unpacked == packed, number
        assert packed == expected, number


def test_a_journal_of_the_version_before_goes_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 10**9)
    with world_in(database, tmp_path.resolve(), 20) as world, journal_of(world) as journal:
        assert world.run().exit_code == 0  # its rows have a record each, as those of version 1
        with world.engine.begin() as connection:
            for table in ("rekey", "rekey_object"):
                connection.exec_driver_sql(f"DROP TABLE migrate_storage_{table}")
            connection.exec_driver_sql("UPDATE migrate_storage_version SET version = 1")
        with pytest.raises(ConfigurationError, match="journal migrate"):
            world.run()
        assert len(migrate_tables(journal.database, journal.tables)) == len(STEPS)
        monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 1)
        world.add(*(Document(id=100 + n, title="t", file=world.file(f"b/later/{n}")) for n in range(9)))
        assert (world.run().rows_repointed, len(list(journal.rekeyed.rows()))) == (9, 1)
        report = RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()
        assert (report.exit_code, report.rows_repointed) == (0, 29)
        assert world.check(backend="old") == 29


@pytest.mark.usefixtures("small_ranges")
def test_prune_forgets_ranges_and_what_they_are_found_by(database: str, tmp_path: Path) -> None:
    with world_in(database, tmp_path.resolve(), 20) as world, journal_of(world) as journal:
        first = world.run()
        journal.database.transaction(
            lambda connection: journal.rekeyed.unpack_objects(connection, [next(journal.rekeyed.objects())[0].id])
        )
        assert len(list(journal.rekeyed.rows())) == 2
        before = journal.database.time() + 60
        while journal.database.transaction(lambda connection: journal.tables.prune(connection, before)):
            pass
        for table in ("row", "object", "rekey", "rekey_object"):
            assert world.sql(f"SELECT count(*) FROM migrate_storage_{table}") == [(0,)], table
        assert journal.rows.count_by_column(first.run) == []
        assert list(journal.objects.of_run(first.run)) == []


@pytest.mark.usefixtures("small_ranges")
def test_an_object_that_several_rows_name_is_counted_once(database: str, tmp_path: Path) -> None:
    """In one range, and in two."""
    with world_in(database, tmp_path.resolve(), 20) as world, journal_of(world) as journal:
        for id_ in (4, 6, 38):
            write(world, id_, read(world, 2))
        report = world.run()
        assert (report.rows_repointed, report.counts, len(list(journal.rekeyed.rows()))) == (
            20,
            {OutcomeKind.REPOINTED: 17},
            3,
        )
        records = [record for batch in journal.objects.of_run(report.run) for record in batch]
        assert len({record.id for record in records}) == len(records) == 17
        shared = next(record.id for record in records if record.source_path == "b/docs/0/d0.bin")
        assert sorted(row["pk"] for row in journal.rows.of_object(shared)) == ["[2]", "[38]", "[4]", "[6]"]
        last = records[-1].id if records[-1].id != shared else records[0].id
        journal.database.transaction(lambda connection: journal.rekeyed.unpack_objects(connection, [last]))
        assert journal.objects.find([shared])[shared].state == "verified"
        journal.objects.set_state(shared, "unreferenced")
        assert journal.objects.find([shared])[shared].state == "unreferenced"
        assert sum(journal.objects.count(report.run).values()) == 17
        assert sorted(row["pk"] for row in journal.rows.of_object(shared)) == ["[2]", "[38]", "[4]", "[6]"]
        assert journal.rows.count_repointed(report.run) == 20


def test_a_destination_that_a_range_owns_is_not_given_away(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 1)
    with world_in(database, tmp_path.resolve(), 20) as world, journal_of(world) as journal:
        world.run()
        owner = next(journal.rekeyed.objects())[3]
        other = replace(owner, id="f" * 32, source_path="b/elsewhere", state="intent", run="another")
        assert journal.objects.owned_by_others([other]) == {other.id}
        assert journal.objects.owned_by_others([other], without=[owner.id]) == set()
        assert journal.objects.record_intents([other]) == {other.id}
        assert journal.objects.find([owner.id, other.id]) == {owner.id: owner}
        assert list(journal.rekeyed.objects()) == []  # it got records of its own


NUMBERS = '{"x": [0.1000000000000000055511151231257827, 1e400, {"y": "a\\"b}{"}]}'
"""JSON that Python would write otherwise."""


def test_a_value_that_python_cannot_write_goes_back_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 1)
    with world_in("postgres", tmp_path.resolve(), 20) as world, journal_of(world) as journal:
        world.sql("UPDATE documents SET file = file || CAST(:more AS JSONB) WHERE id = 4", more=NUMBERS)
        before = world.sql("SELECT id, file\\:\\:text FROM documents ORDER BY id")
        report = world.run()
        after = world.sql("SELECT id, file\\:\\:text FROM documents ORDER BY id")
        records = [record for rows in journal.rekeyed.rows(report.run) for record in rows]
        told = [(json.loads(record["pk"])[0], record["old_value"]) for record in records]
        assert sorted(told) == before
        for record, (_, value) in zip(sorted(records, key=lambda each: json.loads(each["pk"])), after, strict=True):
            [(same,)] = world.sql(
                "SELECT CAST(:one AS JSONB) = CAST(:other AS JSONB)", one=record["new_value"], other=value
            )
            assert same


@pytest.mark.usefixtures("small_ranges")
def test_a_revert_begins_with_some_ranges_packed_and_some_not(database: str, tmp_path: Path) -> None:
    """As an earlier revert leaves them that was killed."""
    with world_in(database, tmp_path.resolve(), 20) as world, journal_of(world) as journal:
        first = world.run()
        next(journal.rekeyed.unpack_runs([first.run]))
        assert len(list(journal.rekeyed.rows())) == 2
        rehearsed = RevertJob(world.application, RevertOptions(dry_run=True)).run()
        assert (rehearsed.counts, len(list(journal.rekeyed.rows()))) == ({OutcomeKind.REVERTED: 20}, 2)
        report = RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()
        assert (report.exit_code, report.rows_repointed, list(journal.rekeyed.rows())) == (0, 20, [])
        assert world.check(backend="old") == 20
        assert [(state, count) for _, state, count in journal.rows.count_by_column(first.run)] == [("reverted", 20)]
