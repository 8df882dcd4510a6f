"""The page of fears names, for each of them, tests that exist."""

from __future__ import annotations

import re

from tests.support import ROOT

SECTIONS = (ROOT / "docs" / "what-if.md").read_text().split("\n## ")[1:]


def test_each_section_names_a_test_that_exists() -> None:
    assert len(SECTIONS) >= 9
    for section in SECTIONS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section)
        assert named, f"no test shows: {section.splitlines()[0]}"
        for path, name in named:
            assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_each_fear_has_its_section() -> None:
    fears = (
        "killed", "overwritten", "same bucket", "wrong bucket", "credentials expire", "deletes an object", "disk is full",
        "uploads in parts", "money",
    )  # fmt: skip
    titles = [section.splitlines()[0] for section in SECTIONS]
    assert [fear for fear in fears if not any(fear in title for title in titles)] == []
