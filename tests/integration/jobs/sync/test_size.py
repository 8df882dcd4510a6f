"""The memory of a sync and of a check does not grow with the stores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.evidence import Evidence
from tests.support.sync.trees import write

_CHILD = """
import sys
from migrate_storage.cli import cli
from tests.support.engine.other_process import peak
cli(sys.argv[1:], standalone_mode=False)
print(peak())
"""
_MISSING, _EXTRA = 50, 50
_FOLDER = 500


def _trees(folder: Path, count: int) -> tuple[Path, Path]:
    """Two trees that differ in a hundred objects. Files are links to a few, to be made quickly."""
    source, destination = folder / "a", folder / "b"
    for side, (first, last) in ((source, (0, count)), (destination, (_MISSING, count + _EXTRA))):
        for start in range(first - first % _FOLDER, last, _FOLDER):
            place = side / f"{start % 16:02}" / str(start)
            place.mkdir(parents=True)
            original = folder / f"{side.name}{start}"
            write(original, b"1", 1_000_000_000)
            for number in range(max(start, first), min(start + _FOLDER, last)):
                os.link(original, place / f"{number}.bin")
    return source, destination


def _peak(folder: Path, *arguments: str) -> int:
    """Bytes of memory that a command took at most."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments, "--quiet"], cwd=folder, capture_output=True, text=True, timeout=1800,
        check=False, env={**os.environ, "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_ten_times_the_objects_take_no_more_memory(count: int, tmp_path: Path, evidence: Evidence) -> None:
    # The same merge is below both: in a short run one of them shows it.
    commands = ("check", "sync") if count > 20_000 else ("sync",)
    peaks: dict[str, list[int]] = {command: [] for command in commands}
    for each in (count // 10, count):
        source, destination = _trees(tmp_path / str(each), each)
        pair = (str(source), str(destination))
        if "check" in commands:
            peaks["check"].append(_peak(tmp_path, "check", *pair, "--size-only", "--combined", "differences"))
            lines = (tmp_path / "differences").read_text().splitlines()
            assert sum(line.startswith("+") for line in lines) == _MISSING
            assert len(lines) == each + _EXTRA
        peaks["sync"].append(_peak(tmp_path, "sync", *pair, "--delete", "--min-age", "0", "--size-only"))
        assert sum(len(files) for _, _, files in os.walk(destination)) == each
    for small, large in peaks.values():
        assert large < 200_000_000, peaks
        assert large <= 1.2 * small, peaks
    evidence.record("the memory of sync and check does not grow with the stores", objects=count, peaks=peaks)
