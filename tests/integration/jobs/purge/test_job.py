"""Purge deletes only what passes every test; each test here breaks exactly one of them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, LeaseHeldError, RunError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import COPY_VERIFIED, DELETED_BEFORE, ROW_DELETED
from migrate_storage.database.connection import Database
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.journal import Journal
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.reporting import Report
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, Note, World
from tests.support.jobs.purge import purge

D0, D1, D2 = "docs/0/d0.bin", "docs/1/d1.bin", "docs/2/d2.bin"


@pytest.fixture
def moved(world: World) -> World:
    """Five documents that were moved."""
    world.fill(5)
    assert world.run().exit_code == 0
    return world


def left(world: World) -> set[str]:
    """What the old storage still holds."""
    return {
        path.relative_to(world.old.prefix).as_posix() for path in Path(world.old.prefix).rglob("*") if path.is_file()
    }


def kept(report: Report, world: World) -> dict[str, str]:
    """Why each object that was not purged was not."""
    from migrate_storage.core.events import ObjectFinished

    ended = [event.outcome for event in world.events if isinstance(event, ObjectFinished)]
    return {
        outcome.source.path: outcome.reason
        for outcome in ended[-report.objects :]
        if outcome.kind is not OutcomeKind.DELETED
    }


def reference(world: World, name: str, key: str = "old") -> None:
    world.sql(
        "INSERT INTO pages (slug, image) VALUES ('p', :value)", value=json.dumps({"backend": key, "filename": name})
    )


def test_everything_that_was_moved_goes_and_every_row_still_opens(moved: World) -> None:
    assert len(left(moved)) == 5
    report = purge(moved)
    assert (report.kind, report.state, report.exit_code) == ("purge", "completed", 0)
    assert report.counts == {OutcomeKind.DELETED: 5}
    assert report.verified_by == {COPY_VERIFIED: 5}
    assert report.bytes_copied == sum(map(len, moved.contents.values())), "the bytes that were freed"
    assert left(moved) == set()
    assert moved.check(backend="new") == 5
    assert {entry.state for entry in moved.journal.values()} == {"source_deleted"}
    again = purge(moved)
    assert (again.exit_code, again.objects) == (0, 0)


def test_without_yes_nothing_is_deleted_and_the_counts_are_the_same(moved: World) -> None:
    reference(moved, D0)
    before = moved.dump()
    dry = purge(moved, yes=False)
    assert (dry.state, dry.dry_run, len(left(moved))) == ("planned", True, 5)
    after = moved.dump()
    [record] = set(after.pop("migrate_storage_run")) - set(before.pop("migrate_storage_run"))
    assert after == before, "only the report was recorded"
    assert dry.run in record
    assert dry.bytes_copied == sum(len(content) for name, content in moved.contents.items() if name != D0)
    assert json.loads(moved.sql("SELECT report FROM migrate_storage_run WHERE kind = 'purge'")[0][0]) == json.loads(
        json.dumps(dry.to_dict())
    )
    assert PurgeOptions().yes is False
    assert purge(moved).counts == dry.counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}


def test_the_soak(moved: World) -> None:
    report = purge(moved, older_than=3600.0)
    assert report.counts == {OutcomeKind.KEPT: 5}
    assert "less than 1 hour ago" in kept(report, moved)[D0]
    moved.sql(
        "UPDATE migrate_storage_object SET updated = :then WHERE source_path = :path", then=time.time() - 4000, path=D0
    )
    assert purge(moved, older_than=3600.0).counts == {OutcomeKind.DELETED: 1, OutcomeKind.KEPT: 4}
    assert D0 not in left(moved)
    assert PurgeOptions().older_than == 7 * 86400


@pytest.mark.parametrize("outcome", ["unverified", "mismatch", "modified", "failed", "destination_exists"])
def test_what_is_not_journaled_as_verified(moved: World, outcome: str) -> None:
    moved.sql(
        "UPDATE migrate_storage_object SET outcome = :outcome WHERE source_path = :path", outcome=outcome, path=D0
    )
    assert purge(moved).counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}
    assert left(moved) == {D0}


@pytest.mark.parametrize("state", ["intent", "unreferenced", "unresolved"])
def test_what_is_not_journaled_as_held(moved: World, state: str) -> None:
    moved.sql("UPDATE migrate_storage_object SET state = :state WHERE source_path = :path", state=state, path=D0)
    assert purge(moved).counts == {OutcomeKind.DELETED: 4}
    assert left(moved) == {D0}


def test_a_copy_whose_rows_were_left(world: World) -> None:
    world.fill(5)
    assert world.run(copy_only=True).exit_code == 0
    assert purge(world).counts == {OutcomeKind.KEPT: 5}
    assert len(left(world)) == 5


def test_a_row_of_another_column_that_the_run_left_out(world: World) -> None:
    world.fill(3)
    shared = world.file("shared.wav")
    world.add(Document(id=9, title="x", file=shared), Note(owner="o", number=1, voice=shared))
    world.run(columns=("documents.file",))
    assert purge(world).counts == {OutcomeKind.DELETED: 3, OutcomeKind.KEPT: 1}
    assert left(world) == {"shared.wav"}
    assert world.check() == 5


def test_a_row_that_where_left_out(world: World) -> None:
    world.fill(2)
    shared = world.file("shared.bin")
    world.add(Document(id=8, title="moved", file=shared), Document(id=9, title="left", file=shared))
    world.run(columns=("documents.file",), where="title <> 'left'")
    assert purge(world).counts == {OutcomeKind.DELETED: 2, OutcomeKind.KEPT: 1}
    assert left(world) == {"shared.bin"}


def test_one_slot_of_a_list(world: World) -> None:
    world.fill(3)
    world.run()
    value = [{"backend": "new", "filename": "x"}, None, {"backend": "old", "filename": D1}]
    world.sql("INSERT INTO albums (id, pictures) VALUES (:id, :value)", id=b"0" * 16, value=json.dumps(value))
    assert purge(world).counts == {OutcomeKind.DELETED: 2, OutcomeKind.KEPT: 1}
    assert left(world) == {D1}


def test_another_key_that_resolves_to_the_same_place(moved: World) -> None:
    third = FSSpecBackend(key="third", fs="file", prefix=str(Path(moved.old.prefix).parent))
    folder = Path(moved.old.prefix).name
    reference(moved, f"{folder}/{D0}", key="third")
    application = moved.application
    application = Application(
        engine=application.engine, columns=application.columns, backends={**application.backends, "third": third}
    )
    report = purge(moved, application=application)
    assert report.counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}
    assert left(moved) == {D0}


def test_another_key_that_reaches_it_through_a_link(moved: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(moved.old.prefix)
    third = FSSpecBackend(key="third", fs="file", prefix=str(tmp_path / "link"))
    reference(moved, D0, key="third")
    application = moved.application
    application = Application(
        engine=application.engine, columns=application.columns, backends={**application.backends, "third": third}
    )
    assert purge(moved, application=application).counts[OutcomeKind.KEPT] == 1
    assert left(moved) == {D0}


def test_references_in_a_file(moved: World, tmp_path: Path) -> None:
    listed = tmp_path / "in use.txt"
    listed.write_bytes(D0.encode() + b"\r\n\n" + D1.encode())
    report = purge(moved, references=(str(listed),))
    assert report.counts == {OutcomeKind.DELETED: 3, OutcomeKind.KEPT: 2}
    assert left(moved) == {D0, D1}


def test_references_of_a_query(moved: World) -> None:
    moved.sql("CREATE TABLE letters (body TEXT, attachment TEXT)")
    moved.sql("INSERT INTO letters VALUES ('a', :one), ('b', :two), ('c', NULL)", one=D0, two="elsewhere")
    query = "  select attachment FROM letters WHERE body <> 'a:b'"
    assert purge(moved, references=(query,)).counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}
    assert left(moved) == {D0}


@pytest.mark.parametrize("references", ["nowhere.txt", "SELECT x FROM nowhere", "empty"])
def test_references_that_cannot_be_read_stop_it(moved: World, tmp_path: Path, references: str) -> None:
    if references == "empty":
        references = str(tmp_path / "empty")
        Path(references).write_text("\n\n")
    with pytest.raises(ConfigurationError, match="nothing was deleted"):
        purge(moved, references=(references,))
    assert len(left(moved)) == 5


def test_a_registration_that_cannot_be_resolved_stops_it(moved: World) -> None:
    class Strange:
        key = "strange"
        driver = "odd"
        fs = object()

    application = moved.application
    application = Application(
        engine=application.engine, columns=application.columns, backends={**application.backends, "strange": Strange()}  # type: ignore[dict-item]
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="'strange' cannot be resolved"):
        purge(moved, application=application)
    assert len(left(moved)) == 5


def test_a_row_that_names_an_unregistered_key_stops_it(moved: World) -> None:
    reference(moved, "x", key="nobody")
    with pytest.raises(RunError, match=r"pages\.image\[p\] names the backend 'nobody'"):
        purge(moved)
    assert len(left(moved)) == 5


@pytest.mark.parametrize("value", ['{"backend": "old"', '{"filename": "a"}', '"text"', "[1]"])
def test_a_row_that_cannot_be_parsed_stops_it(moved: World, value: str) -> None:
    moved.sql("INSERT INTO pages (slug, image) VALUES ('p', :value)", value=value)
    with pytest.raises(RunError, match="cannot be read"):
        purge(moved)
    assert len(left(moved)) == 5


def test_a_table_that_is_gone_stops_it(moved: World) -> None:
    moved.sql("DROP TABLE pages")
    with pytest.raises(ConfigurationError, match="no such table pages"):
        purge(moved)
    assert len(left(moved)) == 5


def test_a_table_that_may_not_be_read_stops_it(tmp_path: Path, postgres_url: str) -> None:
    world = World(postgres_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(2)
    world.run()
    role = f"reader_{os.getpid()}"
    world.sql(f"CREATE ROLE {role} LOGIN")
    try:
        world.sql(f"GRANT SELECT, UPDATE, INSERT ON ALL TABLES IN SCHEMA public TO {role}")
        world.sql(f"REVOKE ALL ON pages FROM {role}")
        engine = sa.create_engine(sa.make_url(postgres_url).set(username=role))
        application = Application(engine=engine, columns=world.columns, backends=world.application.backends)
        with pytest.raises(RunError, match=r"pages\.image cannot be read: .*permission denied"):
            purge(world, application=application)
        engine.dispose()
    finally:
        world.sql(f"DROP OWNED BY {role}")
        world.sql(f"DROP ROLE {role}")
        world.close()
    assert len(left(world)) == 2


def test_a_source_that_was_replaced(moved: World) -> None:
    content = moved.old.get_content(D0)
    moved.old.fs.pipe(moved.old._prepare_path(D0), bytes(reversed(content)))
    report = purge(moved)
    assert report.counts == {OutcomeKind.DELETED: 4, OutcomeKind.MODIFIED: 1}
    assert (left(moved), report.exit_code) == ({D0}, 1)


def test_a_copy_that_is_gone(moved: World) -> None:
    moved.new.delete_object(D0)
    report = purge(moved)
    assert report.counts == {OutcomeKind.DELETED: 4, OutcomeKind.MISSING: 1}
    assert left(moved) == {D0}


def test_a_copy_that_was_replaced(moved: World) -> None:
    moved.new.save_object(FileObject(backend="new", filename=D0), bytes(reversed(moved.contents[D0])))
    report = purge(moved)
    assert report.counts == {OutcomeKind.DELETED: 4, OutcomeKind.MODIFIED: 1}
    assert left(moved) == {D0}


def test_a_copy_written_anew_with_the_same_bytes_is_one(moved: World) -> None:
    moved.new.save_object(FileObject(backend="new", filename=D0), moved.contents[D0])
    assert purge(moved).counts == {OutcomeKind.DELETED: 5}


def test_evidence_that_tells_only_the_size_is_none(moved: World) -> None:
    """Neither side has a tag, a time or a version in the journal, and no digest: nothing says that they are the same."""
    moved.sql(
        "UPDATE migrate_storage_object SET source_etag = NULL, source_modified = NULL, source_version = NULL, sha256 = NULL "
        "WHERE source_path = :path", path=D0,
    )  # fmt: skip
    assert purge(moved).counts == {OutcomeKind.DELETED: 4, OutcomeKind.MODIFIED: 1}
    assert left(moved) == {D0}


def test_the_same_place_is_never_purged(tmp_path: Path, sqlite_url: str) -> None:
    world = World(
        sqlite_url, places.old_local(tmp_path / "files").build(), places.new_local(tmp_path / "files").build()
    )
    world.fill(4)
    world.run()
    report = purge(world)
    assert report.counts == {OutcomeKind.KEPT: 4}
    assert set(kept(report, world).values()) == {"source and destination are one place"}
    assert len(left(world)) == 4


def test_a_destination_that_came_to_be_the_source_is_never_purged(moved: World, tmp_path: Path) -> None:
    """Since the run somebody made a link of the destination's folder to the source's."""
    Path(tmp_path / "new").rename(tmp_path / "was")
    (tmp_path / "new").symlink_to(moved.old.prefix)
    assert purge(moved).counts == {OutcomeKind.KEPT: 5}
    assert len(left(moved)) == 5


def test_a_key_that_was_registered_anew_is_not_what_was_copied(moved: World, tmp_path: Path) -> None:
    """Copies with the same times and sizes stand elsewhere, and the old key leads there now."""
    import shutil

    shutil.copytree(moved.old.prefix, tmp_path / "elsewhere")
    moved.old.prefix = str(tmp_path / "elsewhere")
    report = purge(moved)
    assert report.counts == {OutcomeKind.KEPT: 5}
    assert "registered for another place" in kept(report, moved)[D0]
    assert len(left(moved)) == 5


@pytest.mark.parametrize("limit", [4, 5])
def test_more_than_max_delete_and_nothing_is_deleted(moved: World, limit: int) -> None:
    if limit == 5:
        assert purge(moved, max_delete=limit).counts == {OutcomeKind.DELETED: 5}
        return
    for yes in (False, True):
        with pytest.raises(ConfigurationError, match="5 objects would be deleted, --max-delete allows 4"):
            purge(moved, max_delete=limit, yes=yes)
    assert len(left(moved)) == 5


def test_objects_whose_row_was_deleted_are_a_class_of_their_own(moved: World) -> None:
    """The application deleted one row, and with it the copy; another row was deleted by a statement, the copy stands."""
    with moved.session() as session:
        session.delete(session.get_one(Document, 1))
        session.commit()
    moved.sql("DELETE FROM documents WHERE id = 2")
    with contextlib.suppress(FileNotFoundError):
        moved.new.get_content(D0)
        pytest.fail("the application's listener deletes the file with its row")
    report = purge(moved)
    assert report.counts == {OutcomeKind.DELETED: 3, OutcomeKind.KEPT: 2}
    assert "--include-deleted-rows" in kept(report, moved)[D0]
    assert left(moved) == {D0, D1}
    report = purge(moved, include_deleted_rows=True)
    assert (report.counts, report.verified_by) == ({OutcomeKind.DELETED: 2}, {ROW_DELETED: 2})
    assert left(moved) == set()
    assert moved.check(backend="new") == 3


def test_what_is_kept_is_counted_by_its_reason_and_no_command_that_deletes_nothing_is_suggested(moved: World) -> None:
    report = purge(moved, older_than=7 * 86400.0, yes=False)
    assert report.kept == {"verified less than 7 days ago (--older-than)": 5}
    assert report.next_command == ""
    reference(moved, D0)
    report = purge(moved, yes=False)
    assert report.kept == {"a row or list still names it": 1}
    assert report.next_command == "migrate-storage purge --yes"


def test_it_is_a_purge_from_its_first_event_on(moved: World) -> None:
    for yes in (False, True):
        moved.events.clear()
        purge(moved, yes=yes)
        assert [event.job for event in moved.events if type(event).__name__ == "RunStarted"] == ["purge"]


def test_a_row_that_came_back_to_the_old_key_keeps_its_object(moved: World) -> None:
    moved.sql("UPDATE documents SET file = :value WHERE id = 1", value=json.dumps({"backend": "old", "filename": D0}))
    assert purge(moved, include_deleted_rows=True).counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}
    assert left(moved) == {D0}


def test_a_row_that_comes_back_while_the_purge_goes_on(moved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read again from time to time; here before each object."""
    monkeypatch.setattr("migrate_storage.jobs.purge.job.MIN_REREAD_SECONDS", 0.0)
    monkeypatch.setattr("migrate_storage.jobs.purge.job.REREAD_TIME_RATIO", 0)
    names = set(moved.contents)

    def listen(event: Any) -> None:
        if type(event).__name__ == "ObjectFinished" and event.outcome.kind is OutcomeKind.DELETED and len(names) == 5:
            names.discard(event.outcome.source.path)
            reference(moved, min(names))

    options = PurgeOptions(older_than=0.0, yes=True, lease_ttl=1.0)
    report = PurgeJob(moved.application, options, listener=listen).run()
    assert report.counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}
    assert left(moved) == {min(names)}


def test_keys_with_the_letters_of_patterns_are_keys(world: World) -> None:
    names = ["a*.bin", "[ab].bin", "?.bin", "{a,b}.bin", "**"]
    others = ["ab.bin", "a.bin", "b.bin"]
    world.add(*(Document(id=number, title="x", file=world.file(name)) for number, name in enumerate(names)))
    assert world.run().exit_code == 0
    for name in others:
        world.old.fs.pipe(world.old._prepare_path(name), b"another's")
    assert purge(world).counts == {OutcomeKind.DELETED: 5}
    assert left(world) == set(others)


def leftovers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two documents are copied in vain: their rows change right before they are re-pointed."""
    from migrate_storage.database.compare_and_swap import CompareAndSwap

    original, first = CompareAndSwap.swap_all, [True]

    def swap_all(self: CompareAndSwap, connection: Any, *args: Any) -> list[bool]:
        if first:
            first.pop()
            connection.execute(sa.text("UPDATE documents SET file = NULL WHERE id IN (1, 2)"))
        return original(self, connection, *args)

    world.fill(5)
    with monkeypatch.context() as patch:
        patch.setattr(CompareAndSwap, "swap_all", swap_all)
        world.run()
    assert {name for name, entry in world.journal.items() if entry.state == "unreferenced"} == {D0, D1}


def test_leftovers_go_only_while_they_are_what_we_put(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    leftovers(world, monkeypatch)
    world.new.save_object(FileObject(backend="new", filename=D1), bytes(reversed(world.contents[D1])))
    report = purge(world, unreferenced_copies=True)
    assert report.counts == {OutcomeKind.DELETED: 1, OutcomeKind.MODIFIED: 1}
    with pytest.raises(FileNotFoundError):
        world.new.get_content(D0)
    assert world.new.get_content(D1) == bytes(reversed(world.contents[D1]))
    assert len(left(world)) == 5, "sources are not touched"
    assert world.journal[D0].state == "copy_deleted"
    assert world.check(backend="new") == 3


@pytest.mark.parametrize("breach", ["not ours", "unknown", "named", "listed", "young"])
def test_leftovers_that_must_stay(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breach: str) -> None:
    leftovers(world, monkeypatch)
    options: dict[str, Any] = {}
    if breach in ("not ours", "unknown"):
        world.sql("UPDATE migrate_storage_object SET written_by_us = :ours WHERE source_path = :path", ours=False if breach == "not ours" else None, path=D0)  # fmt: skip
    elif breach == "named":
        reference(world, D0, key="new")
    elif breach == "listed":
        (tmp_path / "used").write_text(D0)
        options = {"references": (str(tmp_path / "used"),)}
    else:
        world.sql(
            "UPDATE migrate_storage_object SET updated = :then WHERE source_path <> :path",
            then=time.time() - 9999,
            path=D0,
        )
        options = {"older_than": 5000.0}
    assert purge(world, unreferenced_copies=True, **options).counts == {OutcomeKind.DELETED: 1, OutcomeKind.KEPT: 1}
    assert world.new.get_content(D0) == world.contents[D0]


def test_a_leftover_that_was_purged_is_moved_again_and_can_be_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrate_storage.jobs.revert.job import RevertJob, RevertOptions

    leftovers(world, monkeypatch)
    purge(world, unreferenced_copies=True)
    world.sql("UPDATE documents SET file = :value WHERE id = 1", value=json.dumps({"backend": "old", "filename": D0, "content_type": world.types[D0], "metadata": {"name": D0}}))  # fmt: skip
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 4
    assert RevertJob(world.application, RevertOptions(lease_ttl=1.0)).run().exit_code == 0
    assert world.check(backend="old") == 4


class _Death(BaseException):
    """As if killed: nothing catches it."""


@pytest.mark.parametrize("deleted", [False, True])
def test_killed_between_the_intent_and_its_end(moved: World, monkeypatch: pytest.MonkeyPatch, deleted: bool) -> None:
    original = FsspecStore.delete

    def delete(self: Any, path: str) -> None:
        if deleted:
            original(self, path)
        raise _Death

    def delete_obstore(self: ObstoreStore, path: str) -> None:
        if ".migrate-storage" in path:
            return keep(self, path)
        if deleted:
            keep(self, path)
        raise _Death

    keep = ObstoreStore.delete
    with monkeypatch.context() as patch:
        patch.setattr(FsspecStore, "delete", delete)
        patch.setattr(ObstoreStore, "delete", delete_obstore)
        with pytest.raises(_Death):
            purge(moved)
    [name] = [name for name, entry in moved.journal.items() if entry.state == "source_deleting"]
    assert (name in left(moved)) is not deleted
    report = purge(moved)
    assert (report.counts, report.exit_code) == ({OutcomeKind.DELETED: 5}, 0)
    assert report.verified_by == ({COPY_VERIFIED: 4, DELETED_BEFORE: 1} if deleted else {COPY_VERIFIED: 5})
    assert left(moved) == set()
    assert {entry.state for entry in moved.journal.values()} == {"source_deleted"}


def test_one_that_a_killed_purge_had_in_hand_is_judged_anew(moved: World) -> None:
    moved.sql("UPDATE migrate_storage_object SET state = 'source_deleting' WHERE source_path = :path", path=D0)
    reference(moved, D0)
    assert purge(moved).counts == {OutcomeKind.DELETED: 4, OutcomeKind.KEPT: 1}
    assert moved.journal[D0].state == "verified"
    assert left(moved) == {D0}


def test_a_store_that_refuses_stops_it_at_once(moved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def delete(self: Any, path: str) -> None:
        if ".migrate-storage" not in path:
            refused.append(path)
            raise PermissionError("denied")

    monkeypatch.setattr(ObstoreStore, "delete", delete)
    monkeypatch.setattr(FsspecStore, "delete", delete)
    report = purge(moved)
    assert (report.state, report.exit_code, len(refused)) == ("failed", 3, 1)
    assert "nothing after this object was deleted" in report.error


def test_it_excludes_and_is_excluded(moved: World) -> None:
    with (
        contextlib.closing(Database(moved.url)) as database,
        hold_lease(Journal(database), 0.6, stopping=Event(), lost=print),
        pytest.raises(LeaseHeldError),
    ):
        purge(moved, lease_ttl=0.3)
    assert len(left(moved)) == 5


def test_it_names_what_it_is_asked_for(moved: World) -> None:
    purged = purge(moved)
    assert purge(moved).objects == 0, "the latest run is meant, not the purge after it"
    with pytest.raises(ConfigurationError, match="is a purge, not a run"):
        purge(moved, run=purged.run)


# -- services: which places may be one


def s3_world(url: str, old: places.Registration, new: places.Registration) -> World:
    return World(url, old.build(), new.build())


def holds(server: Any, bucket: str) -> set[str]:
    listed = server.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {each["Key"] for each in listed if not each["Key"].startswith(".migrate-storage/")}


@pytest.fixture
def twins(rclone_s3: Any, moto_s3: Any) -> Iterator[str]:
    """A bucket of one name on two servers."""
    bucket = rclone_s3.new_bucket()
    moto_s3.client.create_bucket(Bucket=bucket)
    yield bucket


def test_one_name_on_two_servers_is_two_places(rclone_s3: Any, moto_s3: Any, twins: str, sqlite_url: str) -> None:
    world = s3_world(sqlite_url, places.old_s3(rclone_s3, twins), places.new_s3(moto_s3, twins))
    world.fill(4)
    # Equal objects of one second might be a replica.
    time.sleep(1.1)
    assert world.run().strategy == "move"
    third = places.new_s3(
        moto_s3.behind(moto_s3.endpoint.replace("127.0.0.1", "localhost")), moto_s3.new_bucket(), "third"
    )
    application = world.application
    application = Application(
        engine=application.engine,
        columns=application.columns,
        backends={**application.backends, "third": third.build()},
    )
    report = purge(world, application=application)
    assert report.counts == {OutcomeKind.DELETED: 4}
    assert holds(rclone_s3, twins) == set()
    assert world.check(backend="new") == 4
    world.close()


def test_one_server_under_two_names_is_one_place(rclone_s3: Any, sqlite_url: str) -> None:
    bucket = rclone_s3.new_bucket()
    alias = rclone_s3.behind(rclone_s3.endpoint.replace("127.0.0.1", "localhost"))
    world = s3_world(sqlite_url, places.old_s3(rclone_s3, bucket), places.new_s3(alias, bucket))
    world.fill(4)
    assert world.run().strategy == "rekey"
    assert purge(world).counts == {OutcomeKind.KEPT: 4}
    assert len(holds(rclone_s3, bucket)) == 4
    world.close()


def test_a_row_under_the_server_s_other_name_keeps_its_object(rclone_s3: Any, sqlite_url: str) -> None:
    bucket = rclone_s3.new_bucket()
    world = s3_world(sqlite_url, places.old_s3(rclone_s3, bucket), places.new_s3(rclone_s3, rclone_s3.new_bucket()))
    world.fill(3)
    world.run()
    alias = rclone_s3.behind(rclone_s3.endpoint.replace("127.0.0.1", "localhost"))
    third = places.new_s3(alias, bucket, "third")
    reference(world, D0, key="third")
    application = world.application
    application = Application(
        engine=application.engine,
        columns=application.columns,
        backends={**application.backends, "third": third.build()},
    )
    assert purge(world, application=application).counts == {OutcomeKind.DELETED: 2, OutcomeKind.KEPT: 1}
    assert holds(rclone_s3, bucket) == {D0}
    world.close()


def test_a_versioned_bucket_keeps_the_bytes_and_the_report_says_so(
    moto_s3: Any, tmp_path: Path, sqlite_url: str
) -> None:
    bucket = moto_s3.new_bucket()
    moto_s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    world = s3_world(sqlite_url, places.old_s3(moto_s3, bucket), places.new_local(tmp_path / "new"))
    world.fill(3)
    assert world.run().exit_code == 0
    report = purge(world)
    assert (report.counts, report.bytes_copied) == ({OutcomeKind.DELETED: 3}, 0)
    assert [(note.code, note.subject) for note in report.notes] == [("purge.versions", "3 objects")]
    assert holds(moto_s3, bucket) == set()
    assert len(moto_s3.client.list_object_versions(Bucket=bucket, Prefix="docs/")["Versions"]) == 3
    world.close()
