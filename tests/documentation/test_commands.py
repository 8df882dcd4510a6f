"""The manual is what the _commands themselves say, and each of them says enough."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from migrate_storage.cli import cli
from tests.support.cli.commands import COMMANDS, LEAVES
from tests.support.cli.project import ROOT


@pytest.mark.parametrize("script", ["scripts/document", "scripts/draw"])
def test_what_a_script_writes_is_up_to_date(script: str) -> None:
    ended = subprocess.run([sys.executable, script, "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_page_names_every_command_and_every_option() -> None:
    sections = dict(part.split("\n", 1) for part in (ROOT / "docs/cli.md").read_text().split("\n## ")[1:])
    options = (
        (name, option)
        for name, command in COMMANDS.items()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    )
    assert [name for name in COMMANDS if name not in sections] == [], "commands that are not documented"
    assert [each for each in options if each[1] not in sections.get(each[0], "")] == [], (
        "options that are not documented"
    )


def anchors(page: Path) -> set[str]:
    """What a link into a page may end with."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md")], ids=lambda page: page.name
)  # fmt: skip
def test_links_of_pages_that_are_not_in_the_site_lead_somewhere(page: Path) -> None:
    """The build of the site checks its own, anchors included."""
    links = re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    assert links or page.parent != ROOT or page.name != "README.md"
    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_and_says_what_each_option_is(name: str) -> None:
    command = LEAVES[name]
    assert f"Example:\n  {name}" in (command.epilog or "")
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


@pytest.mark.parametrize("name", LEAVES)
def test_the_environment_knows_every_option(name: str) -> None:
    for parameter in LEAVES[name].params:
        if isinstance(parameter, click.Option):
            long = next(option for option in parameter.opts if option.startswith("--"))
            assert (
                parameter.envvar
                and parameter.envvar[0] == "MIGRATE_STORAGE_" + long.removeprefix("--").replace("-", "_").upper()
            )


def test_the_pages_that_the_manual_speaks_of_are_there() -> None:
    for page in ("exit-codes.md", "events.md"):
        assert (ROOT / "docs" / page).is_file()


WRITTEN = sorted(
    {
        line.split("#")[0].strip()
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for line in page.read_text().splitlines()
        if line.strip().startswith("migrate-storage ") and not line.endswith("</pre>")
    }
)


@pytest.mark.parametrize("line", WRITTEN)
def test_what_the_pages_say_to_type_can_be_typed(line: str) -> None:
    words = shlex.split(line.partition("|")[0])[1:]
    command: click.Command = cli
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    context = click.Context(command, resilient_parsing=True)
    _, left, _ = command.make_parser(context).parse_args(list(words))
    assert left == []
    assert len(WRITTEN) > 10
