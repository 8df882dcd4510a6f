"""Several pairs of keys, one run after the other, on each database and a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, StoppedError
from migrate_storage.core.events import Event, RunFinished, silent
from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.several import SeveralRuns
from migrate_storage.reporting.combined import CombinedReport
from tests.support.engine import registrations as places
from tests.support.engine.world import Album, Page, World
from tests.support.servers import S3Server


@dataclass
class Archive:
    """A world with a second old key and a second new one."""

    world: World
    application: Application

    def photo(self, name: str) -> FileObject:
        """Save a file under the second old key, as the application does."""
        world, photos = self.world, self.application.backends["photos"]
        content = f"photo {name}".encode()
        world.contents[name], world.types[name] = content, "image/png"
        file = FileObject(backend="photos", filename=name, content_type="image/png", metadata={"name": name})
        photos.save_object(FileObject(backend="photos", filename=name, content_type="image/png"), content)
        return file

    def fill(self, count: int = 5) -> None:
        """Rows of both keys, some of which have files of both."""
        self.world.fill(count)
        for number in range(count):
            mixed = [self.world.file(f"mixed/{number}.png"), self.photo(f"mixed/{number}.photo.png")]
            self.world.add(Page(slug=f"p{number}", image=self.photo(f"{number}.png")), Album(pictures=mixed))

    def several(self, *pairs: tuple[str, str], listener: Any = silent, **options: Any) -> SeveralRuns:
        each = [RunOptions(**{"source": a, "destination": x, "settle_time": 0.0, **options}) for a, x in pairs]
        return SeveralRuns(self.application, each, lambda how: RunJob(self.application, how, listener))

    def run(self, *pairs: tuple[str, str], **options: Any) -> CombinedReport:
        return self.several(*(pairs or BOTH), **options).run()

    def keys(self) -> set[str]:
        return {file.backend.key for file in self.world.files()}


BOTH = (("old", "new"), ("photos", "pictures"))


def make_archive(url: str, registrations: Sequence[places.Registration]) -> Archive:
    old, new, photos, pictures = (each.build() for each in registrations)
    world = World(url, old, new)
    for backend in (photos, pictures):
        storages.register_backend(backend)
    backends = {each.key: each for each in (old, new, photos, pictures)}
    return Archive(world, Application(engine=world.engine, columns=world.columns, backends=backends))


@pytest.fixture
def on_databases(any_database_url: str, moto_s3: S3Server) -> Iterator[Archive]:
    archive = make_archive(
        any_database_url,
        [
            places.old_s3(moto_s3, moto_s3.new_bucket()), places.new_s3(moto_s3, moto_s3.new_bucket()),
            places.old_s3(moto_s3, moto_s3.new_bucket(), "photos"), places.new_s3(moto_s3, moto_s3.new_bucket(), "pictures"),
        ],
    )  # fmt: skip
    yield archive
    archive.world.close()


@pytest.fixture
def archive(sqlite_url: str, tmp_path: Path) -> Iterator[Archive]:
    made = make_archive(
        sqlite_url,
        [
            places.old_local(tmp_path / "old"), places.new_local(tmp_path / "new"),
            places.old_local(tmp_path / "photos", "photos"), places.new_local(tmp_path / "pictures", "pictures"),
        ],
    )  # fmt: skip
    yield made
    made.world.close()


def test_there_and_back(on_databases: Archive) -> None:
    archive, world = on_databases, on_databases.world
    archive.fill()
    count = sum(1 for _ in world.files())
    report = archive.run()
    assert (report.exit_code, len(report.reports), report.not_done) == (0, 2, ()), report
    assert [each.rows_remaining for each in report.reports] == [0, 0]
    assert archive.keys() == {"new", "pictures"}
    assert world.check() == count
    again = archive.run()
    assert (again.exit_code, [each.objects for each in again.reports]) == (0, [0, 0])
    for run, left in zip(report.reports, ({"old", "pictures"}, {"old", "photos"}), strict=True):
        back = RevertJob(archive.application, RevertOptions(settle_time=0.0), run=run.run).run()
        assert back.exit_code == 0, back.problems
        assert archive.keys() == left
        assert world.check() == count


def test_two_keys_become_one(on_databases: Archive) -> None:
    archive, world = on_databases, on_databases.world
    archive.fill()
    count = sum(1 for _ in world.files())
    report = archive.run(("old", "new"), ("photos", "new"))
    assert report.exit_code == 0
    assert archive.keys() == {"new"}
    assert world.check() == count


def test_two_objects_with_one_name_at_one_destination(on_databases: Archive) -> None:
    archive, world = on_databases, on_databases.world
    world.add(Page(slug="one", image=world.file("same.png", b"one")), Page(slug="two", image=archive.photo("same.png")))
    before = world.dump()
    for dry_run in (False, True):
        with pytest.raises(ConfigurationError, match="old:same.png and photos:same.png would both be copied to"):
            archive.run(("old", "new"), ("photos", "new"), dry_run=dry_run)
    assert world.dump() == before
    assert archive.run().exit_code == 0, "to two destinations they may go"


def test_one_object_under_two_keys(sqlite_url: str, moto_s3: S3Server) -> None:
    """Both keys are registered for one bucket, so their rows name one object, and no two objects get one name."""
    bucket, there = moto_s3.new_bucket(), moto_s3.new_bucket()
    archive = make_archive(
        sqlite_url,
        [
            places.old_s3(moto_s3, bucket), places.new_s3(moto_s3, there),
            places.old_s3(moto_s3, bucket, "photos"), places.new_s3(moto_s3, moto_s3.new_bucket(), "pictures"),
        ],
    )  # fmt: skip
    world = archive.world
    world.add(Page(slug="one", image=world.file("same.png", b"one", "image/png")))
    image = FileObject(backend="photos", filename="same.png", content_type="image/png", metadata={"name": "same.png"})
    world.add(Page(slug="two", image=image))
    report = archive.run(("old", "new"), ("photos", "new"))
    assert report.exit_code == 0, report
    assert world.check(backend="new") == 2
    world.close()


def test_a_bad_second_pair_changes_nothing(archive: Archive, tmp_path: Path) -> None:
    archive.fill(3)
    before = archive.world.dump()
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="^photos -> pictures: the source 'photos' is the folder"):
        archive.run()
    assert archive.world.dump() == before
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file()]


def test_a_stop_during_the_check_changes_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.fill(3)
    before = archive.world.dump()
    several = archive.several(*BOTH)
    examine = RunJob.examine

    def examine_and_stop(job: RunJob, *given: Any) -> Any:
        found = examine(job, *given)
        several.stop()
        return found

    monkeypatch.setattr(RunJob, "examine", examine_and_stop)
    with pytest.raises(StoppedError):
        several.run()
    assert archive.world.dump() == before


def test_a_stop_between_two_runs(archive: Archive) -> None:
    archive.fill(3)
    holder: list[SeveralRuns] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunFinished):
            holder[0].stop()

    holder.append(archive.several(*BOTH, listener=listen))
    report = holder[0].run()
    assert (report.exit_code, report.state) == (130, "interrupted")
    [finished], [left] = report.reports, report.not_done
    assert (finished.source, finished.exit_code) == ("old", 0)
    assert (left.source, left.reason) == ("photos", "a stop was requested")
    assert archive.run().exit_code == 0
    assert archive.keys() == {"new", "pictures"}


def test_a_pair_that_is_refused_after_the_first_one_ran(archive: Archive, tmp_path: Path) -> None:
    """Its disk was there at the check, and is gone when its turn comes."""
    archive.fill(3)

    def listen(event: Event) -> None:
        if isinstance(event, RunFinished):
            (tmp_path / "photos").rename(tmp_path / "elsewhere")

    report = archive.run(listener=listen)
    assert (report.exit_code, [each.source for each in report.reports]) == (2, ["old"])
    [left] = report.not_done
    assert "is its disk mounted" in left.reason
    (tmp_path / "elsewhere").rename(tmp_path / "photos")
    assert archive.run().exit_code == 0


def test_limits_of_all_runs_together(archive: Archive) -> None:
    archive.fill(3)
    report = archive.run(max_duration=1e-9)
    assert report.exit_code == 4
    assert [each.reason for each in report.not_done] == ["the limit of time or bytes was reached"] * 2
    report = archive.run(limit=2)
    assert [each.state for each in report.reports] == ["limit_reached"] * 2
    assert archive.run().exit_code == 0


def test_a_problem_of_one_pair(archive: Archive, tmp_path: Path) -> None:
    archive.fill(3)
    (tmp_path / "old/docs/1/d1.bin").unlink()
    report = archive.run()
    assert report.exit_code == 1
    first, second = report.reports
    assert first.counts[OutcomeKind.MISSING] == 1
    assert (second.exit_code, second.rows_remaining) == (0, 0)
