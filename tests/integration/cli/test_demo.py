"""The demo, as a process of its own, twice, and what it says to type next."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrate_storage.cli.demo.scenario import FILES, Demo
from migrate_storage.core.errors import ConfigurationError
from tests.support import ROOT


def typed(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo in a network namespace of its own, where there is no network at all: it asks nobody."""
    alone = ("unshare", "--map-root-user", "--net")
    return typed(folder, [*alone, sys.executable, "-m", "migrate_storage", "demo", *arguments])


def keys(folder: Path) -> dict[str, int]:
    """How many files name each backend key, counted in the database's own words."""
    single = "SELECT json_extract(source, '$.backend') AS key FROM module"
    listed = "SELECT json_extract(value, '$.backend') FROM package, json_each(sources)"
    nullable = (
        "SELECT json_extract(sample, '$.backend') FROM author WHERE json_extract(sample, '$.backend') IS NOT NULL"
    )
    with sa.create_engine(f"sqlite:///{folder}/app.db").connect() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT key, count(*) FROM ({single} UNION ALL {listed} UNION ALL {nullable}) GROUP BY key"
        )
        return {str(key): count for key, count in rows}


def test_twice_and_then_what_it_says_to_type(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"which saved {FILES} files with FSSpecBackend" in first.stdout
    assert "Finished: no row names 'old' any more." in first.stdout
    assert f"{FILES} files equal to the original, byte by byte; 0 different." in first.stdout
    assert f"{FILES} objects" in first.stderr
    folder = tmp_path / "migrate-storage-demo"
    assert keys(folder) == {"new": FILES}
    for side in ("old", "new"):
        assert sum(path.is_file() for path in (folder / side).rglob("*")) == FILES

    second = demo(tmp_path)
    assert second.returncode == 0, second.stderr
    assert "Finished, nothing was left to do: no row names 'old' any more." in second.stdout
    assert ", resumed" in second.stdout
    assert f"{FILES} files equal to the original, byte by byte; 0 different." in second.stdout

    lines = second.stdout.split("\nNext commands\n")[1].splitlines()
    assert lines[0].strip() == "cd migrate-storage-demo"
    said = [shlex.split(line, comments=True) for line in lines[1:] if line.strip()]
    ended = [typed(folder, command) for command in said]
    assert [each.returncode for each in ended] == [0] * len(said), [each.stderr for each in ended]
    saved, planned, ran, reported, listed = (each.stdout for each in ended)
    assert "Saved late/" in saved
    assert planned.startswith("A plan, nothing was changed: 1 object to handle.")
    assert "1 repointed" in ran
    assert reported.splitlines()[:8] == ran.splitlines()[:8]
    assert len(listed.splitlines()) == 3
    assert keys(folder) == {"new": FILES + 1}

    third = demo(tmp_path)
    assert "1 file that the application saved later opened as well." in third.stdout


def test_bytes_that_differ_are_seen(tmp_path: Path) -> None:
    assert demo(tmp_path, "--quiet", "--directory", "elsewhere").stdout == ""
    victim = next(path for path in (tmp_path / "elsewhere/new").rglob("*.py"))
    victim.write_bytes(b"x" * victim.stat().st_size)
    ended = demo(tmp_path, "--directory", "elsewhere")
    assert ended.returncode == 1
    assert f"{FILES - 1} files equal to the original, byte by byte; 1 different." in ended.stdout
    assert f"differs: {victim.relative_to(tmp_path / 'elsewhere/new')}" in ended.stdout


def test_as_json(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in demo(tmp_path, "--json").stdout.splitlines()]
    assert [each["event"] for each in lines][-2:] == ["report", "compared"]
    assert lines[-2]["counts"] == {"repointed": FILES}
    assert (lines[-1]["equal"], lines[-1]["different"], lines[-1]["at_old_key"]) == (FILES, [], 0)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ConfigurationError, match="is not empty: name another folder with --directory"):
        Demo(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_picture_of_the_readme_is_of_a_whole_demo() -> None:
    picture = re.sub(r"<[^>]+>", "", (ROOT / "docs/images/run.svg").read_text()).replace("&#160;", " ")
    for part in ("migrate-storage demo", "Finished: no row names", f"{FILES} repointed", "0 different"):
        assert part in picture, part
