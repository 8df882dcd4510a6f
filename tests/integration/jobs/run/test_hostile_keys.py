"""Keys that come from a database are untrusted: each is moved intact or listed, and none speaks to the terminal."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.reporting import render
from migrate_storage.reporting.progress.json_lines import JsonLines
from migrate_storage.reporting.progress.plain import Lines
from migrate_storage.translate import decode_key, unaddressable
from migrate_storage.translate.registration import read
from tests.support.engine.hostile_rows import check_rows, fill_rows, insert_row
from tests.support.engine.world import World
from tests.support.evidence import Evidence
from tests.support.servers import S3Server

NORMAL, SOAK = 500, 5000


def shown(evidence: Evidence, between: str, ended: dict[int, Outcome]) -> None:
    moved = sum(outcome.kind.done for outcome in ended.values())
    evidence.record(
        f"hostile keys, {between}: each moved intact or listed with a reason", keys=len(ended), moved=moved,
        listed=len(ended) - moved,
    )  # fmt: skip


def assert_harmless(world: World, report: Any) -> None:
    """Nothing that a terminal would obey, whichever way it is shown."""
    lines, machine = io.StringIO(), io.StringIO()
    for shown in (Lines(lines, every=0), JsonLines(machine, every=0)):
        for event in world.events:
            shown(event)
    for text in (render(report), lines.getvalue(), machine.getvalue()):
        bad = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
        assert not bad
    assert machine.getvalue().isascii()


@pytest.fixture(params=[NORMAL, pytest.param(SOAK, marks=pytest.mark.soak)])
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("invalid_keys", ["fail", "encode"])
def test_from_memory_to_s3(
    count: int, invalid_keys: str, sqlite_url: str, moto_s3: S3Server, evidence: Evidence
) -> None:
    count //= 2 if (count, invalid_keys) == (NORMAL, "fail") else 1
    old = FSSpecBackend(key="old", fs="memory", prefix=f"hostile-{invalid_keys}-{count}")
    new = ObstoreBackend(key="new", fs=f"s3://{moto_s3.new_bucket()}/", **moto_s3.options())
    world = World(sqlite_url, old, new)
    names, contents = fill_rows(world, count, lambda name, content: old.fs.pipe_file(old._prepare_path(name), content))
    report = world.run(invalid_keys=invalid_keys)
    assert report.state == "completed", report.error
    ended = check_rows(world, names, contents)
    assert_harmless(world, report)
    assert sum(outcome.kind.done for outcome in ended.values()) > count / 3
    refused = [number for number in contents if not ended[number].kind.done and unaddressable(names[number])]
    if invalid_keys == "fail":
        assert refused
        assert any("--invalid-keys encode" in ended[number].reason for number in refused)
    else:
        relative = {number: read(old).relative(names[number]) for number in contents if ended[number].kind.done}
        encoded = {number: name for number, name in relative.items() if unaddressable(name)}
        assert len(encoded) > len(contents) / 20
        assert {number: decode_key(ended[number].destination.path) for number in encoded} == encoded
    shown(evidence, f"memory to S3, --invalid-keys {invalid_keys}", ended)


def test_from_s3_to_a_disk(
    count: int, postgres_url: str, tmp_path: Path, moto_s3: S3Server, evidence: Evidence
) -> None:
    bucket = moto_s3.new_bucket()
    old = FSSpecBackend(key="old", fs=moto_s3.fs(), prefix=bucket)
    world = World(postgres_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))
    count //= 2 if count == NORMAL else 1
    names, contents = fill_rows(
        world, count, lambda name, content: moto_s3.client.put_object(Bucket=bucket, Key=name, Body=content)
    )
    report = world.run(invalid_keys="encode")
    assert report.state == "completed", report.error
    ended = check_rows(world, names, contents)
    assert_harmless(world, report)
    assert sum(outcome.kind.done for outcome in ended.values()) > count / 4
    assert not [path for path in tmp_path.iterdir() if path.name != "new"], "nothing was written outside of the root"
    shown(evidence, "S3 to a disk", ended)


def test_from_a_disk_to_s3(count: int, mariadb_url: str, tmp_path: Path, moto_s3: S3Server, evidence: Evidence) -> None:
    count //= 2 if count == NORMAL else 1
    (tmp_path / "old").mkdir()
    (tmp_path / "up").write_bytes(b"a secret next door")
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)
    new = ObstoreBackend(key="new", fs=f"s3://{moto_s3.new_bucket()}/", **moto_s3.options())
    world = World(mariadb_url, old, new)

    def save(name: str, content: bytes) -> None:
        path = (tmp_path / "old" / name.lstrip("/")).resolve()
        assert path.is_relative_to(tmp_path / "old")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    names, contents = fill_rows(world, count, save)
    report = world.run(invalid_keys="encode")
    assert report.state == "completed", report.error
    ended = check_rows(world, names, contents)
    assert_harmless(world, report)
    up = next(number for number, name in names.items() if name == "../up")
    assert ended[up].kind is OutcomeKind.FAILED
    assert "leads out of" in ended[up].reason
    shown(evidence, "a disk to S3", ended)


def test_two_names_that_a_rule_makes_one_are_not_both_moved(world: World) -> None:
    """``a//b`` becomes ``a/%2Fb``, and there is a file of that name: the second one is refused, whichever it is."""
    store = {"a//b": b"one", "a/%2Fb": b"two"}
    memory = FSSpecBackend(key="old", fs="memory", prefix="collision")
    world.old = memory
    World.__post_init__(world)
    for number, (name, content) in enumerate(store.items(), 1):
        memory.fs.pipe_file(f"/collision/{name}", content)
        assert insert_row(world, number, name)
    report = world.run(invalid_keys="encode")
    assert (report.exit_code, report.rows_repointed) == (1, 1)
    assert report.counts == {OutcomeKind.REPOINTED: 1, OutcomeKind.DESTINATION_EXISTS: 1}
    assert "another source object goes to" in report.problems[0].reason
    for value in world.raw():
        backend = world.new if value["backend"] == "new" else world.old
        assert backend.get_content(value["filename"]) in store.values()
    again = world.run(invalid_keys="encode")
    assert (again.exit_code, again.rows_repointed) == (1, 0)


def test_by_default_a_key_that_cannot_be_said_is_listed_with_the_rule_that_helps(world: World) -> None:
    memory = FSSpecBackend(key="old", fs="memory", prefix="refused")
    world.old = memory
    World.__post_init__(world)
    memory.fs.pipe_file("/refused/a//b", b"one")
    assert insert_row(world, 1, "a//b")
    report = world.run()
    assert report.exit_code == 1
    assert report.problems[0].kind is OutcomeKind.FAILED
    assert "--invalid-keys encode" in report.problems[0].reason
    report = world.run(invalid_keys="encode")
    assert report.exit_code == 0
    assert [value["filename"] for value in world.raw()] == ["a/%2Fb"]
    assert world.new.get_content("a/%2Fb") == b"one"
