"""How a command ends: stopped by a signal, with its report, and with the next command to type."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click

from migrate_storage.report import Report, render

__all__ = ("interpreter", "program", "show", "stopped_by_signals")

_NAME = "migrate-storage"


def program() -> str:
    """Return what to type for this program: its name where the shell finds it, else the way it was called."""
    called = Path(sys.argv[0])
    found = shutil.which(_NAME)
    if called.name == _NAME:
        return _NAME if found and Path(found).resolve() == called.resolve() else shlex.quote(str(called.absolute()))
    if called.name == "__main__.py":
        return f"{interpreter()} -m migrate_storage"
    return _NAME


def interpreter() -> str:
    """Return what to type for this Python: ``python`` where the shell finds it by that name, else its path."""
    found = shutil.which("python")
    return "python" if found and Path(found).absolute() == Path(sys.executable) else shlex.quote(sys.executable)


def show(report: Report) -> None:
    """Print a report as text on standard output, its next command as it can be typed here."""
    following = re.sub(rf"^{_NAME}(?=\s|$)", lambda _: program(), report.next_command)
    click.echo(render(replace(report, next_command=following)))


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
