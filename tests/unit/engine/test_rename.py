"""The rule of `--rename`: what it takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.engine.rename import Rename, RenameError


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        (r"(\d{4})-(.*)=>\1/\2", "2026-a.jpg", "2026/a.jpg"),
        (r"(\d{4})-(.*)=>\1/\2", "a-2026-b.jpg", "a-2026-b.jpg"),
        (r"(?P<year>\d+)/(?P<name>.*)=>\g<name>.\g<year>", "7/x", "x.7"),
        (r"a=>b", "a", "b"),
        (r"a=>b", "aa", "aa"),
        (r"(.*)\.jpeg=>\1.jpg", "é/ü.jpeg", "é/ü.jpg"),
        (r"x(?<=>)?(.*)=>y\1", "xz", "yz"),
    ],
)
def test_a_pattern_matches_the_whole_name(rule: str, old: str, new: str) -> None:
    assert Rename.read(rule).name_copy(old) == new
    assert Rename.read(rule).text == rule


@pytest.mark.parametrize(
    "rule",
    ["", "a", "(=>b", r"a=>\1", r"(a)=>\g<no>", r"a=>\q", "nothing_here:name", "os:nothing_here", "os.path:sep", ":f", "a b:c", "os:"],
)  # fmt: skip
def test_what_is_no_rule_is_refused_in_one_line(rule: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Rename.read(rule)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("--rename")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("(.*)=>", "is empty"),
        (r"(.*)=>/\1", "is absolute"),
        (r"(.*)=>../\1", "has the part '..'"),
        (r"(.*)=>a/./\1", "has the part '.'"),
        (r"(.*)=>a/..", "has the part '..'"),
        ("(.*)=>a\0b", "has a NUL character"),
        ("(.*)=>a\udc80", "is no valid Unicode"),
    ],
)
def test_a_name_that_no_row_may_have_is_refused(rule: str, reason: str) -> None:
    with pytest.raises(RenameError, match=f"'a.txt' the name .*, which {reason}"):
        Rename.read(rule).name_copy("a.txt")


def test_a_function_of_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_layout.py").write_text(
        "class Layout:\n    @staticmethod\n    def name(old):\n        return f'v2/{old}'\n"
        "def fails(old):\n    raise KeyError('password=hunter2')\n"
        "def nothing(old):\n    return None\n"
        "async def later(old):\n    return old\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Rename.read("made_layout:Layout.name").name_copy("a") == "v2/a"
    with pytest.raises(RenameError, match="fails for 'a': KeyError") as error:
        Rename.read("made_layout:fails").name_copy("a")
    assert "hunter2" not in str(error.value)
    with pytest.raises(RenameError, match="gives 'a' no text, but NoneType"):
        Rename.read("made_layout:nothing").name_copy("a")
    with pytest.raises(ConfigurationError, match="has no function 'later'"):
        Rename.read("made_layout:later")


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_layout.py").write_text("raise SystemExit('secret=hunter2')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="--rename broken_layout:f: importing it raised") as error:
        Rename.read("broken_layout:f")
    assert "hunter2" not in str(error.value)


def test_its_text_shows_no_function() -> None:
    assert repr(Rename.read("a=>b")) == "Rename(text='a=>b')"
