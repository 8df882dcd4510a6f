"""Killed at any instruction, a job loses nothing, goes on from where it was, and pays little again.

The kill points are drawn at random for each run (the header tells the seed): 28 usually, 600 in the soak.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from tests.support.engine import registrations as places
from tests.support.engine.lives import BATCH, Life
from tests.support.engine.world import World
from tests.support.evidence import Evidence

CONCURRENCY = 4
STEPS = 1200
"""Steps of the longest of many lives of one job, from its first pass on. About 400 recover what the life before had begun."""
PREFLIGHT_STEPS, PREFLIGHT_SHARE = 2000, 0.1
"""Steps before the first pass, about, and how many of the lives end during these."""


class Job:
    """A job that is killed as often as one likes, and what it did in each of its lives."""

    def __init__(
        self, world: World, backends: tuple[Any, Any], tmp_path: Path, *, listed: bool = False, **options: Any
    ) -> None:
        self.world, self.backends, self.options = (
            world,
            backends,
            {"concurrency": CONCURRENCY, "batch_size": 5, **options},
        )
        self.notes = tmp_path / "notes"
        self.listed = listed
        self.named = world.check()
        self.copied: Counter[str] = Counter()
        self.copied_again = 0
        #: How many of ten parts of the rows were re-pointed at each kill.
        self.killed_at: Counter[int] = Counter()

    def live(self, steps: int = 0, *, after_preflight: bool = False) -> list[str]:
        """One life; afterwards claims 1 and 3 are checked. Returns how it ended, where it did."""
        moved = {file["filename"] for file in self._files() if file["backend"] == "new"}
        life = Life(
            url=self.world.url,
            backends=self.backends,
            steps=steps,
            after_preflight=after_preflight,
            notes=self.notes,
            options=self.options,
            listed=self.listed,
        )
        code, notes = life.live()
        assert code in ((0, -signal.SIGKILL) if steps else (0,)), (steps, code, notes)
        copied = [line.removeprefix("copy ") for line in notes if line.startswith("copy ")]
        assert not [path for path in copied if path.endswith(tuple(moved))], "what was swapped was copied again"
        again = sum(1 for path in copied if self.copied[path])
        assert again <= CONCURRENCY + BATCH + self.options["batch_size"], "more than was in flight and the last batch"
        self.copied_again += again
        self.copied.update(copied)
        assert self.world.check() == self.named, "a row names what does not open with its bytes"
        if code:
            self.killed_at[10 * sum(file["backend"] == "new" for file in self._files()) // self.named] += 1
        return notes[-1].split()[1:] if code == 0 else []

    def _files(self) -> list[dict[str, Any]]:
        values = [*self.world.raw(), *self.world.raw("albums", "pictures"), *self.world.raw("notes", "scan"), *self.world.raw("notes", "voice")]  # fmt: skip
        return [file for value in values for file in (value if isinstance(value, list) else [value]) if file]

    def ends_right(self) -> None:
        """The last life: everything is moved, and the journal knows nothing half done."""
        ended = self.live()
        assert ended[1:] == ["completed", "0", "0"], ended
        assert self.world.check(backend="new") == self.named
        journal = self.world.journal
        assert {entry.outcome for entry in journal.values()} == {OutcomeKind.REPOINTED}
        assert {entry.state for entry in journal.values()} == {"verified"}
        swapped = self.world.sql("SELECT row_id, count(*) FROM migrate_storage_row GROUP BY row_id HAVING count(*) > 1")
        assert swapped == [], "no row was re-pointed twice"


def live_until(job: Job, drawn: random.Random) -> list[str]:
    """One life, to a random step."""
    if drawn.random() < PREFLIGHT_SHARE:
        return job.live(drawn.randrange(1, PREFLIGHT_STEPS))
    return job.live(drawn.randrange(1, STEPS), after_preflight=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("points", [16, pytest.param(200, marks=pytest.mark.soak)])
def test_killed_at_single_steps_of_a_small_job(tmp_path: Path, seed: int, points: int, evidence: Evidence) -> None:
    """Each point anew from the same beginning: SQLite and two folders, copied."""
    made = tmp_path / "made"
    backends = (places.old_local(tmp_path / "old"), places.new_local(tmp_path / "new"))
    world = World(f"sqlite:///{made}.db", backends[0].build(), backends[1].build(), seed)
    world.fill(9, 3, 5)
    world.close()

    def begun(point: int) -> Job:
        here = f"{tmp_path}/{point}.db"
        shutil.copy(f"{made}.db", here)
        shutil.rmtree(tmp_path / "new")
        (tmp_path / "new").mkdir()
        fresh = World(f"sqlite:///{here}", world.old, world.new, seed)
        fresh.contents, fresh.types = world.contents, world.types
        return Job(fresh, backends, tmp_path)

    whole = begun(0)
    steps = int(whole.live()[0])
    whole.world.close()
    drawn = random.Random(seed)
    chosen = drawn.sample(range(1, steps), points) if points < steps else [drawn.randrange(1, steps) for _ in range(points)]  # fmt: skip
    for point in chosen:
        job = begun(point)
        job.live(point)
        job.ends_right()
        job.world.close()
        Path(f"{tmp_path}/{point}.db").unlink()
    evidence.record(
        "killed with SIGKILL before or after one request, statement or commit, then run once more; SQLite, local files",
        kills=points, steps_of_a_whole_life=steps, rows_opened_after_each=whole.named,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("database", "how"),
    [
        ("postgres", "copy listed"),
        ("sqlite", "transfer listed"),
        pytest.param("postgres", "transfer", marks=pytest.mark.soak),
        pytest.param("sqlite", "copy", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.soak)])
def test_killed_again_and_again(
    rclone_s3,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: str,
    how: str,
    kills: int,
    seed: int,
    evidence: Evidence,
) -> None:
    """One job killed after a random number of steps, over and over; when it is through, another begins."""
    drawn = random.Random(seed)
    url = request.getfixturevalue(f"{database}_url")
    killed = jobs = copied_again = 0
    killed_at: Counter[int] = Counter()
    while killed < kills:
        jobs += 1
        server = rclone_s3 if how.startswith("copy") else rclone_s3.by_another_name
        backends = (places.old_s3(server, rclone_s3.new_bucket()), places.new_s3(rclone_s3, rclone_s3.new_bucket()))
        world = World(url, backends[0].build(), backends[1].build(), seed + jobs)
        world.fill(60, 4, 6)
        job = Job(world, backends, tmp_path, listed=how.endswith("listed"))
        while killed < kills and not live_until(job, drawn):
            killed += 1
        job.ends_right()
        by_the_server = {entry.evidence == SERVER_SIDE_COPY for entry in world.journal.values() if entry.written_by_us}
        # Killed while all its copies waited for their listing, a job does not know of any whether it is its own.
        assert not by_the_server or (True in by_the_server) is how.startswith("copy")
        copied_again += job.copied_again
        killed_at += job.killed_at
        world.sql("DELETE FROM documents")
        world.sql("DELETE FROM albums")
        world.sql("DELETE FROM notes")
        for table in ("row", "object", "run"):
            world.sql(f"DELETE FROM migrate_storage_{table}")
        world.close()
    between, late = (sum(killed_at[tenth] for tenth in tenths) for tenths in (range(1, 10), range(5, 10)))
    assert kills < 100 or (between > kills / 5 and late), f"kills come over the whole life of a job: {killed_at}"
    evidence.record(
        f"killed with SIGKILL at random steps and run again, rows in {database}, objects on rclone, {how}",
        kills=killed, jobs=jobs, rows_opened_after_each=job.named, copied_again=copied_again,
        kills_by_tenths_of_rows_moved=[killed_at[tenth] for tenth in range(11)],
    )  # fmt: skip
