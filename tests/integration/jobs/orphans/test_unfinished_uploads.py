"""An upload that a killed quarantine left half written on a disk does not block the next quarantine."""

from __future__ import annotations

from pathlib import Path

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import World


def quarantine(world: World, *, yes: bool = True) -> Report:
    options = OrphansOptions(keys=("old",), min_age=0.0, lease_ttl=1.0, quarantine="q", yes=yes)
    return OrphansJob(world.application, options).run()


@pytest.mark.parametrize("name", ["x.bin#1", "deep/er/x.bin#27"])
def test_it_is_kept_and_counted_and_all_others_are_moved(name: str, tmp_path: Path, sqlite_url: str) -> None:
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(2)
    for stray in ("one", "two"):
        world.old.save_object(FileObject(backend="old", filename=stray), b"nobody's")
        moved = quarantine(world)
        assert (moved.exit_code, moved.counts[OutcomeKind.QUARANTINED]) == (0, 1), moved
        half = tmp_path / "old" / "q" / moved.run / name
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half of it")
    assert half.read_bytes() == b"half of it"
    # The same name in a folder that no job made belongs to somebody else.
    (tmp_path / "old" / "q" / "mine").mkdir()
    (tmp_path / "old" / "q" / "mine" / "x#1").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match="which no quarantine put there"):
        quarantine(world)


@pytest.mark.parametrize("name", ["x.bin#1", "deep/er/x.bin#27", "#3"])
def test_one_that_obstore_left_is_listed_with_the_remedy(name: str, tmp_path: Path, sqlite_url: str) -> None:
    """A killed process of the application left it among the files of an ObstoreBackend."""
    new = places.new_local(tmp_path / "new")
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), new.build())
    half = tmp_path / "new" / name
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half of it")
    (tmp_path / "new" / "stray").write_bytes(b"nothing names it")
    options = OrphansOptions(keys=("new",), min_age=0.0, lease_ttl=1.0, quarantine="q", yes=True)
    report = OrphansJob(world.application, options).run()
    assert report.counts == {OutcomeKind.QUARANTINED: 1, OutcomeKind.FAILED: 1}, report
    [listed] = report.problems
    assert listed.source.path == name
    assert "rename it in the store itself, or remove it there" in listed.reason
    assert half.read_bytes() == b"half of it"
    half.unlink()
    assert OrphansJob(world.application, options).run().exit_code == 0
