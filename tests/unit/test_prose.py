"""``scripts/prose.py`` finds a word of its list in prose of every kind, and in no code or name."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import prose


def words_of_page(tmp_path: Path, text: str) -> list[str]:
    page = tmp_path / "page.md"
    return [word for sentence in prose.sentences(page, text) for word in sentence.words]


def words_of_code(tmp_path: Path, text: str) -> list[str]:
    module = tmp_path / "module.py"
    module.write_text(text)
    return [word for sentence in prose.of_code(module) for word in sentence.words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The run looks again.", ["looks"]),
        ("| a | it goes\non |", ["goes on"]),
        ("- Nobody tells it.", ["nobody", "tells"]),
        ("The option `--hold look` of the class Look_Again and hold_lease.", []),
        ('It prints "nobody knows".', []),
        ("```\nlook\n```\n\nA row.\n\n    tell it\n\nAn object.", []),
        ("[a](#whose-object-stands-there) <!-- news -->", []),
    ],
)
def test_words_of_a_page(tmp_path: Path, text: str, words: list[str]) -> None:
    assert words_of_page(tmp_path, text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"""What a HEAD tells."""', ["tells"]),
        ("x = 1  # nobody reads it", ["nobody"]),
        ('f"the store {name} says no"', ["says"]),
        ('f"the store {hold} is {look}"', []),
        ("held = hold(settle) or tell['hold']", []),
        ("def look(): return 'told'", []),
    ],
)
def test_words_of_code(tmp_path: Path, text: str, words: list[str]) -> None:
    assert words_of_code(tmp_path, text) == words


def test_a_long_sentence(tmp_path: Path) -> None:
    """Code spans in a row, separated by commas, are one word."""
    page = tmp_path / "page.md"
    long, names, short = prose.sentences(
        page, " ".join(["word"] * 26) + ". It has " + ", ".join(["`a`"] * 30) + ". " + " ".join(["word"] * 25) + "."
    )
    assert (long.length, prose.too_long(long)) == (26, True)
    assert (names.length, prose.too_long(names)) == (3, False)
    assert not prose.too_long(short)


def test_the_pages_the_package_and_its_help() -> None:
    assert list(prose.problems()) == []
