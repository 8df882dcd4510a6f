"""``cutover status`` and ``cutover repair`` on an application whose backend is a CutoverBackend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from migrate_storage.cli import cli
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phases import Side
from migrate_storage.database import Database

APPLICATION = """
from sqlalchemy import create_engine
from advanced_alchemy.base import UUIDBase
from advanced_alchemy.types import StoredObject
from advanced_alchemy.types.file_object import FileObject, storages
from sqlalchemy.orm import Mapped, mapped_column
from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.database import Database

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
    Outbox(Database(sqlite_url), "files").note("a.txt", Side.SOURCE)
    ended = run.invoke(cli, ["cutover", "status", "--app", module], standalone_mode=False)
    assert "DUAL_WRITE, 1 key not settled" in ended.output
    assert "a.txt: the source is right" in ended.output
    assert ended.return_value == 1
    ended = run.invoke(cli, ["cutover", "repair", "--app", module], standalone_mode=False)
    assert "1 key settled, 0 left, 0 failed" in ended.output, ended.output
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
