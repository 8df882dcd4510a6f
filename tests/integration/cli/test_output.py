"""Every ending is an exit code and at most one line."""

from __future__ import annotations

import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from migrate_storage.__main__ import main
from migrate_storage.cli import cli
from migrate_storage.cli.output import interpreter, program, stopped_by_signals
from migrate_storage.cli.param_types import BYTES, SECONDS, Age
from migrate_storage.cli.store_arguments import Assignment
from migrate_storage.core.errors import (
    ConfigurationError,
    KeyRefusedError,
    LeaseHeldError,
    PreflightError,
    RunError,
    StoppedError,
)


class Panic(BaseException):
    """As the Rust side's is: no Exception."""


@pytest.fixture
def broken() -> Iterator[list[BaseException]]:
    """A command that raises what is in the list."""
    raised: list[BaseException] = []

    @click.command("broken")
    def command() -> None:
        raise raised[0]

    cli.add_command(command)
    yield raised
    del cli.commands["broken"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (PreflightError("x"), 2),
        (LeaseHeldError("x"), 2),
        (click.UsageError("x"), 2),
        (RunError("x"), 3),
        (KeyRefusedError("x"), 3),
        (StoppedError("x"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_code_and_one_line(
    broken: list[BaseException], error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.append(error)
    assert main(["broken"]) == code
    err = capsys.readouterr().err.lstrip("\n")  # click ends the line on which ^C stands
    assert err.startswith("migrate-storage: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("password=hunter2"), Panic("secret_access_key: hunter2")])
def test_an_unforeseen_error_is_one_line_and_a_log_that_only_its_owner_reads(
    broken: list[BaseException],
    error: BaseException,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken.append(error)
    assert main(["broken"]) == 70
    err = capsys.readouterr().err
    (log,) = tmp_path.iterdir()
    assert err.count("\n") == 1
    assert str(log) in err
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert "Traceback" in text
    assert type(error).__name__ in text
    assert "hunter2" not in text + err


def test_terminal_escapes_in_an_error_are_shown_not_obeyed(
    broken: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    broken.append(ConfigurationError("bad \x1b[2J\nkey"))
    main(["broken"])
    assert capsys.readouterr().err == "migrate-storage: bad \\x1b[2J\\nkey\n"


def test_signals_ask_once_to_stop_and_once_to_abort_and_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    asked: list[str] = []
    with stopped_by_signals(lambda: asked.append("stop"), 20) as caught:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert caught == [signal.SIGTERM, signal.SIGINT]
    assert asked == ["stop", "stop"]
    assert capsys.readouterr().err.count("Once more aborts at once") == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize(
    ("called", "typed"),
    [
        ("/some where/.venv/bin/migrate-storage", "'/some where/.venv/bin/migrate-storage'"),
        ("/x/migrate_storage/__main__.py", f"{interpreter()} -m migrate_storage"),
        ("/x/pytest", "migrate-storage"),
    ],
)
def test_the_next_command_can_be_typed_as_it_stands(called: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == typed


@pytest.mark.parametrize("said", ["30d", "12h", "90m", "45s", "2w", "0s", "1.5s"])
def test_a_time_span_is_said_as_it_was_typed(said: str) -> None:
    assert Age.typed(Age().convert(said, None, None)) == said


@pytest.mark.parametrize("said", ["2M", "64M", "1G", "3T", "1500", "1536K", "0"])
def test_bytes_are_said_as_they_were_typed(said: str) -> None:
    assert BYTES.typed(BYTES.convert(said, None, None)) == said


@pytest.mark.parametrize("said", ["2h", "1h30m", "90.5", "45s", "30m", "0"])
def test_a_time_is_said_as_it_was_typed(said: str) -> None:
    assert SECONDS.typed(SECONDS.convert(said, None, None)) == said


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ("endpoint=http://s3.example:9000", "endpoint=http://s3.example:9000"),
        ("allow_http=true", "allow_http=true"),
        ("aws_region=eu-1", "aws_region=eu-1"),
        ("secret_access_key=s3cr3t", None),
        ("key=s3cr3t", None),
        ('client_options={"default_headers": {"authorization": "s3cr3t"}}', None),
    ],
)
def test_an_option_of_a_store_is_said_again_where_it_can_hold_no_secret(given: str, typed: str | None) -> None:
    assert Assignment.typed(Assignment().convert(given, None, None)) == typed
