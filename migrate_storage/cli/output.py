"""The end of a command: its report, the next command, and stop signals."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrate_storage.cli.embedding import surrounding_context
from migrate_storage.cli.param_types import Names, Typed
from migrate_storage.cli.standard_output import results
from migrate_storage.cli.store_arguments import Assignment
from migrate_storage.core.exit_codes import EXIT_LIMIT_REACHED, EXIT_PROBLEMS
from migrate_storage.core.text import masked
from migrate_storage.reporting import Figures, Report, render
from migrate_storage.reporting.text import render_brief

if TYPE_CHECKING:
    from rich.text import Text

    from migrate_storage.core.model import Note
    from migrate_storage.reporting.combined import CombinedReport

__all__ = (
    "as_typed",
    "has_one_flag_each",
    "ignore_broken_pipe",
    "interpreter",
    "next_command",
    "print_combined",
    "print_report",
    "program",
    "render_note",
    "stopped_by_signals",
    "style_report",
)

_PROGRAM = "migrate-storage"


def program() -> str:
    """Return what to type for this program: its name, or the way it was called."""
    group = surrounding_context(click.get_current_context(silent=True))
    if group is not None:
        return group.command_path
    called = Path(sys.argv[0])
    path = shutil.which(_PROGRAM)
    if called.name == _PROGRAM:
        on_path = path and Path(path).resolve() == called.resolve()
        return _PROGRAM if on_path else shlex.quote(os.path.normpath(called.absolute()))
    if called.name == "__main__.py":
        return f"{interpreter()} -m migrate_storage"
    return _PROGRAM


def interpreter() -> str:
    """Return what to type for this Python: ``python``, or its path."""
    path = shutil.which("python")
    return "python" if path and Path(path).absolute() == Path(sys.executable) else shlex.quote(sys.executable)


def next_command(command: str) -> str:
    """Return the next command with the flags of this command that it has too.

    Args:
        command: The program's name, the command and its own flags, which are not repeated.
    """
    words = shlex.split(command)
    target = _find_command(words[1:])
    context = click.get_current_context(silent=True)
    if context is not None and target is not None:
        known = {flag for parameter in target.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        known -= set(words)
        for flag, value in _collect_typed_flags(context):
            if flag in known:
                words += [flag] if value is None else [flag, value]
    return " ".join((program(), *map(shlex.quote, words[1:])))


def _find_command(words: list[str]) -> click.Command | None:
    context = click.get_current_context(silent=True)
    group = (surrounding_context(context) or context.find_root()).command if context is not None else None
    return group.commands.get(words[0]) if isinstance(group, click.Group) and words else None


_NOT_REPEATED = frozenset({"--dry-run", "--force", "--json", "--quiet", "--rewrite", "--yes", "--directory"})
"""Flags that apply to one command only."""


def _collect_typed_flags(context: click.Context) -> Iterator[tuple[str, str | None]]:
    """Yield the typed flags that the next command may repeat, without passwords."""
    for parameter in context.command.params:
        assert parameter.name is not None
        source = context.get_parameter_source(parameter.name)
        value = context.params.get(parameter.name)
        if not isinstance(parameter, click.Option) or source is not ParameterSource.COMMANDLINE:
            continue
        flag = next(word for word in parameter.opts if word.startswith("--"))
        if flag in _NOT_REPEATED:
            continue
        if parameter.is_flag:
            yield (flag if value else parameter.secondary_opts[0]), None
            continue
        for word in (value or ()) if has_one_flag_each(parameter) else (value,):
            text = as_typed(parameter.type, word)
            if text is not None and masked(text) == text:
                yield flag, text


def has_one_flag_each(parameter: click.Parameter) -> bool:
    """Whether each value of an option is typed behind a flag of its own. Names have one flag for all."""
    return parameter.multiple and not isinstance(parameter.type, Names)


def as_typed(kind: object, value: Any) -> str | None:
    """Return a value as the user typed it, or ``None`` if it may be a secret."""
    if isinstance(kind, Typed | Assignment):
        return kind.typed(value)
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def print_report(report: Report, figures: Figures | None = None, *, brief: bool = False) -> None:
    """Print a report as text on standard output, wrapped at the width of a terminal.

    Args:
        report: the report.
        figures: what the journal's records sum up to.
        brief: in at most four lines.
    """
    if report.next_command:
        report = replace(report, next_command=next_command(report.next_command))
    _print_styled(report.exit_code, lambda width: render_brief(report) if brief else render(report, figures, width))


def print_combined(report: CombinedReport, figures: Sequence[Figures] = (), *, brief: bool = False) -> None:
    """Print the reports of several runs, as :func:`print_report` prints one.

    Args:
        report: the reports.
        figures: what the journal's records sum up to, of each run.
        brief: in a few lines.
    """
    from migrate_storage.reporting.combined import render_combined, render_combined_brief

    if report.next_command:
        report = replace(report, next_command=next_command(report.next_command))
    _print_styled(
        report.exit_code,
        lambda width: render_combined_brief(report) if brief else render_combined(report, figures, width),
    )


def _print_styled(exit_code: int, render_at: Callable[[int | None], str]) -> None:
    """Print a report on standard output, rendered for the width of a terminal."""
    from rich.console import Console

    console = Console(file=results(), highlight=False, markup=False, emoji=False, soft_wrap=True)
    text = render_at(console.width if console.is_terminal else None)
    with ignore_broken_pipe(results()):
        console.print(style_report(exit_code, text))


def render_note(note: Note) -> Iterator[str]:
    """Yield the lines of a note."""
    subject = f"{note.subject}: " if note.subject else ""
    yield f"{note.severity.value}: {subject}{note.message} [{note.code}]"
    if note.todo:
        yield f"  {note.todo}"


class ignore_broken_pipe:  # noqa: N801 - named as contextlib's own context managers are
    """Continue silently after a broken pipe, such as that of ``head``. Reusable.

    Args:
        stream: The stream that is written to. After a broken pipe it writes to ``/dev/null``.
        otherwise: Called after a broken pipe.
    """

    def __init__(self, stream: IO[str], *, otherwise: Callable[[], None] = lambda: None) -> None:
        self._stream, self._otherwise = stream, otherwise

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        # rich turns a broken pipe into a SystemExit.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, BrokenPipeError):
            return False
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._otherwise()
        return True


_STYLES = {0: "bold green", EXIT_PROBLEMS: "bold yellow", EXIT_LIMIT_REACHED: "bold yellow"}


def style_report(exit_code: int, rendered: str) -> Text:
    """Return a report's text, its first line coloured and its titles in bold."""
    from rich.text import Text

    first, *others = rendered.splitlines()
    text = Text(first, style="")
    text.stylize(_STYLES.get(exit_code, "bold red"))
    for line in others:
        text.append(f"\n{line}", style="bold" if line and not line.startswith(" ") else "")
    return text


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None], grace: float) -> Iterator[list[int]]:
    """Call ``stop`` at each SIGINT (Ctrl-C) and SIGTERM.

    Args:
        stop: Requests a stop; its second call requests an abort.
        grace: Seconds that objects in flight get. The message names them.

    Yields:
        The numbers of the signals that arrived so far.
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
