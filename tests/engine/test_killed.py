"""Killed with SIGKILL at any moment and run again, a job loses nothing."""

from __future__ import annotations

import random
import signal

import obstore
import pytest

from migrate_storage.model import OutcomeKind
from tests.engine import outside, places
from tests.engine.world import World
from tests.evidence import Evidence


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("database", "documents"),
    [("postgres", 250), pytest.param("postgres", 2000, marks=pytest.mark.soak),
     pytest.param("mariadb", 500, marks=pytest.mark.soak), pytest.param("sqlite", 500, marks=pytest.mark.soak)],
)  # fmt: skip
def test_killed_ten_times(
    rclone_s3, request: pytest.FixtureRequest, database: str, documents: int, seed: int, evidence: Evidence
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    bucket = rclone_s3.new_bucket()
    old, new = places.old_s3(rclone_s3, rclone_s3.new_bucket()), places.new_s3(rclone_s3, bucket)
    world = World(url, old.build(), new.build(), seed)
    world.fill(documents, 10, 30)
    named = sum(1 for _ in world.files())
    moments = random.Random(seed)
    # A document takes about seven requests and statements; ten lives together are shorter than the job.
    lives = [moments.randrange(1, documents * 7 // 12) for _ in range(10)]
    for life, steps in enumerate(lives):
        done = outside.run(url, old, new, "--window", "20", "--concurrency", "8", steps=steps)
        assert done.returncode == -signal.SIGKILL, (life, steps, done.stdout, done.stderr)
        assert world.check() == named
    done = outside.run(url, old, new)
    assert done.returncode == 0, done.stderr
    report = outside.told(done, "report")
    assert (report["state"], report["resumed"], report["rows_left"]) == ("finished", True, 0)
    assert world.check(backend="new") == named
    assert {entry.outcome for entry in world.journal.values()} == {OutcomeKind.REWRITTEN}
    assert {entry.state for entry in world.journal.values()} == {"held"}
    held = {meta["path"] for page in obstore.list(rclone_s3.store(bucket)) for meta in page}
    assert {path for path in held if not path.startswith(".migrate-storage/")} == set(world.contents)
    evidence.record(
        "killed with SIGKILL ten times at random moments, resumed each time", kills=len(lives), steps=lives,
        database=database, rows_opened=named, left_in_the_last_run=report["counts"].get("rewritten", 0),
    )  # fmt: skip
    world.close()
