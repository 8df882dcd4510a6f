"""Killed with SIGKILL at any moment and run again, a job loses nothing."""

from __future__ import annotations

import random
import signal
from itertools import pairwise

import obstore
import pytest

from migrate_storage.core.model import OutcomeKind
from tests.support.engine import other_process as outside
from tests.support.engine import registrations as places
from tests.support.engine.lives import BATCH
from tests.support.engine.world import World
from tests.support.evidence import Evidence


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("database", "documents", "kills"),
    [("postgres", 100, 3), ("duckdb", 100, 3), pytest.param("postgres", 2000, 10, marks=pytest.mark.soak),
     pytest.param("mariadb", 500, 10, marks=pytest.mark.soak), pytest.param("sqlite", 500, 10, marks=pytest.mark.soak)],
)  # fmt: skip
def test_killed_while_rows_are_swapped(
    rclone_s3, request: pytest.FixtureRequest, database: str, documents: int, kills: int, seed: int, evidence: Evidence
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    bucket = rclone_s3.new_bucket()
    old, new = places.old_s3(rclone_s3, rclone_s3.new_bucket()), places.new_s3(rclone_s3, bucket)
    world = World(url, old.build(), new.build(), seed)
    world.fill(documents, 10, 30)
    named = sum(1 for _ in world.files())
    # Each life gets a share of the rows, together four fifths of them, and then some steps, hardly more than a batch takes.
    moments = random.Random(seed)
    shares = [moments.random() + 0.2 for _ in range(kills)]
    lives = [(int(0.8 * named * share / sum(shares)), moments.randrange(1, 12)) for share in shares]
    moved = []
    for after, steps in lives:
        world.engine.dispose()  # one process at a time opens a file of DuckDB
        done = outside.forked(
            url, old, new, "--batch-size", "20", "--concurrency", "8", after=after, steps=steps, batch=BATCH
        )
        assert done.returncode == -signal.SIGKILL, (after, steps, done.stdout, done.stderr)
        assert world.check() == named
        moved.append(sum(file.backend.key == "new" for file in world.files()))
    assert moved == sorted(moved)
    assert sum(later > earlier for earlier, later in pairwise([0, *moved])) > kills // 2, (
        "the kills come while rows are swapped"
    )
    world.engine.dispose()
    done = outside.forked(url, old, new)
    assert done.returncode == 0, done.stderr
    report = outside.told(done, "report")
    assert (report["state"], report["resumed"], report["rows_remaining"]) == ("completed", True, 0)
    assert world.check(backend="new") == named
    assert {entry.outcome for entry in world.journal.values()} == {OutcomeKind.REPOINTED}
    assert {entry.state for entry in world.journal.values()} == {"verified"}
    held = {meta["path"] for page in obstore.list(rclone_s3.store(bucket)) for meta in page}
    assert {path for path in held if not path.startswith(".migrate-storage/")} == set(world.contents)
    evidence.record(
        "killed with SIGKILL at random moments of the swaps, resumed each time", kills=kills,
        rows_moved_at_each=moved, database=database, rows_opened=named, left_in_the_last_run=report["counts"].get("repointed", 0),
    )  # fmt: skip
    world.close()
