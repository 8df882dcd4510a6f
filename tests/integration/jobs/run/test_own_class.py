"""A backend of the application's own class is a source: it is read through its methods, and never written."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine import place_proof
from migrate_storage.jobs.check import CheckJob, CheckOptions
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.sync.job import SyncJob, SyncOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from tests.support.engine import registrations as places
from tests.support.engine.own_backends import SEAL, AsyncVault, Sealed, Vault
from tests.support.engine.world import Document, World

LARGE = 9 * 1024 * 1024
"""Copied in parts, and kept in a temporary file."""


@pytest.fixture(autouse=True)
def no_cached_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of a disk is in these tests, whose cache would have to be waited for."""
    monkeypatch.setattr(place_proof, "_SERVER_CACHE_SECONDS", 0.0)


@pytest.fixture
def vault(tmp_path: Path, sqlite_url: str) -> Iterator[World]:
    made = World(sqlite_url, Vault("old", tmp_path / "vault"), places.new_local(tmp_path / "new").build())
    yield made
    made.close()


def fill(world: World, count: int = 3) -> list[str]:
    names = [f"docs/{number}.bin" for number in range(count)]
    world.add(*(Document(id=number + 1, title="", file=world.file(name)) for number, name in enumerate(names)))
    return names


def revert(world: World) -> Any:
    return RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()


@pytest.mark.parametrize("kind", [Vault, AsyncVault, Sealed])
def test_every_kind_moves_to_s3_and_back(kind: Any, rclone_s3, sqlite_url: str, tmp_path: Path) -> None:
    world = World(sqlite_url, kind("old", tmp_path / "files"), places.new_s3(rclone_s3, rclone_s3.new_bucket()).build())
    fill(world)
    world.add(Document(id=10, title="", file=world.file("large", world.random.randbytes(LARGE))))
    world.add(Document(id=11, title="", file=world.file("//odd", b"odd")))
    before = world.raw()
    dry = world.run(dry_run=True, invalid_keys="encode")
    assert dry.counts == {OutcomeKind.REPOINTED: 5}
    report = world.run(invalid_keys="encode")
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 5}), report
    (said,) = [note for note in report.notes if note.code == "source.own-class"]
    assert kind.__name__ in said.message
    assert set(report.verified_by) == {"source_reread, destination_digest"}
    new = world.new
    assert {file.path: file.get_content() for file in world.files()} == {
        row["filename"]: world.contents[row["metadata"]["name"]] for row in world.raw()
    }
    assert new.get_content("large") == world.contents["large"]
    assert VerifyJob(world.application, VerifyOptions()).run().exit_code == 0
    assert VerifyJob(world.application, VerifyOptions(read_content=True)).run().exit_code == 0
    assert revert(world).exit_code == 0
    assert world.raw() == before
    if kind is AsyncVault:
        assert len(world.old.loops) == 1, "one event loop, so that connections can be kept"
    world.close()


def test_each_object_is_read_as_often_as_the_proof_needs(vault: World) -> None:
    (name,) = fill(vault, 1)
    assert vault.run().exit_code == 0
    assert vault.old.reads[name] == 4, "the copy, the second read of the proof, after the commit, at the end of the run"


def test_missing_and_failing_files_are_listed(vault: World) -> None:
    gone, broken, flaky, _ = fill(vault, 4)
    vault.old.delete_object(gone)

    def read(path: str, number: int) -> None:
        if path == broken:
            raise KeyError("no key to decrypt it")
        if path == flaky and number == 1:
            raise RuntimeError("could not connect") from ConnectionResetError()

    vault.old.before_read = read
    report = vault.run()
    assert report.exit_code == 1
    assert report.counts == {OutcomeKind.REPOINTED: 2, OutcomeKind.MISSING: 1, OutcomeKind.FAILED: 1}
    reasons = {outcome.source.path: outcome.reason for outcome in report.problems}
    assert reasons[gone] == f"old (Vault) has no object {gone!r}"
    assert reasons[broken] == "get_content of Vault raised KeyError: 'no key to decrypt it'"


@pytest.mark.parametrize("number", [2, 3, 4], ids=["during the copy", "after the commit", "at the end"])
def test_a_file_replaced_during_the_run_is_copied_again(vault: World, number: int) -> None:
    (name,) = fill(vault, 1)

    def read(path: str, count: int) -> None:
        if (path, count) == (name, number):
            vault.old.at(name).write_bytes(b"replaced")

    vault.old.before_read = read
    assert vault.run().exit_code == 0
    assert vault.new.get_content(name) == b"replaced"
    assert vault.raw()[0]["size"] == len(b"replaced")


def test_revert_leaves_what_would_have_to_be_written(vault: World) -> None:
    changed, _ = fill(vault, 2)
    assert vault.run().exit_code == 0
    vault.new.save_object(FileObject(backend="new", filename=changed), b"newer")
    report = revert(vault)
    assert report.counts == {OutcomeKind.REVERTED: 1, OutcomeKind.CONFLICT: 1}
    (left,) = report.problems
    assert left.reason.endswith("Vault is only read: save it there by hand")
    assert [row["backend"] for row in vault.raw()] == ["new", "old"]


def test_what_lists_writes_or_deletes_is_refused_by_name(vault: World, tmp_path: Path) -> None:
    fill(vault, 1)
    assert vault.run().exit_code == 0
    files = sorted(vault.old.folder.iterdir())
    refused = {
        "purge": lambda: PurgeJob(vault.application, PurgeOptions(yes=True, older_than=0)).run(),
        "orphans": lambda: OrphansJob(vault.application, OrphansOptions()).run(),
        "sync": lambda: SyncJob(vault.old, vault.new, SyncOptions(journal=f"sqlite:///{tmp_path}/j.db")).run(),
        "sync to it": lambda: SyncJob(vault.new, vault.old, SyncOptions(journal=f"sqlite:///{tmp_path}/j.db")).run(),
        "check": lambda: CheckJob(vault.old, vault.new, CheckOptions()).run(),
        "run to it": lambda: vault.run(source="new", destination="old"),
        "swap": lambda: vault.run(destination=None),
    }
    for name, job in refused.items():
        with pytest.raises(ConfigurationError, match=r"^[^\n]*Vault[^\n]*$"):
            job()
            pytest.fail(f"{name} is not refused")
    assert sorted(vault.old.folder.iterdir()) == files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (KeyError("x"), "get_content of Vault raised KeyError: 'x'; let it raise FileNotFoundError"),
        (None, "get_content of Vault returned NoneType instead of bytes; let it raise FileNotFoundError"),
        (b"", "answers that a random key exists: it cannot be asked what it has; let it raise FileNotFoundError"),
    ],
    ids=["another error", "nothing", "empty"],
)
def test_a_class_that_does_not_tell_missing_files_is_refused(vault: World, content: Any, said: str) -> None:
    fill(vault, 1)

    def answer(path: Any, **_: Any) -> Any:
        if isinstance(content, Exception):
            raise content
        return content

    vault.old.get_content = answer
    with pytest.raises(PreflightError, match=f"^[^\n]*class Vault[^\n]*{said}[^\n]*$".replace("(", r"\(")):
        vault.run()
    assert [row["backend"] for row in vault.raw()] == ["old"]


def test_a_folder_that_the_destination_has_too_is_one_place(tmp_path: Path, sqlite_url: str) -> None:
    class Plain(Vault):
        def at(self, path: Any) -> Path:
            return self.folder / str(path)

    world = World(sqlite_url, Plain("old", tmp_path / "files"), places.new_local(tmp_path / "files").build())
    (tmp_path / "files" / "docs").mkdir()
    fill(world, 1)
    with pytest.raises(PreflightError, match="one storage reached in two ways"):
        world.run()
    world.close()


def test_content_beyond_the_memory_waits(vault: World) -> None:
    names = fill(vault, 4)
    for name in names:
        vault.old.at(name).write_bytes(vault.random.randbytes(2 * 1024 * 1024))
    vault.run(limit=1, concurrency=4, copy_only=True, max_memory=3 * 1024 * 1024)
    under_way, most, lock = 0, 0, threading.Lock()
    whole = vault.old.get_content

    def read(path: Any, **options: Any) -> bytes:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        try:
            return whole(path, **options)
        finally:
            with lock:
                under_way -= 1

    vault.old.get_content = read
    assert vault.run(concurrency=4, max_memory=1024 * 1024).exit_code == 0
    assert most == 1


def test_it_says_so_and_an_override_that_changes_nothing_is_read_directly(tmp_path: Path, sqlite_url: str) -> None:
    class Counted(Sealed):
        migrate_storage_direct = True

    world = World(sqlite_url, Counted("old", tmp_path / "files"), places.new_local(tmp_path / "new").build())
    world.add(Document(id=1, title="", file=world.file("a", b"a")))
    report = world.run()
    assert report.exit_code == 0
    assert world.new.get_content("a") == b"sealed:" + b"a".translate(SEAL), "as the class says, bytes are not changed"
    assert not [note for note in report.notes if note.code == "source.own-class"]
    assert json.dumps(report.to_dict())
    world.close()


def test_purge_refuses_a_class_that_deletes_in_its_own_way(tmp_path: Path, sqlite_url: str) -> None:
    class Keeps(FSSpecBackend):
        def delete_object(self, paths: Any) -> None:
            return None

    old = Keeps("old", fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "files"))
    (tmp_path / "files").mkdir()
    world = World(sqlite_url, old, places.new_local(tmp_path / "new").build())
    fill(world, 1)
    assert world.run().verified_by == {"local_source, destination_readback": 1}, "it is read directly"
    with pytest.raises(ConfigurationError, match="class Keeps of 'old' overrides delete_object, and purge deletes"):
        PurgeJob(world.application, PurgeOptions(yes=True, older_than=0)).run()
    assert (tmp_path / "files" / "docs" / "0.bin").exists()
    world.close()
