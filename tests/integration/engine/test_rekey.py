"""Re-key many rows at a time, by the database or by this process: it says what the passes would say row by row."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject

from migrate_storage.core.events import ObjectsFinished
from migrate_storage.core.model import Column, OutcomeKind
from migrate_storage.core.proofs import SAME_OBJECT, SAME_OBJECT_LISTING
from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.mysql import MySQL
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import dump_key, load_key, row_id
from migrate_storage.engine.place_proof import PlaceProof
from migrate_storage.engine.plan import choose_strategy
from migrate_storage.engine.rekey import batched, listing, postgres
from migrate_storage.engine.rekey.batched import BatchedRekey
from migrate_storage.engine.rekey.postgres import PostgresRekey
from migrate_storage.engine.rekey.prefix_rule import find_prefix_rule
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run import passes
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, RekeyRule, digest, object_id
from migrate_storage.reporting import Report
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from tests.support import services
from tests.support.engine import other_process as outside
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, Page, World
from tests.support.evidence import Evidence
from tests.support.servers import DatabaseServer, S3Server

SLUGS = (
    "plain",
    'quo"ted',
    "back\\slash",
    "tab\tand\nline",
    "\x01\x7f\x1f",
    "ümläut 漢字 🎈",
    "</script>",
    "a,b",
    "{}",
)
"""Keys of rows that JSON has its own ways with."""
FILES = 30 + 6 + 4 + 6 + len(SLUGS)
"""Files that the rows name: of documents, albums (lists), scans, one voice in six rows, pages."""
LISTS = 3
"""Rows with several files, which PostgreSQL leaves to the passes."""
RULE = ("b/media/", "", "media/")
OWN = frozenset(
    {"id", "run", "row_id", "at", "objects", "destination_id", "updated", "seconds", "evidence", "old_value", "new_value", "etag", "last_modified"}
)  # fmt: skip
"""What is another in each run and bucket."""


@pytest.fixture
def in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are enough, and make several ranges."""
    monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 1)
    monkeypatch.setattr(postgres, "REKEY_RANGE_ROWS", 7)
    monkeypatch.setattr(batched, "REKEY_WINDOW_ROWS", 7)
    monkeypatch.setattr(batched, "MIN_SPLIT_ROWS", 1)
    monkeypatch.setattr(listing, "_BATCH_OBJECTS", 5)
    monkeypatch.setattr(MySQL, "swap_rows", 3)


@dataclass(frozen=True)
class Ground:
    """Where files and rows are."""

    files: str
    database: str
    server: S3Server
    folder: Path

    @contextlib.contextmanager
    def url(self) -> Iterator[str]:
        """A fresh database."""
        if self.database == "sqlite":
            yield f"sqlite:///{self.folder / uuid.uuid4().hex}.db"
            return
        with DatabaseServer(service=services.ensure(self.database)).database() as url:
            yield url

    def registrations(self) -> tuple[str, places.Registration, places.Registration]:
        """Filenames hold a bucket, or a folder, which is to come out of them."""
        if self.files == "disk":
            bucket = f"b{uuid.uuid4().hex}"
            return bucket, places.old_local(self.folder), places.new_local(self.folder / bucket)
        bucket = self.server.new_bucket()
        return bucket, places.old_s3(self.server, None), places.new_s3(self.server, bucket)

    @contextlib.contextmanager
    def world(self) -> Iterator[World]:
        bucket, old, new = self.registrations()
        with self.url() as url:
            world = World(url, old.build(), new.build())
            world.fill(30, 4, 12, prefix=f"{bucket}/")
            world.add(*(Page(slug=slug, image=world.file(f"{bucket}/pages/{n}")) for n, slug in enumerate(SLUGS)))
            yield world
            world.close()


GROUNDS = ("s3-postgres", "disk-postgres", "s3-sqlite", "disk-mariadb")
BY_POSTGRES = pytest.mark.parametrize("ground", GROUNDS[:1], indirect=True)
BY_US = pytest.mark.parametrize("ground", GROUNDS[2:], indirect=True)


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, rclone_s3: S3Server, tmp_path: Path) -> Ground:
    files, _, database = request.param.partition("-")
    return Ground(files, database, rclone_s3, tmp_path.resolve())


@pytest.fixture
def world(ground: Ground) -> Iterator[World]:
    with ground.world() as world:
        yield world


def bucket_of(world: World) -> str:
    return str(world.raw()[0]["filename"]).partition("/")[0]


def lines(world: World, table: str) -> list[dict[str, Any]]:
    """The records of a table; those that are packed are unpacked first."""
    with closing(Database(world.url)) as database:
        database.connect()
        journal = Journal(database)
        deque(journal.rekeyed.unpack_runs([run.id for run in journal.runs.latest()]))
    names = [column["name"] for column in sa.inspect(world.engine).get_columns(f"migrate_storage_{table}")]
    return [dict(zip(names, row, strict=True)) for row in world.sql(f"SELECT * FROM migrate_storage_{table}")]


def told_in_bulk(world: World) -> tuple[int, int]:
    """Objects and rows."""
    events = [event for event in world.events if isinstance(event, ObjectsFinished)]
    return sum(event.objects for event in events), sum(event.rows for event in events)


def plain(line: dict[str, Any], bucket: str) -> dict[str, Any]:
    """A line or a file without what is another in each run."""
    dropped = OWN | ({"pk"} if line.get("table_name") == "albums" else set())  # which are named by chance
    kept = {
        name: value for name, value in line.items() if name not in dropped and not name.endswith(("_etag", "_modified"))
    }
    return dict(json.loads(json.dumps(kept).replace(bucket, "BUCKET")))


def test_rows_and_journal_are_as_they_are_row_by_row(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, in_bulk: None
) -> None:
    found: list[tuple[Report, list[Any], tuple[int, int]]] = []
    for many in (1, 10**9):
        monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", many)
        with ground.world() as world:
            bucket = bucket_of(world)
            report = world.run()
            assert (report.exit_code, report.rows_remaining, report.bytes_copied) == (0, 0, 0), report
            assert world.check(backend="new") == FILES
            held = [
                *world.raw(),
                *world.raw("notes", "scan"),
                *world.raw("pages", "image"),
                *lines(world, "row"),
                *lines(world, "object"),
            ]
            written = sorted((plain(line, bucket) for line in held if line is not None), key=str)
            found.append((report, written, told_in_bulk(world)))
    (one, written, told), (other, expected, nothing) = found
    assert written == expected
    assert (one.rows_repointed, one.counts) == (other.rows_repointed, other.counts)
    assert other.verified_by == {SAME_OBJECT: FILES - 5}
    assert one.verified_by == {SAME_OBJECT: 6, SAME_OBJECT_LISTING: FILES - 5 - 6}
    assert (told, nothing) == ((FILES - 5 - 6, one.rows_repointed - LISTS), (0, 0))


def test_names_in_the_journal_are_those_that_everybody_else_computes(world: World, in_bulk: None) -> None:
    if world.engine.dialect.name == "postgresql":
        world.sql("CREATE TABLE shots (id uuid, part bigint, file jsonb, PRIMARY KEY (id, part))")
        world.sql("INSERT INTO shots SELECT gen_random_uuid(), id + 5000000000, file FROM documents")
    else:
        world.sql("CREATE TABLE shots (id CHAR(36) NOT NULL, part bigint NOT NULL, file text, PRIMARY KEY (id, part))")
        for row in world.sql("SELECT id + 5000000000, file FROM documents"):
            world.sql("INSERT INTO shots VALUES (:id, :part, :file)", id=str(uuid.uuid4()), part=row[0], file=row[1])
    world.columns += (Column(table="shots", column="file", key=("id", "part"), backend="old", multiple=False),)
    assert world.run().exit_code == 0
    assert told_in_bulk(world)[1] > 60
    shots = [json.loads(file) if isinstance(file, str) else file for (file,) in world.sql("SELECT file FROM shots")]
    assert [file["backend"] for file in shots] == ["new"] * 30
    source = ResolvedBackend(world.old)
    objects = {line["id"]: line for line in lines(world, "object")}
    for id_, line in objects.items():
        assert id_ == object_id(source.place(line["source_path"]), "new")
        assert line["destination_id"] == digest("new", line["destination_path"])
    for line in lines(world, "row"):
        pk = load_key(line["pk"])
        assert line["pk"] == dump_key(pk)
        of = Column(table=line["table_name"], column=line["column_name"], key=(), backend="old", multiple=False)
        assert line["row_id"] == row_id(of, pk)
        assert set(json.loads(line["objects"])) <= objects.keys()
    assert {load_key(line["pk"])[0] for line in lines(world, "row") if line["table_name"] == "pages"} == set(SLUGS)


def test_it_goes_back_whole(world: World, in_bulk: None) -> None:
    before = {name: world.raw(*name) for name in (("documents", "file"), ("pages", "image"))}
    assert world.run().exit_code == 0
    assert told_in_bulk(world)[1] > 30
    assert (
        RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05), listener=world.events.append)
        .run()
        .exit_code
        == 0
    )
    assert world.check(backend="old") == FILES
    for name, values in before.items():
        assert [each["filename"] for each in world.raw(*name)] == [each["filename"] for each in values]
    world.events.clear()
    assert world.run().exit_code == 0
    assert told_in_bulk(world) == (0, 0)
    assert world.check(backend="new") == FILES


def test_what_is_not_simple_is_left_to_the_passes(world: World, in_bulk: None) -> None:
    bucket = bucket_of(world)
    odd, named = [".hidden", "a b", "ümlaut", "per%20cent", "x/.y/z", "a:b", "c~d"], ["plus+ok", "a.b/c-d_e=f@g"]
    for n, name in enumerate((*odd, *named)):
        world.add(Document(id=100 + n, title="t", file=world.file(f"{bucket}/odd/{name}")))
    world.old.delete_object(f"{bucket}/docs/2/d2.bin")
    for id_, value in ((5, {"backend": "old"}), (6, {"backend": "old", "filename": 7})):
        given = "CAST(:value AS JSONB)" if world.engine.dialect.name == "postgresql" else ":value"
        world.sql(f"UPDATE documents SET file = {given} WHERE id = :id", id=id_, value=json.dumps(value))
    report = world.run()
    assert (report.counts[OutcomeKind.MISSING], report.counts[OutcomeKind.FAILED]) == (1, 2)
    assert (report.exit_code, report.rows_remaining) == (1, 3)
    proved = {line["destination_path"].removeprefix("odd/"): line["evidence"] for line in lines(world, "object")}
    assert {name: proved[name] for name in odd} == dict.fromkeys(odd, SAME_OBJECT)
    assert {name: proved[name] for name in named} == dict.fromkeys(named, SAME_OBJECT_LISTING)


@pytest.mark.parametrize("ground", ["s3-postgres", "disk-mariadb"], indirect=True)
def test_a_row_that_somebody_holds_is_not_waited_for(world: World, in_bulk: None) -> None:
    """Its writer ends before the passes come to it: no write is lost."""
    moved = threading.Event()

    def told(event: Any) -> None:
        if isinstance(event, ObjectsFinished):
            moved.set()

    job = RunJob(world.application, RunOptions(source="old", destination="new", settle_time=0.1), told)
    running = threading.Thread(target=job.run)
    with world.engine.connect() as connection:
        connection.execute(sa.text("UPDATE documents SET title = 'mine' WHERE id = 3"))
        running.start()
        assert moved.wait(60)
        connection.commit()
    running.join(60)
    assert world.sql("SELECT title FROM documents WHERE id = 3") == [("mine",)]
    assert world.check(backend="new") == FILES


@pytest.mark.parametrize("runs", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_rows_that_are_written_meanwhile_keep_what_was_written(
    world: World, in_bulk: None, runs: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer replaces files by the old key, and changes other columns: before each statement of a re-key, and beside it."""
    stop, rounds, done, names = threading.Event(), threading.Semaphore(0), threading.Semaphore(0), random.Random(0)
    bucket, latest = bucket_of(world), dict[int, str]()

    def write() -> None:
        count = 0
        while rounds.acquire() and not stop.is_set():
            id_, count = names.randrange(1, 31), count + 1
            file = world.file(f"{bucket}/later/{count}")
            with world.engine.begin() as connection:
                connection.execute(Document.__table__.update().where(Document.id == id_).values(file=file))
            before, latest[id_] = latest.get(id_), f"later/{count}"
            # A listing is not used when the object that is checked with HEAD has gone, so the first one stays complete.
            if before is not None and told_in_bulk(world) != (0, 0):
                world.old.delete_object(f"{bucket}/{before}")
            world.sql("UPDATE documents SET title = 'touched' WHERE id = :id", id=names.randrange(1, 31))
            done.release()

    beside_last = threading.Event()

    def beside(rekey: Any, repoint: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        rounds.release(2)
        for _ in range(3 if beside_last.is_set() else 2):
            assert done.acquire(timeout=60)
        rounds.release()
        beside_last.set()
        return repoint(rekey, *arguments, **more)

    for owner, name in ((BatchedRekey, "_repoint_batch"), (PostgresRekey, "_repoint_range")):
        monkeypatch.setattr(owner, name, partialmethod(beside, getattr(owner, name)))
    writing = threading.Thread(target=write)
    writing.start()
    try:
        reports = [world.run() for _ in range(runs)]
    finally:
        stop.set()
        rounds.release()
        writing.join(60)
    assert len(latest) > 10
    assert told_in_bulk(world)[1] > 15
    assert {report.state for report in reports} == {"completed"}
    assert world.run().exit_code == 0
    assert world.check(backend="new") == FILES
    held, told = world.raw(), [json.loads(line["new_value"]) for line in lines(world, "row")]
    assert {id_: held[id_ - 1]["filename"] for id_ in latest} == latest
    assert all(value in told for value in held)
    moved = sum(report.rows_repointed for report in reports)
    evidence.record("re-keyed many rows at a time beside a writer, no write lost", runs=runs, rows_repointed=moved)


@BY_US
def test_a_row_that_changes_after_it_was_read_is_left_and_the_others_are_not(
    world: World, in_bulk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, repoint, changed = bucket_of(world), BatchedRekey._repoint_batch, []

    def later(self: BatchedRekey, of: FileColumn, ready: Any, told: Any) -> None:
        if of.column.table == "documents" and not changed and any(update.row.pk == (3,) for update in ready):
            changed.append(world.file(f"{bucket}/later"))
            with world.engine.begin() as connection:
                connection.execute(Document.__table__.update().where(Document.id == 3).values(file=changed[0]))
        repoint(self, of, ready, told)

    monkeypatch.setattr(BatchedRekey, "_repoint_batch", later)
    assert world.run().exit_code == 0
    assert world.check(backend="new") == FILES
    assert told_in_bulk(world) == (FILES - 5 - 6 - 1, len(lines(world, "row")) - LISTS - 1)
    held, told = world.raw(), [json.loads(line["new_value"]) for line in lines(world, "row")]
    assert held[2]["filename"] == "later"
    assert all(value in told for value in held)


REFUSING = {
    "postgresql": (
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER refuse BEFORE UPDATE ON documents FOR EACH ROW WHEN (OLD.id = 4) EXECUTE FUNCTION refuse()",
    ),
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE UPDATE ON documents WHEN OLD.id = 4 BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    ),
    "mysql": (
        "CREATE TRIGGER refuse BEFORE UPDATE ON documents FOR EACH ROW IF OLD.id = 4 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF",
    ),
}


def test_a_database_that_refuses_a_row_has_the_others_moved(world: World, in_bulk: None) -> None:
    for statement in REFUSING[world.engine.dialect.name]:
        world.sql(statement)
    report = world.run()
    assert (report.exit_code, report.rows_remaining, report.counts[OutcomeKind.FAILED]) == (1, 1, 1)
    assert "not this one" in report.problems[0].reason
    assert told_in_bulk(world)[1] > 20


@BY_POSTGRES
def test_a_statement_that_the_server_cancels_is_sent_for_fewer_rows(
    world: World, in_bulk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "REKEY_RANGE_ROWS", 64)
    monkeypatch.setattr(postgres, "MIN_WINDOW_ROWS", 4)
    # As a timeout does, but it is no question of time: after the tenth row of one statement.
    world.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM set_config('t.rows', CASE WHEN current_setting('t.at', true) IS NOT DISTINCT FROM statement_timestamp()\\:\\:text"
        " THEN (current_setting('t.rows')\\:\\:int + 1)\\:\\:text ELSE '1' END, true), set_config('t.at', statement_timestamp()\\:\\:text, true);"
        " IF current_setting('t.rows')\\:\\:int > 10 THEN RAISE 'too slow' USING ERRCODE = '57014'; END IF; RETURN NEW; END $$"
    )
    world.sql("CREATE TRIGGER slow BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION slow()")
    report = world.run()
    assert (report.exit_code, report.rows_remaining, world.check(backend="new")) == (0, 0, FILES)
    assert told_in_bulk(world) == (FILES - 5 - 6, report.rows_repointed - LISTS)


@pytest.mark.parametrize("ground", ["s3-postgres", "s3-sqlite"], indirect=True)
@pytest.mark.parametrize("lie", ["untagged", "out of order", "ends early", "another size", "too long"])
def test_a_listing_that_is_no_evidence_is_not_used(
    world: World, in_bulk: None, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ObstoreStore.list

    def list_(self: ObstoreStore, prefix: str, *, after: str = "") -> Iterator[Any]:
        metas = list(real(self, prefix, after=after))
        if prefix or len(metas) < 30:
            yield from metas  # what others ask
        elif lie == "untagged":
            yield from (replace(meta, e_tag=None) if n == 20 else meta for n, meta in enumerate(metas))
        elif lie == "out of order":
            yield from (metas[1], metas[0], *metas[2:])
        elif lie == "another size":
            yield from (replace(meta, size=meta.size + 1) for meta in metas)
        elif lie == "too long":
            yield from metas
            yield from (replace(metas[-1], path=f"{metas[-1].path}{n:05}") for n in range(1000))
        else:
            yield from metas[:20]
            raise ConnectionError("reset")

    monkeypatch.setattr(ObstoreStore, "list", list_)
    report = world.run()
    assert report.exit_code == 0, report
    assert told_in_bulk(world) == (0, 0)
    assert set(report.verified_by) == {SAME_OBJECT}
    assert world.check(backend="new") == FILES
    assert "migrate_storage_listing" not in sa.inspect(world.engine).get_table_names()


@BY_POSTGRES
def test_a_batch_that_came_twice_is_no_evidence(world: World, in_bulk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit of what was sent got no answer, and it was sent again."""
    send = PostgresRekey._insert_listed

    def twice(self: PostgresRekey, connection: sa.Connection, batch: Any) -> None:
        send(self, connection, batch)
        send(self, connection, batch)

    monkeypatch.setattr(PostgresRekey, "_insert_listed", twice)
    assert world.run().exit_code == 0
    assert told_in_bulk(world) == (0, 0)
    assert world.check(backend="new") == FILES


@BY_US
def test_a_commit_that_was_not_answered_is_not_written_down_twice(
    world: World, in_bulk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = Database.transaction

    def unanswered(self: Database, work: Any, **options: Any) -> Any:
        if isinstance(work, partial) and work.func.__name__ == "_write":
            transaction(self, work, **options)  # and as nobody hears of it, it is sent again
        return transaction(self, work, **options)

    monkeypatch.setattr(Database, "transaction", unanswered)
    report = world.run()
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    assert world.check(backend="new") == FILES
    held = lines(world, "row")
    assert len({line["row_id"] for line in held}) == len(held)
    assert (
        RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05), listener=world.events.append)
        .run()
        .exit_code
        == 0
    )
    assert world.check(backend="old") == FILES


@pytest.mark.parametrize("ground", ["disk-postgres", "disk-mariadb"], indirect=True)
def test_what_is_behind_a_link_is_looked_at_by_itself(world: World, ground: Ground, in_bulk: None) -> None:
    """A walk of a disk follows links; who re-keys may not, for they may lead anywhere."""
    bucket, outside = bucket_of(world), ground.folder.parent / uuid.uuid4().hex
    outside.mkdir()
    outside.joinpath("secret").write_bytes(b"not theirs")
    folder = ground.folder / bucket
    folder.joinpath("out").symlink_to(outside)
    folder.joinpath("secret").symlink_to(outside / "secret")
    folder.joinpath("same").symlink_to(folder / "docs")
    names = ("out/secret", "secret", "same/0/d0.bin")
    for n, name in enumerate(names):
        file = FileObject(backend="old", filename=f"{bucket}/{name}", content_type="text/plain")
        world.add(Document(id=100 + n, title="t", file=file))
    report = world.run()
    assert told_in_bulk(world)[1] > 30
    assert (report.exit_code, report.rows_remaining, report.counts[OutcomeKind.FAILED]) == (1, 2, 1), report
    assert all("leads out of" in outcome.reason for outcome in report.problems)
    [(value,)] = world.sql("SELECT file FROM documents WHERE id = 102")
    assert (json.loads(value) if isinstance(value, str) else value)["backend"] == "new"


@pytest.mark.parametrize("ground", ["disk-mariadb"], indirect=True)
def test_without_room_for_the_listing_it_is_done_row_by_row(
    world: World, in_bulk: None, small_disk: Callable[[int | None], None]
) -> None:
    small_disk(8_000)
    report = world.run()
    small_disk(None)
    assert (report.exit_code, report.rows_remaining) == (0, 0), report
    assert told_in_bulk(world) == (0, 0)
    assert world.check(backend="new") == FILES


@BY_POSTGRES
def test_without_the_right_to_create_a_table_it_is_done_row_by_row(world: World, in_bulk: None) -> None:
    world.run(limit=1)  # which makes the journal's tables
    role = f"r{uuid.uuid4().hex}"
    world.sql(f"CREATE ROLE {role} LOGIN")
    world.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    world.sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    world.other_engine = sa.create_engine(sa.make_url(world.url).set(username=role))
    try:
        assert world.run().exit_code == 0
        assert told_in_bulk(world) == (0, 0)
        assert world.check(backend="new") == FILES
    finally:
        world.other_engine.dispose()
        world.sql(f"DROP OWNED BY {role}")
        world.sql(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("ground", "where", "documents", "kills"),
    [
        ("s3-postgres", "migrate_storage.engine.rekey.postgres:PostgresRekey._insert_listed", 60, 3),
        ("s3-postgres", "migrate_storage.engine.rekey.postgres:PostgresRekey._repoint_range", 60, 3),
        ("s3-sqlite", "migrate_storage.engine.rekey.batched:ListedTails.find", 60, 3),
        ("s3-sqlite", "migrate_storage.engine.rekey.batched:BatchedRekey._write", 60, 3),
        *((ground, "", 60, 3) for ground in ("s3-postgres", "s3-sqlite", "disk-mariadb")),
        *(pytest.param(ground, "", 3_000, 12, marks=pytest.mark.soak) for ground in GROUNDS),
    ],
    indirect=["ground"],
)
def test_killed_in_the_middle_it_goes_on(
    ground: Ground, where: str, documents: int, kills: int, seed: int, evidence: Evidence
) -> None:
    span, moments = 10 if documents < 1_000 else 25, random.Random(seed)
    (bucket, old, new), killed = ground.registrations(), 0
    with ground.url() as url, closing(World(url, old.build(), new.build(), seed)) as world:
        world.fill(documents, 4, 12, prefix=f"{bucket}/")
        named = sum(1 for _ in world.files())
        for _ in range(kills):
            steps = moments.randrange(1, 5) if where else moments.randrange(60, 140)
            done = outside.forked(url, old, new, steps=steps, span=span, **({"of": where} if where else {}))
            assert done.returncode in (-signal.SIGKILL, 0), (done.stdout, done.stderr)
            assert world.check() == named
            killed += done.returncode != 0
        done = outside.forked(url, old, new, steps=10**6, span=span)
        assert done.returncode == 0, done.stderr
        assert outside.told(done, "report")["rows_remaining"] == 0
        assert world.check(backend="new") == named
        assert {entry.state for entry in world.journal.values()} == {"verified"}
        assert "migrate_storage_listing" not in sa.inspect(world.engine).get_table_names()
        told = [json.loads(line["new_value"]) for line in lines(world, "row") if line["table_name"] == "documents"]
        assert len(told) == documents
        assert killed > kills // 2 or documents < 1_000
        assert sorted(map(str, told)) == sorted(map(str, world.raw()))
    evidence.record(
        "re-keyed many rows at a time, killed and resumed", files=ground.files, database=ground.database, rows=documents, killed=killed
    )  # fmt: skip


def a_route(server: S3Server, old: str | None, new: str) -> Any:
    sides = ResolvedBackend(places.old_s3(server, old).build()), ResolvedBackend(places.new_s3(server, new).build())
    return choose_strategy(*sides, swap=None, proof=PlaceProof(shared=True))


def prefixes(rule: RekeyRule | None) -> tuple[str, str, str] | None:
    return None if rule is None else (rule.old, rule.new, rule.place.key)


@pytest.mark.parametrize(
    ("old", "new", "filename", "rule"),
    [
        (None, "b", "b/docs/1.bin", ("b/", "", "")),
        (None, "b/media", "b/media/docs/1.bin", RULE),
        ("b", "b", "docs/1.bin", ("", "", "")),
        ("b/media", "b/media", "1.bin", ("", "", "media/")),
        ("b/media", "b", "docs/1.bin", ("", "media/", "media/")),
        (None, "b", "b/a b", None),
        (None, "b", "other/docs/1.bin", None),
    ],
)  # fmt: skip
def test_the_rule_of_a_rekey(
    rclone_s3: S3Server, old: str | None, new: str, filename: str, rule: tuple[str, str, str] | None
) -> None:
    route = a_route(rclone_s3, old, new)
    found = find_prefix_rule(route, [filename])
    assert prefixes(found) == rule
    if found is not None:
        tail = filename[len(found.old) :]
        assert route.destination_path(filename) == found.new + tail
        assert found.id_of(tail) == object_id(route.source.place(filename), route.destination.key)


def test_of_several_rules_that_of_most_names_is_taken(rclone_s3: S3Server) -> None:
    route = a_route(rclone_s3, None, "b/media")
    assert prefixes(find_prefix_rule(route, ["b/media//x", "b/media/y", "b/media/a b", "b/media/z"])) == RULE
    assert find_prefix_rule(replace(route, encode=True), ["b/media/y"]) is None
    assert find_prefix_rule(a_route(rclone_s3, "other", "b"), ["y"]) is None


def test_what_both_keys_name_is_never_purged(world: World, in_bulk: None) -> None:
    assert world.run().exit_code == 0
    assert told_in_bulk(world)[1] > 30
    report = PurgeJob(
        world.application, PurgeOptions(older_than=0, yes=True, lease_ttl=1.0, visible_tables_only=True)
    ).run()
    assert OutcomeKind.DELETED not in report.counts
    assert world.check(backend="new") == FILES
