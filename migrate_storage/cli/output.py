"""How a command ends: stopped by a signal, with its report, and with the next command to type."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrate_storage.cli.embedding import home
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.store_arguments import Assignment
from migrate_storage.core.text import masked
from migrate_storage.reporting import Figures, Report, render

if TYPE_CHECKING:
    from rich.text import Text

__all__ = (
    "ignore_broken_pipe",
    "interpreter",
    "next_command",
    "program",
    "show",
    "stopped_by_signals",
    "styled",
)

_NAME = "migrate-storage"


def program() -> str:
    """Return what to type for this program: its name where the shell finds it, else the way it was called."""
    group = home(click.get_current_context(silent=True))
    if group is not None:
        return group.command_path
    called = Path(sys.argv[0])
    found = shutil.which(_NAME)
    if called.name == _NAME:
        return (
            _NAME
            if found and Path(found).resolve() == called.resolve()
            else shlex.quote(os.path.normpath(called.absolute()))
        )
    if called.name == "__main__.py":
        return f"{interpreter()} -m migrate_storage"
    return _NAME


def interpreter() -> str:
    """Return what to type for this Python: ``python`` where the shell finds it by that name, else its path."""
    found = shutil.which("python")
    return "python" if found and Path(found).absolute() == Path(sys.executable) else shlex.quote(sys.executable)


def next_command(command: str) -> str:
    """Return the next command as it can be typed here: with the flags that were typed, where that command has them.

    Args:
        command: Begins with the program's name; what it says already is not said twice.
    """
    words = shlex.split(command)
    target = _target(words[1:])
    context = click.get_current_context(silent=True)
    if context is not None and target is not None:
        known = {flag for parameter in target.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        known -= set(words)
        for flag, value in _typed(context):
            if flag in known:
                words += [flag] if value is None else [flag, value]
    return " ".join((program(), *map(shlex.quote, words[1:])))


def _target(words: list[str]) -> click.Command | None:
    context = click.get_current_context(silent=True)
    group = (home(context) or context.find_root()).command if context is not None else None
    return group.commands.get(words[0]) if isinstance(group, click.Group) and words else None


_ONCE = frozenset({"--dry-run", "--force", "--json", "--quiet", "--yes", "--directory"})


def _typed(context: click.Context) -> Iterator[tuple[str, str | None]]:
    """Yield the flags that were typed; not those that were for this time only, and no URL with a password."""
    for parameter in context.command.params:
        assert parameter.name is not None
        source = context.get_parameter_source(parameter.name)
        value = context.params.get(parameter.name)
        if not isinstance(parameter, click.Option) or source is not ParameterSource.COMMANDLINE:
            continue
        flag = next(each for each in parameter.opts if each.startswith("--"))
        if flag in _ONCE:
            continue
        if parameter.is_flag:
            yield (flag if value else parameter.secondary_opts[0]), None
        else:
            for each in (value or ()) if parameter.multiple else (value,):
                text = _said(parameter.type, each)
                if text is not None and masked(text) == text:
                    yield flag, text


def _said(kind: object, value: Any) -> str | None:
    """A value as it can be typed again; ``None`` for what must not be."""
    if isinstance(kind, Age | Assignment):
        return kind.typed(value)
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def show(report: Report, figures: Figures | None = None) -> None:
    """Print a report as text on standard output, its next command as it can be typed here."""
    from rich.console import Console

    told = replace(report, next_command=next_command(report.next_command)) if report.next_command else report
    with ignore_broken_pipe(sys.stdout):
        Console(highlight=False, markup=False, emoji=False, soft_wrap=True).print(styled(told, figures))


class ignore_broken_pipe:  # noqa: N801 - it is used as contextlib's own are
    """Go on quietly where the reader of our output has left, such as ``| head``. May be entered again and again.

    Args:
        stream: What is written to; from then on it leads nowhere.
        otherwise: Called when the reader has left.
    """

    def __init__(self, stream: IO[str], *, otherwise: Callable[[], None] = lambda: None) -> None:
        self._stream, self._otherwise = stream, otherwise

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        # rich makes a SystemExit of a broken pipe.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, BrokenPipeError):
            return False
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._otherwise()
        return True


_STYLES = {0: "bold green", 1: "bold yellow", 4: "bold yellow"}


def styled(report: Report, figures: Figures | None = None) -> Text:
    """Return the report's text with its first line in the colour of its ending and its titles in bold."""
    from rich.text import Text

    first, *others = render(report, figures).splitlines()
    text = Text(first, style="")
    text.stylize(_STYLES.get(report.exit_code, "bold red"))
    for line in others:
        text.append(f"\n{line}", style="bold" if line and not line.startswith(" ") else "")
    return text


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None], grace: float) -> Iterator[list[int]]:
    """Call ``stop`` at Ctrl-C and at SIGTERM, each time that one comes.

    Args:
        stop: Asks for a stop the first time, for an abort the second time.
        grace: Seconds that objects in flight get, for the message.

    Yields:
        The numbers of the signals that came so far.
    """
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        caught.append(number)
        if len(caught) == 1:
            click.echo(
                f"\nStopping: objects in flight finish, for at most {grace:.0f} s. Once more aborts at once.", err=True
            )
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
