"""Spellings of one name on a disk, as its listings have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Place
from migrate_storage.stores.spelling import refuse_other_spelling, resolve_names
from tests.support.folding_disk import FoldingDisk


def place(path: Path) -> Place:
    return Place(service="file", endpoint="", root="/", key=str(path).lstrip("/"))


def test_a_name_is_spelled_as_it_is_listed(folding_disk: FoldingDisk, tmp_path: Path) -> None:
    folding_disk.write(tmp_path / "Foo.txt", b"1")
    assert resolve_names(place(tmp_path / "fOO.TXT")) == place(tmp_path / "Foo.txt")
    assert resolve_names(place(tmp_path / "Foo.txt")) == place(tmp_path / "Foo.txt")
    refuse_other_spelling(place(tmp_path / "Foo.txt"))
    with pytest.raises(KeyRefusedError, match="takes this name for another spelling"):
        refuse_other_spelling(place(tmp_path / "fOO.TXT"))


def test_two_files_are_two_names(tmp_path: Path) -> None:
    for name in ("Foo.txt", "foo.txt", "fOO.TXT", "caf\u00e9", "cafe\u0301"):
        (tmp_path / name).write_text(name)
    for path in (*tmp_path.iterdir(), tmp_path / "missing", tmp_path / "Foo.txt" / "below"):
        assert resolve_names(place(path)) == place(path)
        refuse_other_spelling(place(path))


def test_links_to_one_file_are_listed_both(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "A").hardlink_to(tmp_path / "a")
    assert resolve_names(place(tmp_path / "A")) == place(tmp_path / "A")


def test_no_other_service_is_asked() -> None:
    elsewhere = Place(service="s3", endpoint="", root="bucket", key="Foo")
    assert resolve_names(elsewhere) == elsewhere
    refuse_other_spelling(elsewhere)
