"""Rows of every shape: keys, lists, nulls, shared files; broken ones are one item each."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.application.application import from_database
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column, OutcomeKind
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from tests.support.engine import registrations as places
from tests.support.engine.world import COLUMNS, Album, Document, Note, Page, World
from tests.support.jobs.purge import purge

SLUGS = ["plain", "with space", "quote's", 'double"', "100%_!", "ümläut", "日本語", "🎈", "back\\slash", "z" * 60, "/"]

FILE = json.dumps({"backend": "old", "filename": "docs/0/d0.bin"})


def test_every_kind_of_key_in_windows_of_three(all_worlds: World) -> None:
    """Integers, UUIDs, strings and both together, in the database's own order."""
    world = all_worlds
    world.fill(17, 11, 13)
    world.add(*(Page(slug=slug, image=world.file(f"pages/{i}")) for i, slug in enumerate(SLUGS)))
    report = world.run(batch_size=3)
    assert (report.state, report.exit_code, report.rows_remaining) == ("completed", 0, 0), report
    assert report.counts == {OutcomeKind.REPOINTED: len(world.contents)}
    pictures = sum(i % 4 for i in range(11))
    assert world.check(backend="new") == 17 + pictures + 5 + 6 + len(SLUGS)
    # notes have two columns: a row counts once for each that was re-pointed
    assert report.rows_repointed == 17 + sum(1 for i in range(11) if i % 4) + 5 + 6 + len(SLUGS)


def test_rows_without_a_file_stay_as_they_are(all_worlds: World) -> None:
    world = all_worlds
    world.add(Document(id=1, title="JSON null", file=None), Album(pictures=None), Album(pictures=[]))
    world.add(Document(id=2, title="NULL", file=None), Document(id=3, title="a file", file=world.file("a")))
    world.sql("UPDATE documents SET file = NULL WHERE id = 2")
    before = world.dump()
    report = world.run()
    assert (report.exit_code, report.counts, report.rows_repointed) == (0, {OutcomeKind.REPOINTED: 1}, 1)
    after = world.dump()
    assert after["albums"] == before["albums"]
    assert sorted(after["documents"], key=lambda row: row[0])[:2] == sorted(before["documents"], key=lambda row: row[0])[:2]  # fmt: skip


def test_rows_that_share_an_object_get_one_copy(all_worlds: World) -> None:
    """In one window and in many, in several tables, twice in one list."""
    world = all_worlds
    shared = world.file("shared", b"the same for all", "text/plain")
    world.add(*(Document(id=i, title="", file=shared) for i in range(1, 11)))
    world.add(Album(pictures=[shared, world.file("own"), shared]), Note(owner="o", number=1, scan=shared, voice=shared))
    report = world.run(batch_size=3)
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    assert report.counts == {OutcomeKind.REPOINTED: 2}
    assert report.bytes_copied == len(world.contents["shared"]) + len(world.contents["own"])
    assert world.check(backend="new") == 10 + 3 + 2


def test_a_list_keeps_its_order_and_what_is_not_ours(all_worlds: World) -> None:
    """Files of another backend in the same list, and empty places."""
    world = all_worlds
    world.add(Album(pictures=[world.file("a"), world.file("b")]))
    [[first, second]] = world.raw("albums", "pictures")
    other = {**first, "backend": "elsewhere", "filename": "not ours"}
    mixed = json.dumps([first, other, None, second])
    cast = "CAST(:v AS JSONB)" if world.engine.dialect.name == "postgresql" else ":v"
    world.sql(f"UPDATE albums SET pictures = {cast}", v=mixed)
    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (0, 1, 0)
    [value] = world.raw("albums", "pictures")
    assert [entry and (entry["backend"], entry["filename"]) for entry in value] == [
        ("new", "a"), ("elsewhere", "not ours"), None, ("new", "b"),
    ]  # fmt: skip
    assert value[1] == other


def test_no_other_column_changes(all_worlds: World) -> None:
    """Neither what SQLAlchemy would do on an update nor what MariaDB does by itself."""
    world = all_worlds
    world.fill(5)
    if world.engine.dialect.name == "mysql":
        world.sql("ALTER TABLE documents ADD COLUMN touched TIMESTAMP NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP")
    world.sql("UPDATE documents SET updated_at = '2020-02-02 02:02:02'")
    if "touched" in _names(world):
        world.sql("UPDATE documents SET touched = '2020-02-02 02:02:02'")
    others = [column for column in ("id", "title", "updated_at", "touched") if column in _names(world)]
    statement = f"SELECT {', '.join(others)} FROM documents ORDER BY id"
    before = world.sql(statement)
    if "touched" in others:
        assert before[0][-1] == datetime.datetime(2020, 2, 2, 2, 2, 2)
    assert world.run().exit_code == 0
    assert world.sql(statement) == before
    assert world.check(backend="new") == 5


def _names(world: World) -> set[str]:
    return {column["name"] for column in sa.inspect(world.engine).get_columns("documents")}


def test_tables_in_a_schema_of_their_own(tmp_path: Any, postgres_url: str) -> None:
    world = World(postgres_url, places.old_local(tmp_path / "o").build(), places.new_local(tmp_path / "n").build())
    world.fill(4)
    world.sql("CREATE SCHEMA media")
    world.sql("CREATE TABLE media.documents AS SELECT * FROM documents WHERE id < 3")
    world.sql("ALTER TABLE media.documents ADD PRIMARY KEY (id)")
    world.columns = (Column(table="documents", column="file", schema="media", key=("id",)),)
    report = world.run(journal_schema="media")
    assert (report.exit_code, report.rows_repointed) == (1, 2)
    assert report.census is not None
    assert [each.rows["old"] for each in report.census.unknown("old")] == [4], "those in the other schema are counted"
    assert world.sql("SELECT DISTINCT file->>'backend' FROM media.documents") == [("new",)]
    assert world.sql("SELECT DISTINCT file->>'backend' FROM documents") == [("old",)]
    assert {"migrate_storage_run", "documents"} <= set(sa.inspect(world.engine).get_table_names("media"))
    assert not [name for name in sa.inspect(world.engine).get_table_names() if name.startswith("migrate_storage")]
    world.close()


def test_a_table_without_a_primary_key_is_refused(world: World) -> None:
    world.sql("CREATE TABLE loose (name TEXT, file TEXT)")
    with pytest.raises(ConfigurationError, match="no primary key, so its rows cannot be distinguished"):
        from_database(world.url, ["loose.file"], {})


BROKEN = {
    "no filename": '{"backend": "old", "content_type": "text/plain"}',
    "names no backend": '{"filename": "x", "other": "old"}',
    "not JSON": '{"backend": "old", "filename": ',
    "where a file should be": '["old"]',
    "same key twice": '{"backend": "old", "backend": "old", "filename": "x"}',
    "cannot be kept exactly": '{"backend": "old", "filename": "docs/0/d0.bin", "last_modified": 1234567890.123456789012}',
    "NaN": '{"backend": "old", "filename": "docs/0/d0.bin", "ratio": NaN}',
}


def test_a_broken_row_is_one_failed_item(world: World) -> None:
    world.fill(6)
    for number, value in enumerate(BROKEN.values(), start=100):
        world.sql("INSERT INTO documents (id, title, updated_at, file) VALUES (:i, '', '2020-01-01', :v)", i=number, v=value)  # fmt: skip
    before = world.sql("SELECT * FROM documents WHERE id >= 100 ORDER BY id")
    report = world.run(batch_size=4)
    assert (report.state, report.exit_code) == ("completed", 1)
    assert report.counts == {OutcomeKind.REPOINTED: 6, OutcomeKind.FAILED: len(BROKEN)}
    reasons = {str(ref): outcome.reason for outcome in report.problems for ref in outcome.refs}
    assert len(reasons) == len(BROKEN)
    for number, words in enumerate(BROKEN, start=100):
        assert words in reasons[f"documents.file[{number}]"]
    assert world.sql("SELECT * FROM documents WHERE id >= 100 ORDER BY id") == before
    assert world.sql("SELECT count(*) FROM documents WHERE file LIKE '%\"new\"%'") == [(6,)]


def test_a_number_that_jsonb_keeps_and_python_does_not(tmp_path: Any, postgres_url: str) -> None:
    world = World(postgres_url, places.old_local(tmp_path / "o").build(), places.new_local(tmp_path / "n").build())
    world.fill(2)
    world.sql("UPDATE documents SET file = jsonb_set(file, '{exact}', '0.1234567890123456789012345') WHERE id = 1")
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 1, OutcomeKind.FAILED: 1}
    assert "cannot be kept exactly" in report.problems[0].reason
    assert world.sql("SELECT file->>'exact', file->>'backend' FROM documents WHERE id = 1") == [("0.1234567890123456789012345", "old")]  # fmt: skip
    world.close()


@pytest.fixture
def mixed(worlds: World) -> Iterator[World]:
    worlds.fill(10, 4, 6)
    return worlds


def backends(world: World, table: str = "documents", column: str = "file") -> list[str]:
    values = [value if isinstance(value, list) else [value] for value in world.raw(table, column)]
    return [file["backend"] for files in values for file in files if file is not None]


def test_where(mixed: World) -> None:
    condition = "id <= 4 AND title LIKE 't%' AND title <> 'a :b ::c \\ %s'"
    report = mixed.run(where=condition, columns=("documents.file",))
    assert (report.state, report.rows_repointed, report.rows_remaining) == ("completed", 4, 0)
    assert backends(mixed) == ["new"] * 4 + ["old"] * 6
    assert mixed.run().exit_code == 0
    mixed.check(backend="new")


def test_column(mixed: World) -> None:
    report = mixed.run(columns=("notes.scan", "albums.pictures"))
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    assert set(backends(mixed, "notes", "scan")) == {"new"}
    assert set(backends(mixed)) == {"old"}
    assert set(backends(mixed, "albums", "pictures")) == {"new"}
    assert set(backends(mixed, "notes", "voice")) == {"old"}


def test_limit_stops_and_the_same_command_goes_on(world: World) -> None:
    mixed, moved = world, []
    mixed.fill(10, 4, 6)
    for _ in range(20):
        report = mixed.run(limit=4, batch_size=3)
        moved.append(report.rows_repointed)
        mixed.check()
        if report.state == "completed":
            break
        assert (report.state, report.exit_code) == ("limit_reached", 4)
    assert moved == [4, 4, 4, 4, 2], "ten documents, three albums, two scans and three voices"
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    mixed.check(backend="new")


def test_limit_gets_past_rows_that_cannot_be_moved(world: World) -> None:
    """Three rows for a person first: a limit of three must not stop there for ever."""
    world.fill(9)
    for number in (1, 2, 3):
        world.sql("UPDATE documents SET file = :v WHERE id = :i", i=number, v='{"backend": "old"}')
    reports = [world.run(limit=3) for _ in range(4)]
    assert [report.rows_repointed for report in reports] == [0, 3, 3, 0]
    assert [report.exit_code for report in reports] == [4, 4, 4, 1], "at the end those three are left, and listed"
    assert backends(world)[3:] == ["new"] * 6


def test_limit_counts_rows_listed_before_that_can_be_moved_now(world: World, tmp_path: Path) -> None:
    """They are tried again, and are among the N then: never more rows are re-pointed than the limit says."""
    world.fill(9)
    paths = [next((tmp_path / "old").rglob(f"d{i}.bin")) for i in range(5)]
    for path in paths:
        path.rename(path.with_suffix(".away"))
    assert (first := world.run(limit=4)).rows_repointed == 0, first
    for path in paths:
        path.with_suffix(".away").rename(path)
    assert [world.run(limit=4).rows_repointed for _ in range(3)] == [4, 4, 1]
    assert world.check(backend="new") == 9


def swap_all(rows: FileColumn, swaps: list[tuple[tuple[Any, ...], str, str]]) -> list[bool]:
    """Swap the rows in one transaction; whether each was swapped."""
    done = rows.database.transaction(lambda connection: rows.compare_and_swap.swap_all(connection, swaps))
    return [result.done for result in done]


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_a_batch_tells_which_of_its_rows_were_changed_meanwhile(worlds: World, driver: str) -> None:
    """The database counts the rows of a batch together, or not at all: then each is asked."""
    world = worlds
    world.fill(6)
    drivers = {"+psycopg:": "+asyncpg:", "+pymysql:": "+asyncmy:", "sqlite:": "sqlite+aiosqlite:"}
    url = world.url
    if driver == "async":
        url = next(url.replace(old, new) for old, new in drivers.items() if old in url)
    with contextlib.closing(Database(url)) as database:
        database.connect()
        rows = FileColumn(database, COLUMNS[0])
        [window] = rows.windows("old", 100)
        swaps = [(row.pk, row.value, row.value.replace('"old"', '"new"')) for row in window]
        world.sql("UPDATE documents SET file = NULL WHERE id = 2")
        world.sql("DELETE FROM documents WHERE id = 4")
        done = swap_all(rows, swaps)
        assert done == [True, False, True, False, True, True]
        again = swap_all(rows, swaps)
        assert again == done, "what an attempt with a lost answer did is done"
        rest = [swaps[0], swaps[2], swaps[4], swaps[5]]
        back = [(pk, new, old) for pk, old, new in rest]
        assert swap_all(rows, back) == [True] * 4
        assert swap_all(rows, []) == []
    assert [value["backend"] for value in world.raw()] == ["old"] * 4


def test_a_file_in_the_metadata_of_another_is_moved_too(worlds: World) -> None:
    worlds.fill(1)
    thumbnail, page = worlds.file("thumbnail"), worlds.file("page")
    names = {
        "by": {"backend": "a program", "filename": "x"},
        "thumbnail": thumbnail.to_dict(),
        "pages": json.dumps([page.to_dict()]),
    }
    first, second = worlds.file("first"), worlds.file("second")
    first.metadata.update(names)
    second.metadata.update(names)
    worlds.add(Document(id=2, title="t", file=first), Album(id=uuid.uuid4(), pictures=[second]))
    report = worlds.run()
    assert (report.exit_code, report.rows_remaining, report.objects) == (0, 0, 5)
    worlds.check(backend="new")
    for file in worlds.files():
        if "pages" in file.metadata:
            for inner in (file.metadata["thumbnail"], *json.loads(file.metadata["pages"])):
                assert inner["backend"] == "new"
                assert worlds.new.get_content(inner["filename"]) == worlds.contents[inner["filename"]]
    assert purge(worlds).counts == {OutcomeKind.DELETED: 5}
    assert VerifyJob(worlds.application, VerifyOptions(read_content=True)).run().exit_code == 0


@pytest.mark.parametrize(
    "spelled", [f"saved {FILE} for 7", f"level=info msg={json.dumps('saved ' + FILE)}", FILE.replace('"', "&quot;")]
)
def test_a_file_in_a_text_inside_of_a_row_is_counted_and_kept_by_a_purge(worlds: World, spelled: str) -> None:
    worlds.fill(1)
    noted = worlds.file("first")
    noted.metadata["log"] = spelled
    worlds.add(Document(id=2, title="t", file=noted))
    report = worlds.run()
    assert (report.exit_code, report.rows_remaining) == (1, 1)
    seen = CensusOptions(visible_tables_only=True)
    _, checks = ready_to_unregister(worlds.application, "old", soak=0.0, census=seen)
    assert "1 row of known columns quote" in next(each.message for each in checks if not each.ready)
    assert purge(worlds).counts == {OutcomeKind.DELETED: 1, OutcomeKind.KEPT: 1}
    assert worlds.run(excused=("documents.file",)).exit_code == 0
    assert worlds.old.get_content("docs/0/d0.bin") == worlds.contents["docs/0/d0.bin"]
