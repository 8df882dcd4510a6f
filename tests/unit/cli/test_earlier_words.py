"""Words of an earlier version do what today's do, are shown nowhere, and are in one table of the changelog."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from migrate_storage.cli import add_storage_commands, cli
from migrate_storage.cli.option import PARAMETERS, RENAMED
from tests.support import ROOT


def commands_below(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield names, command
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from commands_below(inner, *names, name)


COMMANDS = dict(commands_below(cli))
EARLIER = [
    (names, earlier, today)
    for names, command in COMMANDS.items()
    for earlier, today in command.context_settings["token_normalize_func"].__self__.renamed.items()
]


def has_flag(parameter: click.Parameter, word: str) -> bool:
    return f"--{word}" in (*parameter.opts, *parameter.secondary_opts)


def find_choice(command: click.Command, word: str) -> click.Option | None:
    """Return the option that has a word among its choices."""
    choices = (each for each in command.params if isinstance(each.type, click.Choice) and word in each.type.choices)
    found = next(choices, None)
    assert found is None or isinstance(found, click.Option)
    return found


def spell(command: click.Command, word: str, today: str) -> list[str]:
    """Return what a user types who means today's option or choice, and types ``word``."""
    arguments = ["x" for each in command.params if isinstance(each, click.Argument) and each.required]
    if (chosen := find_choice(command, today)) is not None:
        return [chosen.opts[0], word, *arguments]
    [option] = [each for each in command.params if isinstance(each, click.Option) and has_flag(each, today)]
    value = option.type.choices[-1] if isinstance(option.type, click.Choice) else "3"
    return [f"--{word}", *(() if option.is_flag else (str(value),)), *arguments]


def read(command: click.Command, words: list[str]) -> dict[str, object]:
    return command.make_context("x", words).params


@pytest.mark.parametrize(("names", "earlier", "today"), EARLIER)
def test_an_earlier_word_does_what_the_one_of_today_does(
    names: tuple[str, ...],
    earlier: str,
    today: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[names]
    told = f"migrate-storage: {earlier!r} is now called {today!r}\n"
    if isinstance(command, click.Group):
        assert command.list_commands(click.Context(command)).count(earlier) == 0
        shown = [CliRunner().invoke(cli, [*names, word, "--help"]) for word in (today, earlier)]
        assert [ended.exit_code for ended in shown] == [0, 0]
        assert (shown[1].stdout, shown[1].stderr) == (shown[0].stdout, told)
        return
    expected = read(command, spell(command, today, today))
    assert capsys.readouterr().err == ""
    assert expected != read(command, spell(command, today, today)[2:]) or find_choice(command, today), (
        "no option was set"
    )
    assert read(command, spell(command, earlier, today)) == expected
    assert capsys.readouterr().err == told
    mark = "" if find_choice(command, today) else "--"
    assert not re.search(rf"{mark}\b{earlier}(?![\w-])", command.get_help(click.Context(command, info_name="x")))


def test_the_changelog_has_each_in_one_table() -> None:
    rows = re.findall(
        r"^\| (command|option|choice) +\| `(.+)` +\| `(.+)` +\|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    told = {(kind, earlier, today) for kind, earlier, today in rows}
    known = set()
    for names, earlier, today in EARLIER:
        command = COMMANDS[names]
        if isinstance(command, click.Group):
            known.add(("command", " ".join((*names, earlier)), " ".join((*names, today))))
        elif find_choice(command, today):
            known.add(("choice", earlier, today))
        else:
            known.add(("option", f"--{earlier}", f"--{today}"))
    assert told == known
    assert len(rows) == len(told)


def test_the_configuration_file_and_the_environment_know_them_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(RENAMED).isdisjoint(PARAMETERS)
    assert set(RENAMED.values()) <= set(PARAMETERS)


def test_a_group_of_an_application_takes_earlier_commands() -> None:
    ended = CliRunner().invoke(add_storage_commands(), ["tables", "--help"])
    assert (ended.exit_code, "storage journal" in ended.stdout) == (0, True)
