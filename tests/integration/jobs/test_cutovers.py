"""Jobs where a key is a CutoverBackend: they know its two sides and its phase, or refuse with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.jobs.check import CheckJob, CheckOptions
from migrate_storage.jobs.explain import explain
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.sync.job import SyncJob
from migrate_storage.jobs.sync.options import SyncOptions
from tests.support.cutover.world import CutoverWorld, make_cutover_world
from tests.support.engine import registrations as places
from tests.support.engine.world import World

PHASES = list(Phase)


@pytest.fixture
def cutover(world: World) -> Iterator[CutoverWorld]:
    """Four documents on a disk, and a cutover to another folder."""
    world.fill(4)
    made = make_cutover_world(world)
    yield made
    made.close()


@pytest.fixture(params=["disk to S3", "two prefixes of one bucket"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, moto_s3: Any) -> Iterator[CutoverWorld]:
    """The same between other places."""
    bucket = moto_s3.new_bucket()
    old = places.old_local(tmp_path / "old")
    if request.param != "disk to S3":
        old = places.old_s3(moto_s3, f"{bucket}/uploads/old")
    world = World(sqlite_url, old.build(), places.new_s3(moto_s3, f"{bucket}/uploads/new").build())
    world.fill(4)
    made = make_cutover_world(world)
    yield made
    made.close()
    world.close()


def finish(cutover: CutoverWorld) -> Application:
    """Register the destination alone under the key; return that application."""
    cutover.world.new.key = "old"
    return replace(cutover.world.application, backends={"old": cutover.world.new})


def test_verify_looks_where_each_phase_reads_and_knows_what_was_compared(cutover: CutoverWorld) -> None:
    verified = {}
    for phase in PHASES:
        cutover.reach(phase)
        report, _ = cutover.verify()
        verified[phase] = (report.exit_code, report.counts)
        assert [note.code for note in report.notes] == ["cutover.phase"]
        assert f"phase {phase.name}" in report.notes[0].message
    unverified, equal = (1, {OutcomeKind.UNVERIFIED: 4}), (0, {OutcomeKind.UNCHANGED: 4})
    assert list(verified.values()) == [unverified, unverified, equal, equal]
    report, _ = cutover.verify(finish(cutover))
    assert (report.exit_code, report.verified_by) == (0, {"cutover, content_compared": 4})


def test_the_same_between_other_places(elsewhere: CutoverWorld) -> None:
    for phase in PHASES:
        elsewhere.reach(phase)
        report, found = elsewhere.orphans()
        assert (report.exit_code, report.counts.get(OutcomeKind.ORPHAN)) == (0, None), found
    report, _ = elsewhere.verify()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.UNCHANGED: 4})
    report, _ = elsewhere.verify(read_content=True)
    assert (report.exit_code, report.verified_by) == (0, {"content_compared": 4})
    report, _ = elsewhere.verify(finish(elsewhere))
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.UNCHANGED: 4})


def test_after_the_way_back_the_source_is_what_was_compared(cutover: CutoverWorld) -> None:
    cutover.reach(Phase.DESTINATION)
    for phase in reversed(PHASES[:-1]):
        cutover.rollback()
        cutover.restart()
        report, _ = cutover.verify()
        assert (report.exit_code, report.verified_by) == (0, {"cutover, content_compared": 4}), phase
        assert f"phase {phase.name}" in report.notes[0].message
    report, _ = cutover.verify(cutover.world.application)
    assert (report.exit_code, report.verified_by) == (0, {"cutover, content_compared": 4}), (
        "the source alone is registered"
    )


def test_deep_needs_another_object_to_compare_with(cutover: CutoverWorld, tmp_path: Path) -> None:
    """After the cutover the destination has the key that the source had: an object is no evidence for itself."""
    cutover.reach(Phase.DESTINATION)
    cutover.world.sql("UPDATE documents SET file = json_remove(file, '$.checksum')")
    application = finish(cutover)
    report, _ = cutover.verify(application, read_content=True)
    assert report.counts == {OutcomeKind.UNVERIFIED: 4}
    cutover.world.sql("UPDATE migrate_storage_object SET source_key = 'archive'")
    archive = places.old_local(tmp_path / "old", "archive").build()
    beside = replace(application, backends={**application.backends, "archive": archive})
    report, _ = cutover.verify(beside, read_content=True)
    assert (report.exit_code, report.verified_by) == (0, {"content_compared": 4})


def test_deep_compares_with_the_other_side_though_nothing_was_recorded(cutover: CutoverWorld, tmp_path: Path) -> None:
    """Equal bytes on both sides are evidence in each phase; other bytes are a difference only where both are written."""
    world = cutover.world
    world.sql("UPDATE documents SET file = json_remove(file, '$.checksum')")
    for name, content in world.contents.items():
        world.new.save_object(FileObject(backend="new", filename=name), content)
    changed = "docs/3/d3.bin"
    world.new.save_object(FileObject(backend="new", filename=changed), b"saved later")
    for phase, kind in {
        Phase.SOURCE: OutcomeKind.UNVERIFIED, Phase.DUAL_WRITE: OutcomeKind.MISMATCH,
        Phase.DESTINATION_FIRST: OutcomeKind.MISMATCH, Phase.DESTINATION: OutcomeKind.UNVERIFIED,
    }.items():  # fmt: skip
        fixed = CutoverBackend("old", world.old, world.new, outbox=cutover.outbox, phase=phase)
        application = replace(cutover.application, backends={"old": fixed})
        report, found = cutover.verify(application, read_content=True)
        assert (report.exit_code, found[changed].kind) == (1, kind), phase
        assert report.counts == {OutcomeKind.UNCHANGED: 3, kind: 1}


def test_a_source_that_is_gone_does_not_matter_in_destination(cutover: CutoverWorld, tmp_path: Path) -> None:
    cutover.reach(Phase.DESTINATION)
    (tmp_path / "old").rename(tmp_path / "gone")
    report, _ = cutover.verify()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.UNCHANGED: 4})
    cutover.world.new.delete_object("docs/0/d0.bin")
    report, found = cutover.verify()
    assert found["docs/0/d0.bin"].kind is OutcomeKind.MISSING
    with pytest.raises(ConfigurationError, match="source"):
        cutover.orphans()


def test_a_process_in_each_phase_must_find_the_object(cutover: CutoverWorld) -> None:
    """One process still reads the source as a fallback, the other only the destination."""
    cutover.reach(Phase.DESTINATION_FIRST)
    name = "docs/0/d0.bin"
    cutover.world.new.delete_object(name)
    with cutover.process("web-2"):
        _, found = cutover.verify()
        assert found[name].kind is OutcomeKind.UNCHANGED, "the source answers"
        cutover.database.transaction(
            lambda connection: connection.execute(
                cutover.outbox.tables.phase.update().values(phase=Phase.DESTINATION.value)
            )
        )
        report, found = cutover.verify()
        assert (report.exit_code, found[name].kind) == (1, OutcomeKind.MISSING)
        assert "DESTINATION (which reads destination)" in found[name].reason
        assert "'old (source)' has it: 'migrate-storage cutover repair --all'" in found[name].reason
        report, listed = cutover.orphans(acknowledge_missing="gone", yes=True)
        assert report.exit_code == 1
        assert [each.source.path for each in listed if each.kind is OutcomeKind.CONFLICT] == [name]
        assert not any(each.kind in (OutcomeKind.MISSING, OutcomeKind.KNOWN_MISSING) for each in listed), (
            "it is not lost"
        )


def test_what_was_written_after_the_comparison_is_unverified_and_no_difference(
    cutover: CutoverWorld, tmp_path: Path
) -> None:
    cutover.reach(Phase.DESTINATION_FIRST)
    name = "docs/1/d1.bin"
    cutover.save(name, bytes(reversed(cutover.world.contents[name])))
    report, found = cutover.verify()
    assert (report.exit_code, found[name].kind) == (1, OutcomeKind.UNVERIFIED)
    assert "after the cutover compared" in found[name].reason
    report, found = cutover.verify(read_content=True)
    assert (report.exit_code, found[name].verified_by) == (0, "content_compared")
    (tmp_path / "new" / name).write_bytes(b"x")
    cutover.world.sql("UPDATE documents SET file = json_set(file, '$.size', 2000)")
    report, found = cutover.verify()
    assert (report.exit_code, found[name].kind) == (1, OutcomeKind.MISMATCH)


def test_an_open_entry_is_followed(cutover: CutoverWorld) -> None:
    cutover.reach(Phase.DESTINATION_FIRST)
    name = "docs/2/d2.bin"
    cutover.world.new.delete_object(name)
    cutover.outbox.request_repair(name, Side.SOURCE)
    cutover.outbox.request_repair("upload.bin", Side.DESTINATION)
    lines = explain(cutover.application, "documents.file", ["3"])
    assert any("its entry is open and trusts the source" in line for line in lines), lines
    assert any("the destination's object is missing" in line for line in lines)
    _, found = cutover.verify()
    assert found[name].kind is OutcomeKind.UNCHANGED
    cutover.world.old.fs.pipe(cutover.world.old._prepare_path("upload.bin"), b"no row yet")
    report, listed = cutover.orphans()
    assert report.counts.get(OutcomeKind.ORPHAN) is None, listed


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_moved_in_any_phase(cutover: CutoverWorld, phase: Phase) -> None:
    cutover.reach(phase)
    for options in ({"quarantine": ".aside", "yes": True}, {"quarantine": ".aside"}, {"restore": "all", "yes": True}):
        with pytest.raises(ConfigurationError, match=f"phase {phase.name}.*nothing was moved; end the cutover"):
            cutover.orphans(**options)


def test_orphans_of_another_place_are_moved_beside_a_cutover(cutover: CutoverWorld, tmp_path: Path) -> None:
    cutover.reach(Phase.DUAL_WRITE)
    attic = places.new_local(tmp_path / "attic", "attic").build()
    (tmp_path / "attic" / "lost.bin").write_bytes(b"no row names it")
    application = replace(cutover.application, backends={"old": cutover.backend, "attic": attic})
    moved = OrphansOptions(min_age=0, keys=("attic",), quarantine="aside", yes=True)
    assert OrphansJob(application, moved).run().counts == {OutcomeKind.QUARANTINED: 1}
    inside = places.new_local(tmp_path, "attic").build()
    application = replace(cutover.application, backends={"old": cutover.backend, "attic": inside})
    with pytest.raises(ConfigurationError, match="'old' is a cutover .*nothing was moved"):
        OrphansJob(application, moved).run()


def test_purge_keeps_what_either_side_may_name(cutover: CutoverWorld) -> None:
    """A run moved rows between the two places, and other rows name the cutover over both."""
    world = cutover.world
    old, new = world.old, world.new
    assert world.run().exit_code == 0
    over = CutoverBackend("both", old, new, outbox=cutover.outbox, phase="dual_write")
    application = replace(world.application, backends={"old": old, "new": new, "both": over})
    world.sql(
        "INSERT INTO pages (slug, image) VALUES ('p', :file)",
        file='{"backend": "both", "filename": "docs/0/d0.bin"}',
    )
    cutover.outbox.request_repair("docs/1/d1.bin", Side.SOURCE)
    report = PurgeJob(application, PurgeOptions(older_than=0, yes=True, lease_ttl=1.0)).run()
    assert report.counts[OutcomeKind.DELETED] == 2
    assert report.kept == {"a row or list still names it": 2}
    for name in ("docs/0/d0.bin", "docs/1/d1.bin"):
        assert old.fs.exists(old._prepare_path(name)), name


def test_purge_refuses_a_run_whose_key_is_a_cutover_now(cutover: CutoverWorld) -> None:
    assert cutover.world.run().exit_code == 0
    application = replace(cutover.application, backends={"old": cutover.backend, "new": cutover.world.new})
    with pytest.raises(ConfigurationError, match="'old' is a cutover now .*nothing was deleted"):
        PurgeJob(application, PurgeOptions(older_than=0)).run()


@pytest.mark.parametrize("phase", [Phase.DUAL_WRITE, Phase.DESTINATION_FIRST])
def test_a_cutover_that_is_not_registered_here_stops_what_deletes_and_moves(
    cutover: CutoverWorld, phase: Phase
) -> None:
    world = cutover.world
    cutover.reach(phase)
    assert world.run().exit_code == 0
    told = f"records a cutover of 'old' that is not over .phase {phase.name}"
    with pytest.raises(ConfigurationError, match=told):
        PurgeJob(world.application, PurgeOptions(older_than=0, yes=True, lease_ttl=1.0)).run()
    plain = replace(cutover, backend=world.old)
    with pytest.raises(ConfigurationError, match=told):
        plain.orphans(quarantine=".aside")
    options = SyncOptions(delete=True, dry_run=True)
    with pytest.raises(ConfigurationError, match=told):
        SyncJob(world.old, world.new, options, application=world.application).run()


@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DESTINATION])
def test_a_cutover_that_is_over_stops_nothing(cutover: CutoverWorld, phase: Phase) -> None:
    cutover.reach(phase)
    assert cutover.world.run().exit_code == 0
    with cutover.process("web-2"):
        if phase is Phase.SOURCE:
            with pytest.raises(ConfigurationError, match="1 process at work .web-2 in SOURCE"):
                PurgeJob(cutover.world.application, PurgeOptions(older_than=0)).run()
    report = PurgeJob(cutover.world.application, PurgeOptions(older_than=0)).run()
    assert report.counts == {OutcomeKind.DELETED: 4}


def test_what_needs_one_place_refuses_and_names_the_remedy(cutover: CutoverWorld) -> None:
    world, application = (
        cutover.world,
        replace(cutover.application, backends={"old": cutover.backend, "new": cutover.world.new}),
    )
    assert world.run().exit_code == 0
    told = "is a CutoverBackend, which is two places .*cutover repair --all"
    for options in (
        RunOptions(source="old", destination="new"), RunOptions(source="new", destination="old"),
        RunOptions(source="old"), RunOptions(source="old", destination="new", dry_run=True),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=told):
            RunJob(application, options).run()
    with pytest.raises(ConfigurationError, match=told):
        RevertJob(application, RevertOptions()).run()
    with pytest.raises(ConfigurationError, match=told):
        CheckJob(cutover.backend, world.new, CheckOptions())
    with pytest.raises(ConfigurationError, match=told):
        SyncJob(world.new, cutover.backend, SyncOptions())
    lines = explain(application, "documents.file", ["1"])
    assert "  now: a revert refuses, because 'old' is a cutover" in lines


def test_without_its_tables_each_job_says_that_the_phase_is_not_known(cutover: CutoverWorld) -> None:
    cutover.reach(Phase.DUAL_WRITE)
    cutover.world.sql("DROP TABLE migrate_storage_phase")
    for job in (cutover.verify, cutover.orphans, lambda: explain(cutover.application, "documents.file", ["1"])):
        with pytest.raises(ConfigurationError, match="the phase of the cutover 'old' cannot be read: .*phase.* gone"):
            job()
