"""docs/outputs.md shows each command at 80 columns; scripts/outputs writes it."""

from __future__ import annotations

import re

from tests.support import ROOT
from tests.support.cli.commands import LEAVES

PAGE = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
#: What they print is code for a file, which is never wrapped.
CODE = ("convert", "translate", "journal sql")


def test_each_command_is_shown_without_colour_dark_and_light() -> None:
    sections = dict(re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE))
    for name in LEAVES:
        command = name.removeprefix("migrate-storage ")
        shown = [text for title, text in sections.items() if title.startswith(command)]
        assert shown, name
        assert all(text.count("<pre style=") == 2 and text.count("```console") == 1 for text in shown), name


def test_no_line_is_wider_than_the_terminal() -> None:
    for title, text in re.findall(r"^## (.+)\n\n```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if title.startswith(CODE):
            continue
        wide = [
            line for line in text.splitlines() if len(line) > 80 and not re.match(r"\s*(migrate-storage|python) ", line)
        ]
        assert wide == [], title
