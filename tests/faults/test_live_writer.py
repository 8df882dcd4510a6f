"""The application goes on writing while its rows move: its writes stand, and nothing that it wrote is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject

from migrate_storage.core.events import Event, PassStarted
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.database.compare_and_swap import CompareAndSwap
from migrate_storage.engine import listing_evidence
from migrate_storage.engine.batched_checks import BatchedRechecks
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.server_side_copy import ServerSideCopier
from tests.support.engine import registrations as places
from tests.support.engine.hooks import before_call
from tests.support.engine.world import Album, Document, World
from tests.support.servers import S3Server


@pytest.fixture(
    params=[("sqlite", "transfer", "listed"), ("postgres", "copy", "listed"), ("postgres", "copy", "asked"), ("mariadb", "transfer", "asked")],
    ids="-".join,
)  # fmt: skip
def world(request: pytest.FixtureRequest, rclone_s3, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Rows on each database in turn, files on an S3 server; the last looks by listings, or one by one."""
    database, how, looks = request.param
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1 if looks == "listed" else 10**9)
    yield from _world(rclone_s3, request.getfixturevalue(f"{database}_url"), how, looks)


@pytest.fixture(params=[(how, looks) for how in ("transfer", "copy") for looks in ("listed", "asked")], ids="-".join)
def small_world(
    request: pytest.FixtureRequest, rclone_s3, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    how, looks = request.param
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1 if looks == "listed" else 10**9)
    yield from _world(rclone_s3, sqlite_url, how, looks)


def _world(server: S3Server, url: str, how: str, looks: str) -> Iterator[World]:
    """``copy``: by the server itself; ``transfer``: through the client, the old side calling the server by another name.

    ``listed``: the user says that the listings of the source are fresh.
    """
    old = places.old_s3(server if how == "copy" else server.by_another_name, server.new_bucket())
    world = World(url, old.build(), places.new_s3(server, server.new_bucket()).build())
    world.run = partial(world.run, consistent_listings=("old",) if looks == "listed" else ())  # type: ignore[method-assign]
    yield world
    if any(entry.written_by_us for entry in world.journal.values()):
        by_the_server = {entry.evidence == SERVER_SIDE_COPY for entry in world.journal.values() if entry.written_by_us}
        assert (True in by_the_server) is (how == "copy")
    world.close()


def replaced(world: World, session: sa.orm.Session, number: int, name: str, content: bytes) -> None:
    """What an upload form does: another file in the same row. The listener deletes the old one."""
    world.contents[name], world.types[name] = content, "text/plain"
    session.get_one(Document, number).file = FileObject(
        backend="old", filename=name, content_type="text/plain", metadata={"name": name}, content=content
    )


def test_what_the_application_writes_right_before_the_swap_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(12, 4)
    with world.session() as session:
        album = session.scalars(sa.select(Album.id)).all()[0]

    def write(*_: Any) -> None:
        with world.session() as session:
            replaced(world, session, 1, "again/1.txt", b"another file in row 1")
            session.delete(session.get_one(Document, 2))
            session.get_one(Document, 3).file = None
            session.get_one(Document, 4).title = "renamed"
            world.contents["late.png"], world.types["late.png"] = b"a late picture", "image/png"
            late = FileObject(backend="old", filename="late.png", content_type="image/png", metadata={"name": "late.png"}, content=b"a late picture")  # fmt: skip
            session.get_one(Album, album).pictures = [*(session.get_one(Album, album).pictures or []), late]
            session.commit()

    before_call(monkeypatch, CompareAndSwap, "swap_all", write)
    report = world.run()
    assert (report.state, report.rows_remaining) == ("completed", 0)
    values = dict(world.sql("SELECT id, title FROM documents"))
    assert sorted(values) == [1, *range(3, 13)], "the deleted row stays deleted"
    assert values[4] == "renamed"
    with world.session() as session:
        assert session.get_one(Document, 1).file.get_content() == b"another file in row 1"
        assert session.get_one(Document, 3).file is None
        assert session.get_one(Album, album).pictures[-1].get_content() == b"a late picture"
    assert world.check(backend="new") == 10 + 6 + 1
    in_vain = {name for name, entry in world.journal.items() if entry.state == "unreferenced"}
    assert in_vain == {"docs/0/d0.bin", "docs/1/d1.bin", "docs/2/d2.bin"}
    for name in in_vain:
        assert world.journal[name].written_by_us is True
        assert world.new.get_content(name) == world.contents[name], "a run deletes nothing"
    assert report.counts[OutcomeKind.MODIFIED] == 3
    assert {str(ref) for outcome in report.problems for ref in outcome.refs} == {
        f"documents.file[{i}]" for i in (1, 2, 3)
    }
    assert world.run().exit_code == 0


def test_a_write_that_holds_the_row_while_the_swap_waits_for_it_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(5)
    waiting: list[threading.Timer] = []

    def write(*_: Any) -> None:
        connection = world.engine.connect()
        connection.execute(sa.text("UPDATE documents SET file = NULL WHERE id = 1"))

        def commit() -> None:
            connection.commit()
            connection.close()

        waiting.append(threading.Timer(0.4, commit))
        waiting[0].start()

    before_call(monkeypatch, CompareAndSwap, "swap_all", write)
    report = world.run()
    waiting[0].join()
    assert report.state == "completed"
    assert world.sql("SELECT id FROM documents WHERE file IS NULL") == [(1,)]
    assert world.check(backend="new") == 4
    assert world.journal["docs/0/d0.bin"].state == "unreferenced"


def test_a_row_that_the_application_moved_itself_keeps_its_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(3)

    def write(*_: Any) -> None:
        with world.session() as session:
            session.info["enable_file_object_listener"] = False
            world.contents["mine.txt"], world.types["mine.txt"] = b"mine", "text/plain"
            mine = FileObject(backend="new", filename="mine.txt", content_type="text/plain", metadata={"name": "mine.txt"})  # fmt: skip
            world.new.save_object(mine, b"mine")
            session.get_one(Document, 1).file = mine
            session.commit()

    before_call(monkeypatch, CompareAndSwap, "swap_all", write)
    assert world.run().rows_remaining == 0
    assert [value["filename"] for value in world.raw()] == ["mine.txt", "docs/1/d1.bin", "docs/2/d2.bin"]
    assert world.check(backend="new") == 3
    assert world.old.get_content("docs/0/d0.bin") == world.contents["docs/0/d0.bin"]


def test_a_source_replaced_right_after_the_swap_is_copied_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that loaded the FileObject before its row was re-pointed still saves to the old key, with no SQL."""
    world.fill(6)
    with world.session() as session:
        stale = session.get_one(Document, 1).file

    def write(*_: Any) -> None:
        assert world.raw()[0]["backend"] == "new", "the row was committed before the source is looked at again"
        stale.save(b"saved by a process that knows nothing")

    # By one listing of many, or by a look at each.
    if listing_evidence.MIN_WANTED_OBJECTS == 1:
        begin = BatchedRechecks.begin

        def looked(self: BatchedRechecks) -> Any:
            if self._repointed:
                monkeypatch.setattr(BatchedRechecks, "begin", begin)
                write()
            return begin(self)

        monkeypatch.setattr(BatchedRechecks, "begin", looked)
    else:
        before_call(monkeypatch, ObjectCopier, "source_changed", write)
    world.contents["docs/0/d0.bin"] = b"saved by a process that knows nothing"
    report = world.run()
    assert (report.exit_code, report.rows_repointed) == (0, 6)
    assert report.counts == {OutcomeKind.REPOINTED: 6}
    assert world.check(backend="new") == 6
    assert world.raw()[0]["size"] == len(b"saved by a process that knows nothing")


def during(world: World, number: int, work: Callable[[], None]) -> None:
    """Do ``work`` when the pass of that number begins."""

    class Events(list):
        def append(self, event: Event) -> None:
            if event == PassStarted(number=number):
                work()
            super().append(event)

    world.events = Events()


def test_a_source_replaced_later_in_the_run_is_copied_again_at_its_end(small_world: World) -> None:
    world = small_world
    world.fill(6)
    with world.session() as session:
        stale = session.get_one(Document, 1).file
    during(world, 2, lambda: stale.save(b"late"))
    world.contents["docs/0/d0.bin"] = b"late"
    report = world.run()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 6})
    assert world.check(backend="new") == 6
    assert world.raw()[0]["size"] == 4
    assert world.raw()[0]["content_type"] == world.types["docs/0/d0.bin"]


@pytest.mark.parametrize("way", ["copy_only", "keep_rows"])
def test_a_source_replaced_later_in_a_copy_keeps_its_content_type(rclone_s3, small_world: World, way: str) -> None:
    world = small_world
    world.fill(3)
    during(world, 2, lambda: world.old.fs.pipe(world.old._prepare_path("docs/0/d0.bin"), b"late"))
    world.contents["docs/0/d0.bin"] = b"late"
    assert world.run(**{way: True}).exit_code == 0
    assert world.new.get_content("docs/0/d0.bin") == b"late"
    assert world.new.attributes("docs/0/d0.bin").content_type == world.types["docs/0/d0.bin"]


def test_an_upload_into_a_row_that_was_moved_is_moved_too(small_world: World) -> None:
    """The application still writes to the old backend: a later pass finds what it wrote."""
    world = small_world
    world.fill(6)

    def write() -> None:
        with world.session() as session:
            replaced(world, session, 1, "again.txt", b"uploaded after the swap")
            session.commit()

    during(world, 2, write)
    report = world.run()
    assert (report.exit_code, report.rows_remaining, report.counts) == (0, 0, {OutcomeKind.REPOINTED: 7})
    assert world.check(backend="new") == 6


def test_rows_that_an_earlier_run_moved_are_told_when_their_object_is_copied_again(small_world: World) -> None:
    world = small_world
    shared = world.file("shared", b"before", "text/plain")
    world.add(Document(id=1, title="", file=shared), Document(id=2, title="", file=shared))
    world.run(limit=1)
    world.old.fs.pipe(world.old._prepare_path("shared"), b"replaced")
    world.contents["shared"] = b"replaced"
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 2
    assert [value["size"] for value in world.raw()] == [8, 8]


def test_when_both_sides_were_replaced_both_are_kept_and_listed(small_world: World) -> None:
    world = small_world
    world.fill(6)
    with world.session() as session:
        stale = session.get_one(Document, 1).file

    def write() -> None:
        stale.save(b"saved to the old key")
        world.new.save_object(FileObject(backend="new", filename="docs/0/d0.bin"), b"saved to the new key")

    during(world, 2, write)
    report = world.run()
    assert report.exit_code == 1
    assert report.counts == {OutcomeKind.REPOINTED: 5, OutcomeKind.CONFLICT: 1}
    [conflict] = report.problems
    assert (conflict.kind, conflict.source.path) == (OutcomeKind.CONFLICT, "docs/0/d0.bin")
    assert world.old.get_content("docs/0/d0.bin") == b"saved to the old key"
    assert world.new.get_content("docs/0/d0.bin") == b"saved to the new key"


def test_a_source_replaced_while_it_is_copied_is_copied_again(
    small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world
    world.fill(6)
    left = [True]

    def replacing(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
            answer = write(self, path, *args, **kwargs)
            if path == "docs/0/d0.bin" and left:
                left.pop()
                world.old.fs.pipe(world.old._prepare_path(path), b"replaced meanwhile")
            return answer

        return written

    monkeypatch.setattr(ObstoreStore, "put", replacing(ObstoreStore.put))
    monkeypatch.setattr(ServerSideCopier, "copy", replacing(ServerSideCopier.copy))
    at_the_swap: list[bytes] = []
    before_call(
        monkeypatch, CompareAndSwap, "swap_all", lambda *_: at_the_swap.append(world.new.get_content("docs/0/d0.bin"))
    )
    world.contents["docs/0/d0.bin"] = b"replaced meanwhile"
    assert world.run().exit_code == 0
    assert not left
    assert at_the_swap == [b"replaced meanwhile"], "no row ever named the older copy"
    assert world.check(backend="new") == 6


def test_a_source_that_comes_later_is_moved_and_one_that_never_comes_is_listed(small_world: World) -> None:
    """An async application's uploads may come after its commit, or never."""
    world = small_world
    world.fill(6)
    late, never = world.contents["docs/0/d0.bin"], "docs/1/d1.bin"
    for name in ("docs/0/d0.bin", never):
        world.old.delete_object(name)
    during(world, 2, lambda: world.old.fs.pipe(world.old._prepare_path("docs/0/d0.bin"), late))
    report = world.run()
    assert (report.exit_code, report.rows_remaining) == (1, 1)
    assert report.counts == {OutcomeKind.REPOINTED: 5, OutcomeKind.MISSING: 1}
    assert [(outcome.kind, outcome.source.path) for outcome in report.problems] == [(OutcomeKind.MISSING, never)]
    assert [value["backend"] for value in world.raw()] == ["new", "old", "new", "new", "new", "new"]
    world.old.fs.pipe(world.old._prepare_path(never), world.contents[never])
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 6


def test_a_source_deleted_right_after_its_copy_may_come_back_with_other_bytes(
    small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the bytes before is known as ours, so it is in nobody's way."""
    world = small_world
    world.fill(3)
    name = "docs/0/d0.bin"

    def delete_after(owner: Any, request: str, destination: int) -> None:
        send = getattr(owner, request)

        def send_and_delete(*args: Any, **options: Any) -> Any:
            answer = send(*args, **options)
            if args[destination] == name:
                world.old.delete_object(name)
            return answer

        monkeypatch.setattr(owner, request, send_and_delete)

    delete_after(ServerSideCopier, "copy", 2)
    delete_after(ObstoreStore, "put", 1)
    report = world.run()
    monkeypatch.undo()
    assert [(outcome.kind, outcome.source.path) for outcome in report.problems] == [(OutcomeKind.MISSING, name)]
    record = world.journal[name]
    assert (record.state, record.written_by_us) == ("unreferenced", True)
    world.contents[name] = b"other bytes, under the same name"
    world.old.fs.pipe(world.old._prepare_path(name), world.contents[name])
    assert (world.run().exit_code, world.check(backend="new")) == (0, 3)


def test_rows_that_appear_while_the_run_goes_on_are_moved(world: World) -> None:
    world.fill(3)

    def write() -> None:
        with world.session() as session:
            world.contents["n"], world.types["n"] = b"fresh", "text/plain"
            fresh = FileObject(backend="old", filename="n", content_type="text/plain", metadata={"name": "n"}, content=b"fresh")  # fmt: skip
            session.add(Document(id=0, title="before all others", file=fresh))
            session.commit()

    during(world, 2, write)
    assert (world.run().exit_code, world.check(backend="new")) == (0, 4)
