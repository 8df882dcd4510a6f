"""``cutover status`` and ``cutover repair`` on an application whose backend is a CutoverBackend."""

from __future__ import annotations

import contextlib
import json
import threading
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from migrate_storage.cli import cli
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database

APPLICATION = """
from sqlalchemy import create_engine
from advanced_alchemy.base import UUIDBase
from advanced_alchemy.types import StoredObject
from advanced_alchemy.types.file_object import FileObject, storages
from sqlalchemy.orm import Mapped, mapped_column
from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.database.connection import Database

engine = create_engine({url!r})
outbox = Outbox(Database(engine), "files")
outbox.prepare()
old, new = ObstoreBackend("old", {old!r}), ObstoreBackend("new", {new!r})
storages.register_backend(CutoverBackend("files", old, new, phase="dual_write", outbox=outbox))

class {name}(UUIDBase):
    __tablename__ = "{name}"
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="files"))
"""


@pytest.fixture
def module(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"cutover_app_{tmp_path.name}".replace("-", "_")
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    values = {"url": sqlite_url, "old": (tmp_path / "old").as_uri(), "new": (tmp_path / "new").as_uri(), "name": name}
    (tmp_path / f"{name}.py").write_text(APPLICATION.format(**values))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return name


def test_what_waits_is_said_and_repaired(module: str, tmp_path: Path, sqlite_url: str) -> None:
    run = CliRunner()
    ended = run.invoke(cli, ["cutover", "status", "--app", module, "--json"], standalone_mode=False)
    assert json.loads(ended.output)["entries"] == 0, ended.output
    assert ended.return_value == 0
    (tmp_path / "old" / "a.txt").write_bytes(b"content")
    Outbox(Database(sqlite_url), "files").request_repair("a.txt", Side.SOURCE)
    ended = run.invoke(cli, ["cutover", "status", "--app", module], standalone_mode=False)
    assert "DUAL_WRITE, 1 key with an open entry" in ended.output
    assert "a.txt: the source is right" in ended.output
    assert ended.return_value == 1
    repair = ["cutover", "repair", "--app", module, "--metrics-file", "cutover.prom"]
    ended = run.invoke(cli, repair, standalone_mode=False)
    assert "1 key repaired, 0 left, 0 failed" in ended.output, ended.output
    told = Path("cutover.prom").read_text().splitlines()
    assert 'migrate_storage_cutover_repair_total{side="destination",backend="files"} 1' in told
    assert 'migrate_storage_cutover_open_repair{side="source",backend="files"} 0' in told
    assert ended.return_value == 0
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"content"


def test_what_cannot_be_is_said(module: str) -> None:
    run = CliRunner()
    for words, told in {
        ("--backend", "other"): "no CutoverBackend has this key; there is files",
        ("--phases", "later"): "no such phase",
    }.items():
        ended = run.invoke(cli, ["cutover", "repair", "--app", module, *words], standalone_mode=False)
        assert told in str(ended.exception)
    assert "fixed in code" in str(invoked("advance", "--app", module).exception)


def invoked(*words: str) -> Result:
    return CliRunner().invoke(cli, ["cutover", *words], standalone_mode=False)


def test_a_shared_phase_goes_forth_and_back(module: str, tmp_path: Path, sqlite_url: str) -> None:
    file, at = tmp_path / f"{module}.py", ("--app", module)
    file.write_text(file.read_text().replace('phase="dual_write"', 'phase="shared"'))
    ended = invoked("status", *at, "--json")
    assert json.loads(ended.output) | {"failures": None} == {
        "event": "cutover", "backend": "files", "phase": "source", "shared": True, "processes": [], "entries": 0,
        "by_side": {}, "failures": None,
    }  # fmt: skip
    ended = invoked("advance", *at)
    assert (ended.return_value, "SOURCE to DUAL_WRITE: now in force" in ended.output) == (0, True), ended.output
    (tmp_path / "old" / "a.txt").write_bytes(b"content")
    (tmp_path / "new" / "\u202eforeign").write_bytes(b"content")
    ended = invoked("check", *at)
    assert ended.return_value == 1
    assert "x comparison compared" in ended.output
    assert "1 missing, 0 different, 1 extra on the destination" in ended.output
    ended = invoked("repair", "--all", *at)
    assert ended.return_value == 1
    assert "1 key repaired" in ended.output
    assert "1 object on one side alone that we did not write" in ended.output
    assert "\u202e" not in ended.output
    (tmp_path / "new" / "\u202eforeign").unlink()
    assert invoked("advance", *at).return_value == 0
    database = Database(sqlite_url)
    switch = SharedPhase(Outbox(database, "files"), name="web-1")
    assert switch.phase.name == "DESTINATION_FIRST"
    assert "  web-1: DESTINATION_FIRST, heard of" in invoked("status", *at).output
    ended = invoked("advance", *at, "--json")
    told = json.loads(ended.output)
    assert (ended.return_value, told["taken"]) == (1, False)
    assert [each["name"] for each in told["conditions"] if not each["holds"]] == ["fallbacks"]
    assert invoked("advance", *at, "--quiet-for", "0s").return_value == 0
    ended = invoked("rollback", *at)
    assert "level      0 objects brought level on the source, 0 left" in ended.output, ended.output
    assert ended.return_value == 0
    ended = invoked("rollback", *at, "--force")
    assert "! comparison" in ended.output
    assert "(overridden)" in ended.output
    assert invoked("repair", "--phases", "source", *at).exception is not None
    switch.close()
    database.close()


def test_a_step_may_wait_for_processes_and_not_for_differences(module: str, tmp_path: Path, sqlite_url: str) -> None:
    file, at = tmp_path / f"{module}.py", ("--app", module)
    file.write_text(file.read_text().replace('phase="dual_write"', 'phase="shared"'))
    database = Database(sqlite_url)
    Outbox(database, "files").prepare()
    switch = SharedPhase(Outbox(database, "files"), name="web-1")
    with contextlib.ExitStack() as at_work:
        at_work.enter_context(switch.renew(writing=True))
        assert invoked("advance", *at).return_value == 0
        assert invoked("advance", *at).return_value == 1
        ends = threading.Timer(1.0, at_work.pop_all().close)
        ends.start()
        assert invoked("advance", "--wait", "60s", *at).return_value == 0
    switch.close()
    assert invoked("rollback", *at).return_value == 0
    (tmp_path / "old" / "a.txt").write_bytes(b"content")
    ended = invoked("advance", "--wait", "60s", *at)
    assert ended.return_value == 1
    assert "1 missing" in ended.output
    database.close()


@pytest.mark.parametrize("words", [("advance",), ("rollback",), ("check",), ("status",), ("repair",)])
def test_no_step_without_the_tables(module: str, sqlite_url: str, words: tuple[str, ...]) -> None:
    """A migration of the application dropped them: it is unknown which keys differ."""
    app = Path(f"{module}.py")
    app.write_text(app.read_text().replace("outbox.prepare()\n", "").replace('phase="dual_write"', 'phase="shared"'))
    run = CliRunner()
    for name, told in (
        ("migrate_storage_outbox", "migrate_storage_outbox is gone"),
        (None, "has no tables of the outbox"),
    ):
        with contextlib.closing(Database(sqlite_url)) as database:
            tables = Outbox(database, "files").tables
            database.transaction(partial(tables.create, again=True))
            if name is None:
                database.transaction(tables.drop)
            else:
                database.transaction(tables.outbox.drop)
            ended = run.invoke(cli, ["cutover", *words, "--app", module], standalone_mode=False)
            assert isinstance(ended.exception, ConfigurationError), ended.output
            assert told in str(ended.exception)
            assert (
                database.transaction(lambda connection: sa.inspect(connection).has_table("migrate_storage_outbox"))
                is False
            )
