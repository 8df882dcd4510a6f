"""Verify: nothing is counted as equal that was not proved to be, and everything else has its sign and its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import ObjectFinished, RunStarted
from migrate_storage.core.model import Location, Outcome, OutcomeKind
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.journal.objects import ObjectRepository
from migrate_storage.reporting import Report
from migrate_storage.reporting.diff_files import KINDS, Differences, sign
from tests.support.engine import registrations as places
from tests.support.engine.world import World

D = [f"docs/{i % 7}/d{i}.bin" for i in range(10)]


@pytest.fixture
def moved(world: World) -> World:
    """Six documents that were moved."""
    world.fill(6)
    assert world.run().exit_code == 0
    return world


def audit(world: World, *, application: Application | None = None, **options: Any) -> Report:
    world.events.clear()
    return VerifyJob(application or world.application, VerifyOptions(**options), listener=world.events.append).run()


def signs(world: World) -> dict[str, str]:
    return {
        event.outcome.source.path: sign(event.outcome) for event in world.events if isinstance(event, ObjectFinished)
    }


def put(world: World, name: str, content: bytes) -> None:
    world.new.save_object(FileObject(backend="new", filename=name), content)


def test_it_is_a_verify_from_its_first_event_on(moved: World) -> None:
    audit(moved)
    assert [event.job for event in moved.events if isinstance(event, RunStarted)] == ["verify"]


def test_after_a_run_everything_is_equal(all_worlds: World) -> None:
    world = all_worlds
    world.fill(6, 6, 9)
    world.run()
    count, before = world.check(), world.dump()
    report = audit(world)
    assert (report.kind, report.state, report.exit_code) == ("verify", "completed", 0)
    assert report.counts == {OutcomeKind.UNCHANGED: count}
    assert report.verified_by == {"journal": count}
    assert audit(world, read_content=True).verified_by == {"content_compared": count}
    assert world.dump() == before, "it only looks"


def test_each_difference_has_its_sign(moved: World) -> None:
    moved.new.delete_object(D[0])
    put(moved, D[1], bytes(reversed(moved.contents[D[1]])))
    put(moved, D[2], moved.contents[D[2]] + b"more")
    moved.sql("UPDATE documents SET file = replace(file, '\"new\"', '\"gone\"') WHERE id = 4")
    moved.sql("UPDATE documents SET file = '{\"backend\": 3}' WHERE id = 5")
    report = audit(moved)
    assert signs(moved) == {
        D[0]: "+", D[1]: "*", D[2]: "*", D[3]: "!", "documents.file[5]": "!", D[5]: "=",
    }  # fmt: skip
    assert report.counts == {
        OutcomeKind.UNCHANGED: 1, OutcomeKind.MISSING: 1, OutcomeKind.MISMATCH: 2, OutcomeKind.FAILED: 2,
    }  # fmt: skip
    assert (report.exit_code, report.problem_count) == (1, 5)


def test_deep_finds_what_the_journal_cannot_know(moved: World) -> None:
    """The source was replaced after the run: the copy is what was verified, and is not what the source holds."""
    moved.old.fs.pipe(moved.old._prepare_path(D[0]), bytes(reversed(moved.contents[D[0]])))
    assert audit(moved).exit_code == 0
    report = audit(moved, read_content=True)
    assert (report.exit_code, signs(moved)[D[0]]) == (1, "*")
    assert report.counts == {OutcomeKind.UNCHANGED: 5, OutcomeKind.MISMATCH: 1}


def test_deep_after_a_purge_compares_with_the_digest_of_what_was_copied(moved: World) -> None:
    PurgeJob(moved.application, PurgeOptions(older_than=0, yes=True, lease_ttl=1.0)).run()
    report = audit(moved, read_content=True)
    assert (report.exit_code, report.verified_by) == (0, {"journal_sha256": 6})
    content = moved.contents[D[1]]
    put(moved, D[1], bytes([content[0] ^ 1]) + content[1:])
    assert audit(moved, read_content=True).counts == {OutcomeKind.UNCHANGED: 5, OutcomeKind.MISMATCH: 1}
    moved.sql("DELETE FROM migrate_storage_object")
    assert audit(moved, read_content=True).verified_by == {"row_sha256": 5}
    moved.sql("UPDATE documents SET file = json_remove(file, '$.checksum')")
    report = audit(moved, read_content=True)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.UNVERIFIED: 6})


def test_unverified_is_never_equal(world: World) -> None:
    """Before any run there is nothing that tells what an object should hold; a row's own etag is no evidence."""
    world.fill(4)
    for deep in (False, True):
        report = audit(world, read_content=deep)
        assert (report.exit_code, report.counts) == (1, {OutcomeKind.UNVERIFIED: 4})
        assert set(signs(world).values()) == {"!"}


@pytest.mark.parametrize("state", ["intent", "unreferenced", "unresolved", "copy_deleted"])
def test_only_lines_of_verified_copies_speak_for_an_object(moved: World, state: str) -> None:
    moved.sql("UPDATE migrate_storage_object SET state = :state WHERE source_path = :path", state=state, path=D[0])
    assert audit(moved).counts == {OutcomeKind.UNCHANGED: 5, OutcomeKind.UNVERIFIED: 1}


def test_with_another_registration(rclone_s3: Any, sqlite_url: str) -> None:
    """The proof for a swap: every row is opened through the registration that is to come."""
    bucket = rclone_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(rclone_s3, bucket).build(), places.new_s3(rclone_s3, bucket).build())
    world.fill(4, 3)
    report = audit(world, key="old", compare_with="new")
    assert (report.exit_code, report.verified_by) == (0, {"content_compared": 4 + 3})
    other = rclone_s3.new_bucket()
    elsewhere = places.new_s3(rclone_s3, other, "elsewhere").build()
    for name, content in (
        (D[0], world.contents[D[0]]),
        (D[1], bytes(reversed(world.contents[D[1]]))),
        (D[2], b"only here"),
    ):
        elsewhere.save_object(FileObject(backend="elsewhere", filename=name), content)
    world.old.fs.rm_file(f"{bucket}/{D[2]}")
    given = world.application
    application = Application(
        engine=given.engine, columns=given.columns, backends={**given.backends, "elsewhere": elsewhere}
    )
    report = audit(world, application=application, columns=("documents.file",), compare_with="elsewhere")
    assert signs(world) == {D[0]: "=", D[1]: "*", D[2]: "-", D[3]: "+"}
    assert report.exit_code == 1
    world.close()


def test_a_sample_is_always_the_same(world: World) -> None:
    world.fill(200)
    world.run()
    audit(world, sample=20.0)
    first = signs(world)
    assert 20 <= len(first) <= 60
    audit(world, sample=20.0)
    assert signs(world) == first
    audit(world, sample=50.0)
    assert signs(world).keys() > first.keys()
    audit(world)
    assert len(signs(world)) == 200
    for share in (0, -1, 101):
        with pytest.raises(ConfigurationError, match="--sample"):
            VerifyOptions(sample=share)


def test_only_one_key_and_only_some_rows(world: World) -> None:
    world.fill(6)
    world.run(limit=2)
    assert audit(world, key="new").counts == {OutcomeKind.UNCHANGED: 2}
    assert audit(world, key="old").counts == {OutcomeKind.UNVERIFIED: 4}
    assert audit(world, columns=("documents.file",), where="id = 1").counts == {OutcomeKind.UNCHANGED: 1}
    for options in ({"key": "nobody"}, {"compare_with": "nobody"}):
        with pytest.raises(ConfigurationError, match="nobody"):
            audit(world, **options)


def test_a_database_that_fails_ends_with_a_report(moved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from migrate_storage.core.errors import RunError

    def fails(*_: Any) -> Any:
        raise RunError("the database failed")

    monkeypatch.setattr(ObjectRepository, "at_destinations", fails)
    report = audit(moved)
    assert (report.state, report.exit_code, report.error) == ("failed", 3, "the database failed")


def test_the_report_files_are_in_rclone_s_form(tmp_path: Path) -> None:
    kinds = {
        OutcomeKind.UNCHANGED: "=", OutcomeKind.MISSING: "+", OutcomeKind.MISMATCH: "*", OutcomeKind.UNVERIFIED: "!",
        OutcomeKind.FAILED: "!",
    }  # fmt: skip
    outcomes = [
        Outcome(kind=kind, source=Location("a", f"{kind}.txt"), destination=Location("b", "x"), reason="r")
        for kind in kinds
    ]
    only = Outcome(
        kind=OutcomeKind.MISSING, source=Location("a", "o\x1b[0m\n.txt"), destination=Location("b", "x"), size=3
    )
    files = {kind.replace("-", "_"): tmp_path / kind for kind in KINDS}
    with Differences(files) as differences:
        for outcome in (*outcomes, only):
            differences.write(outcome)
    written = {kind: (tmp_path / kind).read_text().splitlines() for kind in KINDS}
    assert written["combined"] == [*(f"{mark} {kind}.txt" for kind, mark in kinds.items()), r"- o\x1b[0m\n.txt"]
    assert written["match"] == ["unchanged.txt"]
    assert written["differ"] == ["mismatch.txt"]
    assert written["missing-on-dst"] == ["missing.txt"]
    assert written["missing-on-src"] == [r"o\x1b[0m\n.txt"]
    assert written["error"] == ["unverified.txt", "failed.txt"]
    assert {
        sign(Outcome(kind=kind, source=only.source, destination=only.destination))
        for kind in OutcomeKind
        if not kind.done
    } <= set("-+*!")
    with pytest.raises(ConfigurationError, match="--match .* cannot be written"):
        Differences({"match": tmp_path / "no" / "where"})


def test_the_command_writes_them_and_ends_with_its_code(project: Any) -> None:
    project("run", "--app", "app", "--from", "old", "--to", "new", "--settle-time", "0")
    (project.directory / "new" / "d" / "3.txt").unlink()
    ended = project("verify", "--app", "app", "--combined", "all.txt", "--missing-on-dst", "gone.txt", "--json")
    assert ended.returncode == 1, ended.stderr
    lines = (project.directory / "all.txt").read_text().splitlines()
    assert sorted(lines) == sorted(f"{'+' if number == 3 else '='} d/{number}.txt" for number in range(10))
    assert (project.directory / "gone.txt").read_text() == "d/3.txt\n"
    report = [json.loads(line) for line in ended.stdout.splitlines()][-1]
    assert (report["kind"], report["counts"]) == ("verify", {"unchanged": 9, "missing": 1})
