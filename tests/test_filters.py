"""Include and exclude patterns: a table."""

from __future__ import annotations

import pytest

from migrate_storage.errors import ConfigurationError
from migrate_storage.filters import Filters


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.jpg", ["a.jpg", "x/y/a.jpg", ".jpg"], ["a.JPG", "a.jpg.txt", "a.jpg/b"]),
        ("a?.txt", ["ab.txt", "x/ab.txt"], ["a.txt", "a/.txt"]),
        ("docs/*.pdf", ["docs/a.pdf"], ["docs/x/a.pdf", "x/docs/a.pdf", "a.pdf"]),
        ("/a.txt", ["a.txt"], ["x/a.txt"]),
        ("docs/**", ["docs/a", "docs/x/y"], ["docs", "x/docs/a"]),
        ("docs/", ["docs/a", "docs/x/y"], ["docs", "docsx/a"]),
        ("**/tmp/*", ["tmp/a", "x/y/tmp/a"], ["tmp/x/a", "xtmp/a"]),
        ("[a-c]1", ["a1", "x/c1"], ["d1", "A1"]),
        ("[!a-c]1", ["d1"], ["a1", "/1"]),
        ("[]]x", ["]x"], ["x"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("x[1", ["x[1"], ["x1"]),
        ("a+b(c)|d.$", ["a+b(c)|d.$"], ["aab(c)", "d."]),
        ("100%", ["100%"], ["100"]),
        ("été", ["été"], ["e\u0301te\u0301"]),
        ("*", ["a\nb", "\x1b[31m", "x/y"], []),
        ("a/[!x]b", ["a/yb"], ["a/xb", "a//b"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    included, excluded = Filters([pattern]), Filters(exclude=[pattern])
    for name in yes:
        assert included(name), name
        assert not excluded(name), name
    for name in no:
        assert not included(name), name
        assert excluded(name), name


def test_what_is_excluded_is_left_alone_though_included() -> None:
    filters = Filters(["docs/**", "*.png"], ["**/secret/*", "*.tmp"])
    assert filters("docs/a.pdf")
    assert filters("x/a.png")
    assert not filters("docs/secret/a.pdf")
    assert not filters("docs/a.tmp")
    assert not filters("other/a.pdf")


def test_no_pattern_leaves_nothing_out() -> None:
    assert not Filters()
    assert Filters()("anything")
    assert Filters(exclude=["x"])


@pytest.mark.parametrize("pattern", ["", "/", "[z-a]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="is no pattern"):
        Filters(exclude=[pattern])
