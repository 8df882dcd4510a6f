"""Orphans: what no row names is found, moved aside and put back; what anything names never is. Each test breaks one thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, StoppedError
from migrate_storage.core.events import ObjectFinished, RunStarted
from migrate_storage.core.model import OutcomeKind
from migrate_storage.database.connection import Database
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.orphans.quarantine import COPY_RETENTION_AFTER_CRASH_SECONDS
from migrate_storage.jobs.orphans.reachability import Reachability
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.journal import Journal
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.journal.schema import Tables
from migrate_storage.reporting import Report
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine import registrations as places
from tests.support.engine.hostile_keys import hostile_names
from tests.support.engine.orphans_lives import OrphansLife
from tests.support.engine.other_process import ROOT
from tests.support.engine.world import Document, World
from tests.support.evidence import Evidence
from tests.support.fault_proxy import fault_proxy

ORPHAN, IN_USE, MISSING, KNOWN = (
    OutcomeKind.ORPHAN,
    OutcomeKind.IN_USE,
    OutcomeKind.MISSING,
    OutcomeKind.KNOWN_MISSING,
)
QUARANTINED, RESTORED = OutcomeKind.QUARANTINED, OutcomeKind.RESTORED
D0 = "docs/0/d0.bin"


def orphans(world: World, *, application: Application | None = None, **options: Any) -> Report:
    given = {"keys": ("old",), "min_age": 0.0, "lease_ttl": 1.0, "concurrency": 4, **options}
    del world.events[:]
    return OrphansJob(application or world.application, OrphansOptions(**given), listener=world.events.append).run()


def found(world: World, kind: OutcomeKind = ORPHAN) -> set[str]:
    ended = (event.outcome for event in world.events if isinstance(event, ObjectFinished))
    return {outcome.source.path for outcome in ended if outcome.kind is kind}


def test_it_is_orphans_from_its_first_event_on(world: World) -> None:
    for yes in (False, True):
        orphans(world, quarantine="aside", yes=yes)
        assert [event.job for event in world.events if isinstance(event, RunStarted)] == ["orphans"]


def stray(world: World, *names: str, content: bytes = b"nobody's") -> None:
    for name in names:
        world.old.save_object(FileObject(backend="old", filename=name, content_type="text/x-stray"), content)


def disk(world: World) -> dict[str, bytes]:
    root = Path(world.old.prefix)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    # A job that was killed while it tried a store leaves a probe object.
    return {name: path.read_bytes() for name, path in files.items() if SCRATCH not in name}


def places_of(world: World) -> dict[str, bytes]:
    """What is not in quarantine."""
    return {name: content for name, content in disk(world).items() if not name.startswith("q/")}


def with_backends(world: World, *more: Any) -> Application:
    application = world.application
    backends = {**application.backends, **{backend.key: backend for backend in more}}
    return Application(engine=application.engine, columns=application.columns, backends=backends)


def test_what_no_row_names_is_told_apart_from_what_a_row_names(world: World) -> None:
    world.fill(5, albums=3, notes=4)
    stray(world, "a/stray.bin", "b")
    before, rows = disk(world), world.dump()
    report = orphans(world)
    assert (report.kind, report.state, report.exit_code, report.dry_run) == ("orphans", "completed", 1, False)
    assert found(world) == {"a/stray.bin", "b"}
    assert report.counts == {ORPHAN: 2, IN_USE: len(before) - 2}
    assert (disk(world), world.dump()) == (before, rows)


def test_nothing_is_left_to_look_at_where_every_object_is_named(world: World) -> None:
    world.fill(3)
    report = orphans(world)
    assert (report.exit_code, report.counts) == (0, {IN_USE: 3})


def test_an_upload_in_flight_is_kept_by_its_age(world: World) -> None:
    stray(world, "uploading", "old enough")
    os.utime(Path(world.old.prefix) / "old enough", (time.time() - 7200,) * 2)
    report = orphans(world, min_age=3600.0)
    assert found(world) == {"old enough"}
    assert report.in_use == {"younger than --min-age": 1}
    assert OrphansOptions().min_age == 86400


def test_a_row_that_comes_between_the_listing_and_the_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(world, "just saved", "left behind")
    read = Reachability.read

    def late(self: Reachability, *args: Any) -> None:
        world.add(Document(id=1, title="x", file=FileObject(backend="old", filename="just saved")))
        read(self, *args)

    monkeypatch.setattr(Reachability, "read", late)
    assert orphans(world, quarantine="q", yes=True).counts == {QUARANTINED: 1, IN_USE: 1}
    assert disk(world).keys() >= {"just saved"}


def test_every_column_every_key_and_every_list_counts(world: World, tmp_path: Path) -> None:
    stray(world, "one", "in a list", "through the parent", "listed", "of a query", "nobody")
    parent = FSSpecBackend(key="parent", fs="file", prefix=str(Path(world.old.prefix).parent))
    value = json.dumps({"backend": "parent", "filename": "old/through the parent"})
    world.sql("INSERT INTO pages (slug, image) VALUES ('p', :v)", v=value)
    world.sql("INSERT INTO notes (owner, number, voice) VALUES ('o', 1, :v)", v='{"backend": "old", "filename": "one"}')
    pictures = json.dumps([None, {"backend": "old", "filename": "in a list"}])
    world.sql("INSERT INTO albums (id, pictures) VALUES (:id, :v)", id=b"0" * 16, v=pictures)
    listed = tmp_path / "listed.txt"
    listed.write_text("listed\n")
    references = (str(listed), "SELECT 'of a query'")
    orphans(world, application=with_backends(world, parent), references=references)
    assert found(world) == {"nobody"}


def test_two_keys_for_one_place_make_one_orphan(world: World) -> None:
    world.fill(2)
    stray(world, "x")
    twin = ObstoreBackend(key="twin", fs=f"file://{world.old.prefix}")
    world.sql("UPDATE documents SET file = :v WHERE id = 1", v=json.dumps({"backend": "twin", "filename": D0}))
    report = orphans(world, application=with_backends(world, twin), keys=("old", "twin"))
    assert report.counts == {ORPHAN: 1, IN_USE: 2}


def test_a_link_is_no_orphan_of_its_own(world: World) -> None:
    world.fill(1)
    (Path(world.old.prefix) / "link").symlink_to(Path(world.old.prefix) / D0)
    stray(world, "alone")
    (Path(world.old.prefix) / "to alone").symlink_to(Path(world.old.prefix) / "alone")
    orphans(world)
    assert found(world) == {"alone"}


# -- nothing is called an orphan


def refused(world: World, code: int, **options: Any) -> str:
    """The job fails, and has called nothing an orphan, nor moved anything."""
    before = disk(world)
    try:
        report = orphans(world, quarantine="q", yes=True, **options)
    except ConfigurationError as error:
        assert code == 2
        message = str(error)
    else:
        assert (report.exit_code, report.state) == (code, "failed")
        assert not {ORPHAN, QUARANTINED} & report.counts.keys()
        message = report.error
    assert not found(world)
    assert disk(world) == before
    return message


def test_a_row_that_names_an_unregistered_key(world: World) -> None:
    stray(world, "x")
    world.sql("INSERT INTO pages (slug, image) VALUES ('p', :v)", v='{"backend": "gone", "filename": "y"}')
    assert "'gone', which is not registered" in refused(world, 3)


def test_a_row_that_cannot_be_read(world: World) -> None:
    stray(world, "x")
    world.sql("INSERT INTO pages (slug, image) VALUES ('p', 'no JSON')")
    assert "cannot be read" in refused(world, 3)


def test_a_table_that_is_gone(world: World) -> None:
    stray(world, "x")
    world.sql("DROP TABLE pages")
    assert "pages" in refused(world, 2)


def test_a_backend_that_cannot_be_resolved(world: World) -> None:
    stray(world, "x")

    class Strange:
        key, driver = "strange", "strange"

    assert "'strange' cannot be resolved" in refused(world, 2, application=with_backends(world, Strange()))


def test_a_listing_that_breaks_off_half_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(world, "a/x", "b/x", "c/x")
    listing = FsspecStore.list

    def broken(self: FsspecStore, prefix: str, **more: Any) -> Iterator[Any]:
        objects = listing(self, prefix, **more)
        yield next(objects)
        raise ConnectionResetError("the line went dead")

    monkeypatch.setattr(FsspecStore, "list", broken)
    assert "broke off: ConnectionResetError" in refused(world, 3) or "line went dead" in refused(world, 3)


def test_a_key_that_nobody_registered(world: World) -> None:
    with pytest.raises(ConfigurationError, match="no storage backend is registered under 'olf'; registered: new, old"):
        orphans(world, keys=("olf",))


def test_a_folder_that_is_not_there(world: World) -> None:
    Path(world.old.prefix).rmdir()
    with pytest.raises(ConfigurationError, match="is its disk mounted"):
        orphans(world)


def test_more_than_allowed(world: World) -> None:
    stray(world, "x", "y", "z")
    before = disk(world)
    with pytest.raises(ConfigurationError, match="3 objects would be moved, --max-quarantine allows 2"):
        orphans(world, quarantine="q", max_quarantine=2, yes=True)
    assert disk(world) == before


@pytest.mark.parametrize("prefix", ["", "/", "..", "a/../b", ".migrate-storage/x", "\x1b[2J", "sub", "sub/deeper"])
def test_a_silly_quarantine(world: World, prefix: str) -> None:
    stray(world, "x")
    (Path(world.old.prefix) / "sub" / "files").mkdir(parents=True)
    inner = FSSpecBackend(key="inner", fs="file", prefix=f"{world.old.prefix}/sub/files")
    prefix = f"{prefix}/files/q" if prefix == "sub/deeper" else prefix
    with pytest.raises(ConfigurationError, match="--quarantine"):
        orphans(world, application=with_backends(world, inner), quarantine=prefix.replace("deeper/", ""), yes=True)
    assert disk(world).keys() == {"x"}


def test_a_quarantine_where_something_is_already(world: World) -> None:
    stray(world, "x", "q/theirs")
    with pytest.raises(ConfigurationError, match="old:q/theirs already"):
        orphans(world, quarantine="q", yes=True)
    assert disk(world).keys() == {"x", "q/theirs"}


def test_a_bucket_that_each_row_names_cannot_be_listed(world: World, moto_s3: Any) -> None:
    anywhere = places.old_s3(moto_s3, None, key="anywhere").build()
    with pytest.raises(ConfigurationError, match="no bucket or folder of its own"):
        orphans(world, application=with_backends(world, anywhere), keys=("anywhere",))


# -- aside and back


def test_aside_and_back_again(world: World) -> None:
    world.fill(4)
    stray(world, "x", "d/y", "d/é ü#1%.bin", content=b"1" * 5000)
    before = disk(world)
    dry = orphans(world, quarantine="q")
    assert (dry.state, dry.exit_code, disk(world)) == ("planned", 0, before)
    done = orphans(world, quarantine="q", yes=True)
    assert (done.state, done.exit_code) == ("completed", 0)
    assert done.counts == dry.counts == {QUARANTINED: 3, IN_USE: 4}
    aside = disk(world)
    assert {name.partition("/")[0] for name in aside.keys() - before.keys()} == {"q"}
    assert len(aside) == len(before) and world.check() == 4
    again = orphans(world, quarantine="q", yes=True)
    assert (again.exit_code, again.counts, again.in_use["in quarantine"]) == (0, {IN_USE: 7}, 3)
    assert orphans(world, restore="all").state == "planned"
    assert disk(world) == aside
    back = orphans(world, restore=done.run, yes=True)
    assert (back.exit_code, back.counts) == (0, {RESTORED: 3})
    assert disk(world) == before
    assert orphans(world, restore="all", yes=True).counts == {}


def place(kind: str, request: pytest.FixtureRequest) -> Any:
    server = request.getfixturevalue({"moto": "moto_s3", "rclone": "rclone_s3", "azure": "azurite"}[kind])
    if kind == "azure":
        return places.new_azure(server, server.new_container(), key="old")
    if kind == "moto":
        return places.old_s3(server, f"{server.new_bucket()}/below/it")
    return places.new_s3(server, server.new_bucket(), key="old")


@pytest.mark.parametrize("kind", ["moto", "rclone", "azure"])
def test_on_real_servers_what_came_back_has_its_bytes_and_attributes(
    kind: str, request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path
) -> None:
    world = World(sqlite_url, place(kind, request).build(), places.new_local(tmp_path / "new").build())
    store, lead = store_of(world)
    metadata = {} if kind == "rclone" else {"who": "nobody", "n": "1"}
    from migrate_storage.core.model import Attributes

    given = Attributes(content_type="image/x-stray", metadata=metadata)
    if kind != "rclone":
        given = Attributes(
            content_type="image/x-stray", metadata=metadata, cache_control="no-store", content_language="de"
        )
    content = {"x": b"1", "d/y z.bin": b"", "d/ü": os.urandom(70_000), "d/big": os.urandom(9 << 20)}
    for name, piece in content.items():
        part = None if len(piece) < 8 << 20 else 8 << 20
        body: Any = piece if part is None else iter([piece])
        store.put(lead + name, body, attributes=given, create=False, part_size=part)
    kept = {name: store.open(lead + name).attributes for name in content}
    named = world.file("named")
    world.add(Document(id=1, title="x", file=named))
    done = orphans(world, quarantine=".quarantine", yes=True)
    assert (done.exit_code, done.counts) == (0, {QUARANTINED: 4, IN_USE: 1})
    for name in content:
        with pytest.raises(FileNotFoundError):
            store.head(lead + name)
    back = orphans(world, restore="all", yes=True)
    assert (back.exit_code, back.counts) == (0, {RESTORED: 4})
    for name, piece in content.items():
        opened = store.open(lead + name)
        assert opened.attributes == kept[name]
        assert opened.read() == piece
    assert {meta.path for meta in store.list(lead)} == {lead + name for name in (*content, "named")}
    world.close()


def store_of(world: World) -> tuple[Any, str]:
    from migrate_storage.stores.resolved_backend import ResolvedBackend

    store, path = ResolvedBackend(world.old).resolve("x")
    return store, path[:-1]


@pytest.mark.parametrize("moment", ["before the delete", "after the delete"])
def test_a_row_is_pointed_at_an_orphan_while_it_is_moved(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    stray(world, "x", "y")
    before = disk(world)
    reads = iter(range(9))
    read = Reachability.read_rows

    def late(self: Reachability) -> None:
        # The first reading is the one that calls it an orphan.
        if next(reads) == (1 if moment == "before the delete" else 2):
            world.add(Document(id=1, title="x", file=FileObject(backend="old", filename="x")))
        read(self)

    monkeypatch.setattr(Reachability, "read_rows", late)
    report = orphans(world, quarantine="q", yes=True)
    kind = IN_USE if moment == "before the delete" else RESTORED
    assert report.counts == {QUARANTINED: 1, kind: 1}
    assert disk(world)["x"] == before["x"] and "y" not in disk(world)
    assert len(disk(world)) == 2, "its copy is gone from quarantine"


def test_a_row_that_is_pointed_later_at_what_is_in_quarantine_is_told_what_to_do(world: World) -> None:
    stray(world, "x")
    orphans(world, quarantine="q", yes=True)
    world.add(Document(id=1, title="x", file=FileObject(backend="old", filename="x")))
    report = orphans(world, acknowledge_missing="lost", yes=True)
    assert report.counts == {OutcomeKind.CONFLICT: 1, IN_USE: 1}, "never marked as a loss"
    assert "--restore puts it back" in report.problems[0].reason
    assert orphans(world, restore="all", yes=True).exit_code == 0
    assert orphans(world).exit_code == 0


def test_an_orphan_that_is_replaced_while_it_is_copied_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(world, "x")
    read = Reachability.read_rows
    reads = iter(range(9))

    def late(self: Reachability) -> None:
        if next(reads) == 1:
            stray(world, "x", content=b"somebody's new content")
        read(self)

    monkeypatch.setattr(Reachability, "read_rows", late)
    report = orphans(world, quarantine="q", yes=True)
    assert report.counts == {OutcomeKind.MODIFIED: 1}
    assert disk(world)["x"] == b"somebody's new content"


def test_something_else_that_stands_where_an_orphan_was_is_not_overwritten(world: World) -> None:
    stray(world, "x", "y")
    orphans(world, quarantine="q", yes=True)
    stray(world, "x", content=b"new")
    report = orphans(world, restore="all", yes=True)
    assert report.counts == {OutcomeKind.DESTINATION_EXISTS: 1, RESTORED: 1}
    assert disk(world)["x"] == b"new" and disk(world)["y"] == b"nobody's"
    assert b"nobody's" in [content for name, content in disk(world).items() if name.startswith("q/")]
    (Path(world.old.prefix) / "x").unlink()
    assert orphans(world, restore="all", yes=True).counts == {RESTORED: 1}
    assert disk(world) == {"x": b"nobody's", "y": b"nobody's"}


def test_a_copy_that_was_touched_in_quarantine_is_not_put_back(world: World) -> None:
    stray(world, "x", "y")
    done = orphans(world, quarantine="q", yes=True)
    folder = Path(world.old.prefix) / "q" / done.run
    (folder / "x").write_bytes(b"tampered")
    (folder / "y").unlink()
    report = orphans(world, restore="all", yes=True)
    assert report.counts == {OutcomeKind.MODIFIED: 1, MISSING: 1}
    assert disk(world).keys() == {f"q/{done.run}/x"}


def killed_at_steps(world: World, tmp_path: Path, steps: range, **job: Any) -> None:
    """Killed at each of these steps, then gone on or not; put back, everything is as it was."""
    world.fill(1)
    stray(world, "x", "y")
    before = disk(world)
    for number in steps:
        if "restore" in job:
            assert orphans(world, quarantine="q", yes=True).exit_code == 0
        options = {"min_age": 0.0, "lease_ttl": 1.0, **job}
        lived = OrphansLife(
            url=world.url, old=Path(world.old.prefix), new=tmp_path / "new", steps=number, options=options
        ).live()
        assert set(disk(world).values()) == set(before.values()), "no content is lost at any moment"
        if number % 2 and not lived:
            assert orphans(world, yes=True, **job).exit_code == 0, "the same job goes on from there"
        back = orphans(world, restore="all", yes=True)
        assert back.exit_code == 0, back.problems
        assert places_of(world) == before, f"killed at step {number}"
        # A copy that is kept for a job which may yet wake up goes with the next one, when that time is over.
        world.sql(
            "UPDATE migrate_storage_object SET updated = updated - :drain WHERE state = 'quarantine_deleting'",
            drain=COPY_RETENTION_AFTER_CRASH_SECONDS,
        )
        assert orphans(world, restore="all", yes=True).exit_code == 0
        assert disk(world) == before, f"killed at step {number}"
        if lived:
            return
    raise AssertionError(f"there are more steps than {steps}")


@pytest.mark.parametrize("first", [1, 2])
def test_killed_while_moving_aside(world: World, tmp_path: Path, first: int) -> None:
    killed_at_steps(world, tmp_path, range(first, 120, 5), quarantine="q")


def test_killed_while_putting_back(world: World, tmp_path: Path) -> None:
    killed_at_steps(world, tmp_path, range(1, 120, 5), restore="all")


@pytest.mark.soak
@pytest.mark.parametrize("job", [{"quarantine": "q"}, {"restore": "all"}], ids=["moving aside", "putting back"])
def test_killed_at_every_step(world: World, tmp_path: Path, job: dict[str, Any]) -> None:
    killed_at_steps(world, tmp_path, range(1, 120), **job)


@pytest.mark.parametrize("seed", [0])
def test_hostile_names_go_aside_and_back_or_are_told(world: World, seed: int) -> None:
    root = os.fsencode(world.old.prefix)
    for number, name in enumerate(hostile_names(160, seed)):
        try:
            path = os.path.normpath(os.path.join(root, name.strip("/").encode("utf-8")))
            if not path.startswith(root + b"/"):
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(b"%d" % number)
        except (OSError, ValueError):
            continue
    before = {path: path.read_bytes() for path in Path(world.old.prefix).rglob("*") if path.is_file()}
    assert len(before) > 60
    report = orphans(world, quarantine="q", yes=True)
    moved = report.counts[QUARANTINED]
    assert moved > 60 and moved + report.problem_count == len(before)
    assert report.problem_count < 20, report.problems
    back = orphans(world, restore="all", yes=True)
    assert back.counts == {RESTORED: moved}
    assert {path: path.read_bytes() for path in Path(world.old.prefix).rglob("*") if path.is_file()} == before


def test_a_key_that_obstore_cannot_list_is_listed_through_fsspec(moto_s3: Any, sqlite_url: str, tmp_path: Path) -> None:
    bucket = moto_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_local(tmp_path / "new").build())
    client = moto_s3.client
    for name in ("a//b", "plain", "named/"):
        client.put_object(Bucket=bucket, Key=name, Body=b"1")
    world.add(Document(id=1, title="x", file=FileObject(backend="old", filename="named/")))
    report = orphans(world, quarantine="q", yes=True)
    assert [note.code for note in report.notes] == ["listing.fallback"]
    assert report.counts[QUARANTINED] == 1
    assert [outcome.source.path for outcome in report.problems] == ["a//b"]
    assert "it is not moved" in report.problems[0].reason
    world.close()


def test_what_a_run_still_needs_is_no_orphan(world: World) -> None:
    world.fill(3)
    stray(world, "nobody")
    assert world.run(copy_only=True).exit_code == 0
    report = orphans(world, keys=("old", "new"))
    assert found(world) == {"nobody"} and report.in_use["needed for revert, resume or purge"] == 3, (
        "copies without a row"
    )
    assert world.run().exit_code == 0
    report = orphans(world, keys=("old", "new"))
    assert found(world) == {"nobody"} and report.in_use["needed for revert, resume or purge"] == 3, "sources for revert"
    world.sql("DELETE FROM documents WHERE id = 1")
    orphans(world, keys=("new",))
    assert found(world) == {D0}, "a copy whose row is gone"


# -- losses


def lose(world: World, *names: str) -> None:
    for name in names:
        (Path(world.old.prefix) / name).unlink()


def verify(world: World) -> Report:
    return VerifyJob(world.application, VerifyOptions()).run()


def test_rows_whose_object_is_missing(worlds: World) -> None:
    worlds.fill(3)
    lose(worlds, D0)
    report = orphans(worlds)
    assert (report.exit_code, report.counts) == (1, {MISSING: 1, IN_USE: 2})
    assert str(report.problems[0].refs[0]) == "documents.file[1]"


def test_a_known_loss_fails_no_audit_and_no_run(worlds: World) -> None:
    world = worlds
    world.fill(3)
    lose(world, D0)
    assert orphans(world, acknowledge_missing="burnt in May").state == "planned"
    assert orphans(world).exit_code == 1
    done = orphans(world, acknowledge_missing="burnt in May", yes=True)
    assert (done.exit_code, done.counts) == (0, {KNOWN: 1, IN_USE: 2})
    [(reason, by, path)] = world.sql("SELECT reason, marked_by, path FROM migrate_storage_known_loss")
    assert (reason, path) == ("burnt in May", D0) and "@" in by
    assert (orphans(world).exit_code, found(world, KNOWN)) == (0, {D0})
    seen = verify(world)
    assert (seen.counts[KNOWN], MISSING in seen.counts) == (1, False)
    ran = world.run()
    assert (ran.exit_code, ran.counts[KNOWN], ran.rows_remaining, ran.rows_known_missing) == (0, 1, 1, 1), ran
    assert verify(world).exit_code == 0
    # Another row that names the same lost object is a loss that nobody knew of.
    value = json.dumps({"backend": "old", "filename": D0})
    world.sql("INSERT INTO pages (slug, image) VALUES ('p', :v)", v=value)
    assert verify(world).counts[MISSING] == 1
    ran = world.run()
    assert (ran.exit_code, ran.counts[MISSING], ran.rows_known_missing) == (1, 1, 1)


def test_a_mark_ends_when_the_object_is_there_again_or_the_row_names_another(world: World) -> None:
    world.fill(3)
    lose(world, D0, "docs/1/d1.bin")
    orphans(world, acknowledge_missing="gone", yes=True)
    stray(world, D0, content=world.contents[D0])
    value = json.dumps({"backend": "old", "filename": "docs/2/d2.bin"})
    world.sql("UPDATE documents SET file = :v WHERE id = 2", v=value)
    report = orphans(world)
    assert report.exit_code == 0
    assert (
        sorted(note.message.rpartition(", ")[2] for note in report.notes if note.code == "mark.stale")
        == [
            "for its object is there again",
            "for its row is gone",
        ]
        or len(report.notes) == 2
    )
    assert [note.subject for note in verify(world).notes] == [f"old:{D0}"]
    assert orphans(world, forget_acknowledged="stale").state == "planned"
    assert orphans(world, forget_acknowledged="stale", yes=True).counts == {OutcomeKind.UNCHANGED: 2}
    assert orphans(world).notes == ()
    lose(world, D0)
    assert orphans(world).counts[MISSING] == 1, "lost again: nobody marked that"


def test_marks_are_taken_away(world: World) -> None:
    world.fill(2)
    lose(world, D0)
    orphans(world, acknowledge_missing="gone", yes=True)
    assert orphans(world, forget_acknowledged="all", yes=True).exit_code == 0
    assert orphans(world).exit_code == 1


def test_jobs_that_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="--quarantine and --restore"):
        OrphansOptions(quarantine="q", restore="all")
    with pytest.raises(ConfigurationError, match="needs a reason"):
        OrphansOptions(acknowledge_missing=" ")


def test_a_server_that_fails_on_a_later_page_of_the_listing(moto_s3: Any, sqlite_url: str, tmp_path: Path) -> None:
    bucket = moto_s3.new_bucket()
    put = partial(moto_s3.client.put_object, Bucket=bucket, Body=b"1")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: put(Key=f"k/{number:05}"), range(1010)))
    with fault_proxy(moto_s3.service.port, seed=1, in_a_row=99, only="continuation-token", reset=1.0) as proxy:
        behind = moto_s3.behind(proxy.endpoint)
        old = places.new_s3(behind, bucket, key="old").build()
        world = World(sqlite_url, old, places.new_local(tmp_path / "new").build())
        report = orphans(world, quarantine="q", max_quarantine=9999, yes=True)
        assert (report.exit_code, report.counts) == (3, {}), "1,000 objects were listed, and none of them is called one"
        assert "broke off" in report.error and "no object is called an orphan" in report.error
        assert proxy.counts
        proxy.set()
        assert orphans(world).counts == {ORPHAN: 1010}
    world.close()


def test_one_backend_inside_another_and_a_bucket_without_a_prefix(
    moto_s3: Any, sqlite_url: str, tmp_path: Path
) -> None:
    bucket = moto_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_local(tmp_path / "new").build())
    inner = places.new_s3(moto_s3, f"{bucket}/in", key="inner").build()
    for name in ("in/named", "in/stray", "input", "in"):
        moto_s3.client.put_object(Bucket=bucket, Key=name, Body=b"1")
    world.sql("INSERT INTO pages (slug, image) VALUES ('p', :v)", v='{"backend": "inner", "filename": "named"}')
    application = with_backends(world, inner)
    orphans(world, application=application)
    assert found(world) == {"in/stray", "input", "in"}
    orphans(world, application=application, keys=("inner",))
    assert found(world) == {"stray"}, "neither what begins alike nor what is named as the folder"
    assert orphans(world, application=application, keys=("inner", "old")).counts == {ORPHAN: 3, IN_USE: 1}
    with pytest.raises(ConfigurationError, match="is where the files of 'inner' are"):
        orphans(world, application=application, quarantine="in/q", yes=True)
    world.close()


def test_a_job_that_wakes_up_after_another_took_over_deletes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray(world, "x")
    read = Reachability.read_rows
    reads = iter(range(99))

    def asleep(self: Reachability) -> None:
        if next(reads) == 1:
            # Copied, not deleted: here it sleeps past its lease, and another job puts everything back.
            world.sql("UPDATE migrate_storage_lease SET expires = 0")
            assert orphans(world, restore="all", yes=True).counts == {RESTORED: 1}
            assert disk(world) == {"x": b"nobody's"}
        read(self)

    monkeypatch.setattr(Reachability, "read_rows", asleep)
    orphans(world, quarantine="q", yes=True, lease_ttl=60.0)
    assert disk(world) == {"x": b"nobody's"}


def test_the_copy_of_what_a_sleeper_may_yet_delete_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(world, "x")
    delete = ObstoreStore.delete

    def asleep(self: ObstoreStore, path: str) -> None:
        if "q/" not in path:
            # The request is about to be sent: here it sleeps past its lease.
            world.sql("UPDATE migrate_storage_lease SET expires = 0")
            assert orphans(world, restore="all", yes=True).counts == {RESTORED: 1}
        delete(self, path)

    monkeypatch.setattr(ObstoreStore, "delete", asleep)
    orphans(world, quarantine="q", yes=True, lease_ttl=60.0)
    monkeypatch.undo()
    assert list(disk(world).values()) == [b"nobody's"]
    assert orphans(world, restore="all", yes=True).counts == {RESTORED: 1}
    assert disk(world) == {"x": b"nobody's"}


def test_what_is_in_quarantine_outlives_a_pruned_journal(world: World) -> None:
    stray(world, "x")
    orphans(world, quarantine="q", yes=True)
    with world.engine.begin() as connection:
        Tables().prune(connection, time.time() + 60)
    assert orphans(world, restore="all", yes=True).counts == {RESTORED: 1}


def test_two_jobs_at_once_exclude_each_other(world: World) -> None:
    stray(world, "x")
    orphans(world, yes=True)
    job = OrphansJob(world.application, OrphansOptions(keys=("old",), min_age=0.0, quarantine="q", yes=True))
    with (
        closing(Database(world.url)) as database,
        hold_lease(Journal(database), 300.0, stopping=Event(), lost=lambda _: None),
    ):
        job.stop()
        with pytest.raises(StoppedError, match="waiting for the lease"):
            job.run()
        assert orphans(world).exit_code == 1, "a look needs no lease"
    assert disk(world) == {"x": b"nobody's"}


def test_stopped_between_two_objects_and_gone_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(world, *(f"s{number}" for number in range(6)))
    job = OrphansJob(
        world.application, OrphansOptions(keys=("old",), min_age=0.0, quarantine="q", yes=True, concurrency=1)
    )
    put = ObstoreStore.put

    def stopping(self: ObstoreStore, *args: Any, **kwargs: Any) -> Any:
        job.stop()
        return put(self, *args, **kwargs)

    monkeypatch.setattr(ObstoreStore, "put", stopping)
    assert (job.run().state, disk(world).keys() >= {f"s{number}" for number in range(6)}) == ("interrupted", True)
    monkeypatch.undo()
    assert orphans(world, quarantine="q", yes=True).counts[QUARANTINED] == 6
    assert orphans(world, restore="all", yes=True).exit_code == 0
    assert disk(world).keys() == {f"s{number}" for number in range(6)}


def listed_in_memory(count: int, folder: Path) -> int:
    """The peak of memory, in bytes, of a job over that many objects, half of them named by rows."""
    process = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(count), str(folder)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    peak, orphaned = map(int, process.stdout.split())
    assert orphaned == count // 2
    return peak


_MEASURED = """
import sys
from pathlib import Path
import sqlalchemy as sa
from tests.support.engine import registrations as places
from tests.support.engine.other_process import peak
from tests.support.engine.world import World
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.core.model import OutcomeKind
count, folder = int(sys.argv[1]), Path(sys.argv[2])
world = World(f"sqlite:///{folder}/app.db", places.old_local(folder / "old").build(), places.new_local(folder / "new").build())
for number in range(count):
    file = folder / "old" / str(number % 100) / f"a rather long name of a file {number:08}.bin"
    file.parent.mkdir(exist_ok=True)
    file.touch()
with world.engine.begin() as connection:
    for first in range(0, count, 1000):
        connection.execute(sa.text("INSERT INTO pages (slug, image) VALUES (:s, :v)"), [
            {"s": str(n), "v": '{"backend": "old", "filename": "%d/a rather long name of a file %08d.bin"}' % (n % 100, n)}
            for n in range(first, min(first + 1000, count), 2)])
report = OrphansJob(world.application, OrphansOptions(keys=("old",), min_age=0.0)).run()
assert report.counts[OutcomeKind.IN_USE] == count // 2, report
print(peak(), report.counts[OutcomeKind.ORPHAN])
"""


def bounded(evidence: Evidence, folder: Path, few: int, many: int) -> None:
    for name in ("few", "many"):
        (folder / name).mkdir()
    one, other = listed_in_memory(few, folder / "few"), listed_in_memory(many, folder / "many")
    evidence.record("orphans: peak of memory", **{f"objects_{few}": one, f"objects_{many}": other})
    assert other < 200 << 20
    assert other < 1.2 * one


def test_memory_does_not_grow_with_the_number_of_objects(evidence: Evidence, tmp_path: Path) -> None:
    bounded(evidence, tmp_path, 500, 5_000)


@pytest.mark.soak
def test_memory_does_not_grow_with_very_many_objects(evidence: Evidence, tmp_path: Path) -> None:
    bounded(evidence, tmp_path, 20_000, 200_000)
