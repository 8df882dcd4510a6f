"""Four processes of the application write all the time while a job runs; what they were acknowledged is true at its end.

Replacing content under the same name is exact only for writers that stop before a job settles (or behind a cutover
backend): so when the first pass is over the writers become calm, and go on with everything else. See docs/protocol.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from migrate_storage.core.events import Event, PassStarted
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.other_process import ROOT
from tests.support.engine.world import Document, World
from tests.support.evidence import Evidence
from tests.support.processes.forked import ForkedProcess

WRITERS = 4


class Live:
    """The writers, and what they say when they are done."""

    def __init__(
        self, world: World, registrations: list[places.Registration], folder: Path, rows: int, seed: int
    ) -> None:
        self.world, self.folder, self.rows = world, folder, rows
        self.told = {
            "url": world.url, "backends": [each.to_dict() for each in registrations], "of": WRITERS, "rows": rows,
            "seed": seed, "folder": str(folder), "keys": ["old", "old", "new"],
        }  # fmt: skip
        self.processes: list[ForkedProcess] = []

    def start(self) -> None:
        for number in range(WRITERS):
            told = json.dumps({**self.told, "number": number})
            self.processes.append(
                ForkedProcess(["-m", "tests.support.engine.writer"], {**os.environ, "WRITER": told}, ROOT)
            )
        self.wait(*(f"ready-{number}" for number in range(WRITERS)))

    def wait(self, *names: str) -> None:
        until = time.monotonic() + 120
        while not all((self.folder / name).exists() for name in names):
            for process in self.processes:
                assert process.poll() in (None, 0), process.communicate()[1]
            assert time.monotonic() < until, f"no {names}"
            time.sleep(0.02)

    def calm(self, event: Event) -> None:
        """From here on no name is replaced: the job waits until each writer has said so."""
        if event == PassStarted(number=2) and not (self.folder / "calm").exists():
            (self.folder / "calm").touch()
            self.wait(*(f"calm-{number}" for number in range(WRITERS)))

    def stop(self) -> tuple[dict[int, str | None], dict[str, int]]:
        (self.folder / "stop").touch()
        model: dict[int, str | None] = {}
        done: dict[str, int] = {}
        for number, process in enumerate(self.processes):
            errors = process.communicate(timeout=120)[1]
            assert process.returncode == 0, errors
            told = json.loads((self.folder / f"model-{number}.json").read_text())
            model.update({int(row): content for row, content in told["model"].items()})
            for work, count in told["done"].items():
                done[work] = done.get(work, 0) + count
        return model, done

    def kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()


@pytest.fixture
def live(rclone_s3: Any, request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Iterator[Live]:
    database, rows = request.param
    url = request.getfixturevalue(f"{database}_url")
    old = places.old_s3(rclone_s3, rclone_s3.new_bucket())
    new = places.new_s3(rclone_s3, rclone_s3.new_bucket())
    world = World(url, old.build(), new.build(), seed)
    names = [f"docs/{row % 7}/d{row}.bin" for row in range(rows)]
    files = world.files_at_once(names)
    world.add(*(Document(id=row, title="first", file=file) for row, file in enumerate(files)))
    folder = tmp_path / "live"
    folder.mkdir()
    live = Live(world, [old, new], folder, rows, seed)
    yield live
    live.kill()
    world.close()


def check(live: Live, model: dict[int, str | None], reports: list[Report]) -> tuple[int, int]:
    """Row by row: the bytes of its last acknowledged write, or listed. Returns how many opened, and how many are listed."""
    world = live.world
    listed = {(ref.column.table, ref.pk) for report in reports for outcome in report.problems for ref in outcome.refs}
    opened, excused = 0, 0
    with Session(world.engine) as session:
        rows = {document.id: document for document in session.scalars(sa.select(Document))}
        assert rows.keys() == {row for row, content in model.items() if content is not None}
        for row, document in rows.items():
            content = model[row]
            expected = content.encode() if content else world.contents[f"docs/{row % 7}/d{row}.bin"]
            try:
                got = document.file.get_content()
            except FileNotFoundError:
                got = None
            if got == expected:
                opened += 1
                continue
            assert ("documents", (row,)) in listed, (row, document.file.to_dict(), expected[:60], got and got[:60])
            excused += 1
    return opened, excused


def most_listed(live: Live) -> int:
    """How many rows may be listed: few, and more where more are written at once."""
    return max(3, live.rows // 300)


SIZES = [
    pytest.param(("postgres", 300), id="postgres"),
    pytest.param(("sqlite", 150), id="sqlite", marks=pytest.mark.soak),
    pytest.param(("postgres", 3000), id="postgres-3000", marks=pytest.mark.soak),
    pytest.param(("sqlite", 3000), id="sqlite-3000", marks=pytest.mark.soak),
]


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("live", SIZES, indirect=True)
def test_what_four_processes_write_while_a_job_runs_is_true_at_its_end(
    live: Live, seed: int, evidence: Evidence
) -> None:
    world = live.world
    live.start()
    world.events = _Listening(live)
    report = world.run(batch_size=20, concurrency=8, settle_time=0.5, lease_ttl=2.0)
    model, done = live.stop()
    assert report.state == "completed", report.error
    print(f"seed {seed}: {done}, {dict(report.counts)}, {report.passes} passes")
    assert all(done.get(work) for work in ("insert", "repoint", "delete", "restore", "replace")), done
    opened, excused = check(live, model, [report])
    assert excused <= most_listed(live), "a listed row is the exception"
    after = world.run(settle_time=0.1)
    assert (after.rows_remaining, after.exit_code) == (0, 0), after.problems
    check(live, model, [report, after])
    evidence.record(
        "four processes wrote through the ORM and FileObject.save() while a job ran; each row opened with its last acknowledged bytes or is listed",
        opened=opened, listed=excused, writes=done, passes=report.passes, database=world.engine.dialect.name,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("live", SIZES, indirect=True)
def test_with_a_revert_in_the_middle(live: Live, seed: int, evidence: Evidence) -> None:
    world = live.world
    live.start()
    world.events = _Listening(live, calming=False)
    half = world.run(batch_size=20, concurrency=8, settle_time=0.1, lease_ttl=2.0, limit=live.rows // 2)
    assert half.state == "limit_reached"
    assert half.rows_repointed > 0
    options = RevertOptions(settle_time=0.5, lease_ttl=2.0, concurrency=8)
    back = RevertJob(world.application, options, listener=_Listening(live).append).run()
    assert (live.folder / "calm").exists()
    report = world.run(batch_size=20, concurrency=8, settle_time=0.5, lease_ttl=2.0)
    model, done = live.stop()
    print(f"seed {seed}: {done}, {dict(back.counts)}, {dict(report.counts)}")
    assert (back.state, report.state) == ("completed", "completed")
    assert back.rows_repointed > 0
    opened, excused = check(live, model, [half, back, report])
    assert excused <= most_listed(live), "a listed row is the exception"
    evidence.record(
        "the same with a revert in the middle", opened=opened, listed=excused, writes=done, reverted=back.rows_repointed,
        database=world.engine.dialect.name,
    )  # fmt: skip


class _Listening(list):  # type: ignore[type-arg]
    """Events of a job, of which the second pass makes the writers calm."""

    def __init__(self, live: Live, *, calming: bool = True) -> None:
        super().__init__()
        self._live, self._calming = live, calming

    def append(self, event: Event) -> None:
        if self._calming:
            self._live.calm(event)
        super().append(event)
