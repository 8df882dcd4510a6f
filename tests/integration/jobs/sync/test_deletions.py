"""What a sync deletes, and everything that keeps it from doing so."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.events import DiagnosticRaised, Event
from migrate_storage.core.model import OutcomeKind
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine.fixtures import world  # noqa: F401 - a fixture
from tests.support.engine.world import World
from tests.support.servers import S3Server
from tests.support.sync.ends import s3_backend
from tests.support.sync.fixtures import Run
from tests.support.sync.trees import files, write

DAY = 86400
ALL: dict[str, Any] = {"delete": True, "max_delete": "100%"}


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Ten old files on both sides, and two more at the destination: one old, one new."""
    then = time.time() - DAY
    for side, number in itertools.product("ab", range(10)):
        write(tmp_path / side / f"d{number % 3}" / str(number), b"1", then)
    write(tmp_path / "b" / "old", b"1", then)
    write(tmp_path / "b" / "new", b"1")
    return tmp_path / "a", tmp_path / "b"


def test_what_is_extra_and_old_enough_goes(trees: tuple[Path, Path], sync: Run) -> None:
    before = files(trees[1])
    planned = sync(*trees, delete=True, dry_run=True)
    assert planned.counts == {OutcomeKind.UNCHANGED: 11, OutcomeKind.DELETED: 1}
    assert files(trees[1]) == before
    assert sync(*trees).counts == {OutcomeKind.UNCHANGED: 10}
    assert files(trees[1]) == before
    report = sync(*trees, delete=True)
    assert (report.exit_code, report.counts) == (0, planned.counts)
    assert set(before) - set(files(trees[1])) == {"old"}
    sync(*trees, delete=True, min_age=0)
    assert files(trees[1]) == files(trees[0])


@pytest.mark.parametrize(("most", "gone"), [("1", 0), ("2", 2), ("10%", 0), ("20%", 2)])
def test_more_than_may_be_deleted_and_nothing_is(trees: tuple[Path, Path], sync: Run, most: str, gone: int) -> None:
    report = sync(*trees, delete=True, max_delete=most, min_age=0)
    assert report.exit_code == (0 if gone else 3)
    assert ("--max-delete" in report.error) is not bool(gone)
    assert len(files(trees[1])) == 12 - gone


def test_after_an_error_nothing_is_deleted(trees: tuple[Path, Path], sync: Run, events: list[Event]) -> None:
    source, destination = trees
    # A name that a local store keeps for itself cannot be written there.
    write(source / "x#1", b"1")
    report = sync(source, destination, min_age=0, **ALL)
    assert report.exit_code == 1
    assert report.counts.get(OutcomeKind.DELETED) is None
    assert any(isinstance(event, DiagnosticRaised) and event.note.code == "sync.kept" for event in events)
    assert {"old", "new"} <= set(files(destination))


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_listing_that_fails_half_way_deletes_nothing(
    side: str, trees: tuple[Path, Path], sync: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = trees
    broken, before = source if side == "source" else destination, files(destination)
    real = FsspecStore.list

    def breaks(self: FsspecStore, prefix: str) -> Any:
        stream = real(self, prefix)
        if prefix != str(broken):
            return stream
        return itertools.chain(itertools.islice(stream, 5), _raise(PermissionError("no right to list")))

    monkeypatch.setattr(FsspecStore, "list", breaks)
    report = sync(source, destination, min_age=0, **ALL)
    assert report.exit_code == 3
    assert "nothing was deleted" in report.error
    assert files(destination) == before


@pytest.mark.parametrize("side", ["source", "destination"])
def test_so_it_is_where_keys_were_given_before_it_failed(
    side: str, sync: Run, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = moto_s3.new_bucket(), moto_s3.new_bucket()
    for number in range(6):
        moto_s3.client.put_object(Bucket=one, Key=f"{number}", Body=b"1")
        moto_s3.client.put_object(Bucket=other, Key=f"{number}x", Body=b"1")
    monkeypatch.setattr("migrate_storage.stores.listing._promises_order", lambda _: True)
    broken, real = one if side == "source" else other, ObstoreStore.list

    def breaks(self: ObstoreStore, prefix: str) -> Any:
        stream = real(self, prefix)
        if broken not in self.name or prefix:
            return stream
        return itertools.chain(itertools.islice(stream, 3), _raise(PermissionError("no right to list")))

    monkeypatch.setattr(ObstoreStore, "list", breaks)
    report = sync(s3_backend(moto_s3, one), s3_backend(moto_s3, other), min_age=0, **ALL)
    assert report.exit_code == 3
    held = {each["Key"] for each in moto_s3.client.list_objects_v2(Bucket=other)["Contents"]}
    assert {f"{number}x" for number in range(6)} <= held
    assert report.counts.get(OutcomeKind.COPIED, 0) <= 4


def _raise(error: Exception) -> Any:
    raise error
    yield


def test_a_folder_that_is_gone_is_no_empty_source(trees: tuple[Path, Path], sync: Run, tmp_path: Path) -> None:
    before = files(trees[1])
    (tmp_path / "empty").mkdir()
    assert sync(tmp_path / "empty", trees[1], delete=True, min_age=0).exit_code == 3
    with pytest.raises(Exception, match="not there"):
        sync(tmp_path / "nowhere", trees[1], min_age=0, **ALL)
    assert files(trees[1]) == before


@pytest.mark.parametrize("meanwhile", ["source", "destination", "both"])
def test_what_changed_since_the_listing_is_kept(
    meanwhile: str, trees: tuple[Path, Path], sync: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrate_storage.jobs.sync.deletions import ExtraneousDeleter

    source, destination = trees
    real = ExtraneousDeleter.delete

    def late(self: ExtraneousDeleter, pair: Any) -> Any:
        if pair.key == "old":
            for name, side in (("source", source), ("destination", destination)):
                if meanwhile in (name, "both"):
                    write(side / "old", b"2")
        return real(self, pair)

    monkeypatch.setattr(ExtraneousDeleter, "delete", late)
    report = sync(source, destination, min_age=0, **ALL)
    assert report.counts[OutcomeKind.DELETED] == 1
    assert "old" in files(destination)


def test_what_a_row_names_at_the_destination_is_neither_replaced_nor_deleted(
    world: World,
    sync: Run,
    tmp_path: Path,  # noqa: F811
) -> None:
    world.fill(6)
    assert world.run().exit_code == 0
    old, new = tmp_path / "old", tmp_path / "new"
    names = sorted(files(new))
    before = files(new)
    # Of the six, the application has written one anew; one is gone from the old place; nobody names `extra`.
    write(new / names[0], b"what the application wrote since")
    (old / names[1]).unlink()
    write(new / "extra", b"1")
    write(old / "late", b"not there yet")
    options = {"application": world.application, "min_age": 0, **ALL}
    report = sync(world.old, world.new, **options)
    assert [(outcome.kind, outcome.source.path) for outcome in report.problems] == [
        (OutcomeKind.DESTINATION_EXISTS, names[0])
    ]
    expected = {**before, names[0]: b"what the application wrote since", "late": b"not there yet"}
    assert files(new) == expected
    # Nobody names them any more: they are as any other.
    world.sql("DELETE FROM documents")
    assert sync(world.old, world.new, by="checksum", **options).exit_code == 0
    assert files(new) == files(old)


def test_a_row_that_nobody_understands_keeps_everything(world: World, sync: Run, tmp_path: Path) -> None:  # noqa: F811
    world.fill(2)
    world.sql('UPDATE documents SET file = json(\'{"backend": "who", "filename": "x"}\') WHERE id = 1')
    write(tmp_path / "new" / "extra", b"1")
    report = sync(world.old, world.new, application=world.application, min_age=0, **ALL)
    assert report.exit_code == 3
    assert "extra" in files(tmp_path / "new")
