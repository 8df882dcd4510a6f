"""What ``plan --manifest`` writes for programs that copy in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrate_storage import ObstoreBackend
from migrate_storage.engine.place_proof import PlaceProof
from migrate_storage.engine.plan import choose_strategy
from migrate_storage.jobs.run.manifest import ManifestFile
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import ObjectRecord
from migrate_storage.reporting import Report
from migrate_storage.stores.resolved_backend import ResolvedBackend
from tests.support.engine.world import World
from tests.support.sync.trees import rclone

NAMES = ["a.txt", "b c/ü.txt", "x,y.txt", 'say "x".txt', "two\nlines", "a//b"]
_S3: dict[str, Any] = {"region": "eu-west-1", "skip_signature": True}
_NO_BREAKS = "their names have line breaks, which a line cannot express"
_OTHER_KEY = "their copies have another key than their own below one prefix, as the format 'rclone' can express"


@pytest.mark.parametrize(
    ("kind", "below", "lines", "left_out"),
    [
        (
            "s3-batch", "new/docs/",
            ["up,docs/a.txt", "up,docs/b%20c/%C3%BC.txt", "up,docs/x%2Cy.txt", "up,docs/say%20%22x%22.txt", "up,docs/two%0Alines", "up,docs/a//b"],
            {},
        ),
        ("s3-batch", "other/", [], {_OTHER_KEY: 6}),
        ("storage-transfer", "other/", ["a.txt", "b c/ü.txt", '"x,y.txt"', '"say ""x"".txt"', "a//b"], {_NO_BREAKS: 1}),
        (
            "rclone", "other/", ["a.txt", "b c/ü.txt", "x,y.txt", 'say "x".txt'],
            {_NO_BREAKS: 1, "their names have parts that rclone does not address: '//', '.' or '..'": 1},
        ),
    ],
)  # fmt: skip
def test_lines(kind: str, below: str, lines: list[str], left_out: dict[str, int]) -> None:
    sides = [
        ResolvedBackend(ObstoreBackend(key=key, fs=f"s3://{root}", **_S3))
        for key, root in (("old", "up/docs/"), ("new", f"files/{below}"))
    ]
    plan = choose_strategy(*sides, swap=None, proof=PlaceProof(shared=False))
    options = RunOptions(source="old", destination="new", dry_run=True, manifest=Path("m"), manifest_format=kind)
    file = ManifestFile(plan, options)
    records = [
        ObjectRecord(
            id="1",
            run="r",
            source_key="old",
            source_path=name,
            destination_key="new",
            destination_path=plan.destination_path(name),
        )
        for name in NAMES
    ]
    assert list(file.lines(records)) == lines
    assert file._left_out == left_out


def test_what_rclone_copies_by_it_is_not_copied_again(world: World, tmp_path: Path) -> None:
    """A sample of the rows would not do; what is missing, or at the destination already, is not in it."""
    world.fill(12)
    (tmp_path / "old" / "docs/0/d0.bin").unlink()
    (tmp_path / "new" / "docs/1").mkdir(parents=True)
    (tmp_path / "new" / "docs/1/d1.bin").write_bytes(world.contents["docs/1/d1.bin"])
    manifest = tmp_path / "keys.txt"
    manifest.write_text("of an earlier plan")
    report = world.run(dry_run=True, sample=2, manifest=manifest)
    names = sorted(set(world.contents) - {"docs/0/d0.bin", "docs/1/d1.bin"})
    assert sorted(manifest.read_text().splitlines()) == names
    assert _notes(report) == {"manifest.written": f"{len(names)} objects"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    copied = rclone("copy", "--files-from-raw", manifest, tmp_path / "old", tmp_path / "new")
    assert copied.returncode == 0, copied.stderr
    report = world.run()
    assert report.verified_by == {"content_compared": 11}
    assert report.counts == {"repointed": 11, "missing": 1}


def _notes(report: Report) -> dict[str, str]:
    return {note.code: " ".join(note.message.split()[:2]) for note in report.notes if note.code.startswith("manifest.")}
