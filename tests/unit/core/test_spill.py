"""Collections in temporary files give back what was added, in their order, and say when the disk is full."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.spill import NoRoomError, SpilledList, SpilledMap, SpilledSet, SpilledSort

COUNT = 2_345
"""More than two batches of writes and than four pages of reads."""
KEYS = ["", "a", "é", "\ud800", "\U0001f388", "\uffff", *(f"key {number:05}" for number in range(COUNT))]


def meta(key: str, size: int = 1) -> ObjectMeta:
    return ObjectMeta(path=f"p/{key}", size=size, e_tag="tag", last_modified=1.5, version="v", md5=None)


def test_a_set() -> None:
    with SpilledSet() as items:
        items.add(f"{number:05}" for number in (*range(COUNT), 7))
        items.discard(["00003", "not there"])
        assert "00002" in items
        assert "00003" not in items
        batches = list(items.batches(100))
    assert max(map(len, batches)) == 100
    assert [item for batch in batches for item in batch] == [f"{number:05}" for number in range(COUNT) if number != 3]


def test_a_map_has_each_key_once_in_the_order_of_its_bytes() -> None:
    with SpilledMap() as objects:
        for key in (*KEYS, "a"):
            objects.add(key, meta(key))
        objects.add("a", meta("a", size=2))
        objects.discard(["key 00000"])
        assert objects.find([*KEYS, "not there"]).keys() == set(KEYS) - {"key 00000"}
        assert objects.find(["a"]) == {"a": meta("a", size=2)}
        found = list(objects)
    kept = sorted((key for key in KEYS if key != "key 00000"), key=lambda key: key.encode("utf-8", "surrogatepass"))
    assert found == [(key, meta(key, size=2 if key == "a" else 1)) for key in kept]


def test_a_list_keeps_the_order_and_the_number() -> None:
    with SpilledList[str]() as keys:
        for key in (*KEYS[::-1], "a", "a"):
            keys.add(key)
        assert len(keys) == len(KEYS) + 2
        assert list(keys) == [*KEYS[::-1], "a", "a"]


def test_a_list_of_anything_that_json_can_be_made_of() -> None:
    with SpilledList[Path](str, Path) as paths:
        assert list(paths) == []
        paths.add(Path("/a"))
        assert list(paths) == [Path("/a")]


def test_values_are_sorted_by_their_texts_and_then_by_when_they_came() -> None:
    with SpilledSort() as values:
        values.add((f"{number % 7}", number) for number in range(COUNT))
        values.add([("3", "last"), ("0", {"a": [1]})])
        expected = sorted([(f"{number % 7}", number) for number in range(COUNT)], key=lambda each: each[0])
        found = list(values)
        assert [each for each in found if isinstance(each[1], int)] == expected
        assert found[found.index(("4", 4)) - 1] == ("3", "last")
        assert found[found.index(("1", 1)) - 1] == ("0", {"a": [1]})


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for kind in (SpilledSet, SpilledMap, SpilledList, SpilledSort):
        with kind():
            assert list(tmp_path.glob("*/*"))
        assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(NoRoomError, match="set TMPDIR"):
        SpilledSet()
