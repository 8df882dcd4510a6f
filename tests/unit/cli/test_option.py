"""The fields of a dataclass become the options of a command, and its parameters become one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from migrate_storage.cli import option as module
from migrate_storage.cli.option import argument, fill, group, option
from migrate_storage.cli.option import command as make_command
from migrate_storage.cli.param_types import Names


@dataclass(frozen=True, kw_only=True)
class Pace:
    concurrency: int = option(type=int, default=4)
    max_bytes: int | None = option(type=int, in_file=False)


@dataclass(frozen=True, kw_only=True)
class Request:
    run: str | None = argument(required=False)
    source: str | None = option("--from")
    pace: Pace = group(Pace)  # noqa: RUF009 - `group` makes a field
    dry_run: bool = option(is_flag=True, in_file=False)
    keys: tuple[str, ...] = option(type=Names(), default=())
    #: No option: it has its own default.
    origin: str = "here"


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    source: str
    concurrency: int
    max_bytes: int | None = None
    dry_run: bool = False
    origin: str = "library"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> click.Command:
    monkeypatch.setattr(module, "PARAMETERS", {})
    return make_command(Request, "Ask.", "ask")(asked.append)


asked: list[Request] = []


def ask(command: click.Command, *words: str, **environment: str) -> Request:
    ended = CliRunner().invoke(command, words, env=environment, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return asked.pop()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ()),
        (("--keys", "a,b"), ("a", "b")),
        (("--keys", "a", "--keys", "b, c"), ("a", "b", "c")),
    ],
)
def test_an_option_of_names_may_be_repeated(command: click.Command, words: Any, names: Any) -> None:
    assert ask(command, *words).keys == names


def test_names_come_from_the_environment_and_from_a_file(command: click.Command) -> None:
    assert ask(command, MIGRATE_STORAGE_KEYS="a b, c").keys == ("a b", "c")
    for given, names in ((["a", "b"], ("a", "b")), ([], ())):
        ended = CliRunner().invoke(command, [], default_map={"keys": given}, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        assert asked.pop().keys == names


def test_a_command_gets_one_value_of_its_parameters(command: click.Command) -> None:
    assert ask(command, "r1", "--from", "old", "--concurrency", "8", "--dry-run") == Request(
        run="r1", source="old", pace=Pace(concurrency=8, max_bytes=None), dry_run=True, keys=()
    )
    assert ask(command) == Request(
        run=None, source=None, pace=Pace(concurrency=4, max_bytes=None), dry_run=False, keys=()
    )


def test_options_come_in_the_order_of_the_fields_and_each_has_a_variable(command: click.Command) -> None:
    names = [each.opts[0] for each in command.params]
    assert names == ["run", "--from", "--concurrency", "--max-bytes", "--dry-run", "--keys"]
    assert ask(command, MIGRATE_STORAGE_FROM="old", MIGRATE_STORAGE_MAX_BYTES="9").pace.max_bytes == 9


def test_the_configuration_file_knows_an_option_by_its_flag(command: click.Command) -> None:
    assert module.PARAMETERS == {"from": "source", "concurrency": "concurrency", "keys": "keys"}


@pytest.mark.parametrize(("others", "origin"), [({}, "library"), ({"origin": "test"}, "test")])
def test_the_options_of_a_job_are_filled_from_a_request_and_its_groups(others: dict[str, Any], origin: str) -> None:
    request = Request(run="r1", source="old", pace=Pace(concurrency=8, max_bytes=9), dry_run=True, keys=())
    filled = fill(JobOptions, request, **others)
    assert filled == JobOptions(source="old", concurrency=8, max_bytes=9, dry_run=True, origin=origin)
