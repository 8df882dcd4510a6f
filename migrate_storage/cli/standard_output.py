"""Standard output, reserved for the results of a command.

The application's code runs in this process: when it is imported, when it makes its engine, and while a job runs. What it
prints goes to standard error while a command runs, so that ``--json`` writes JSON alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import click

__all__ = ("echo", "reserved_stdout", "results", "send_stdout_to_stderr", "terminal_width")

_STDOUT, _STDERR = 1, 2
"""File descriptors."""


class _Reservation:
    """The stream of the results, and how many commands run: on a Dask worker there may be several."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.commands = 0
        self.stream: TextIO | None = None
        self.undo = contextlib.ExitStack()


_reservation = _Reservation()


def results() -> TextIO:
    """Return the stream for the results of a command."""
    return _reservation.stream or sys.stdout


def echo(text: str, *, nl: bool = True) -> None:
    """Print a result."""
    click.echo(text, file=results(), nl=nl)


def terminal_width() -> int | None:
    """Return the columns of the terminal that shows the results; ``None`` where they go to a file or a pipe."""
    try:
        return shutil.get_terminal_size().columns if results().isatty() else None
    except (AttributeError, ValueError):  # there is no standard output, or it is closed
        return None


@contextlib.contextmanager
def reserved_stdout() -> Iterator[None]:
    """Reserve standard output for :func:`results` in this block. All else that is printed goes to standard error."""
    with _reservation.lock:
        if _reservation.commands == 0:
            _reservation.stream = _reservation.undo.enter_context(_moved_stdout())
        _reservation.commands += 1
    try:
        yield
    finally:
        with _reservation.lock:
            _reservation.commands -= 1
            if _reservation.commands == 0:
                _reservation.stream = None
                _reservation.undo.close()


def send_stdout_to_stderr() -> None:
    """Send what is printed at the end of the process to standard error."""
    with contextlib.suppress(AttributeError, OSError):  # there is none, or its reader is gone
        sys.stdout.flush()
    if _is_of_process(sys.stdout):
        _copy_descriptor(_STDERR, _STDOUT)


@contextlib.contextmanager
def _moved_stdout() -> Iterator[TextIO | None]:
    """Give standard output as a stream of its own, in whose place there is standard error."""
    before = sys.stdout
    if before is None:
        yield None
        return
    before.flush()
    with contextlib.redirect_stdout(sys.stderr):
        if not _is_of_process(before):
            yield before
            return
        with os.fdopen(os.dup(_STDOUT), "w", encoding=before.encoding, errors=before.errors) as moved:
            _copy_descriptor(_STDERR, _STDOUT)
            try:
                yield moved
            finally:
                _copy_descriptor(moved.fileno(), _STDOUT)


def _is_of_process(stream: TextIO) -> bool:
    """Whether a stream writes to the standard output of the process, and not to another file or into memory."""
    try:
        return stream.fileno() == _STDOUT
    except (AttributeError, OSError, ValueError):
        return False


def _copy_descriptor(source: int, target: int) -> None:
    with contextlib.suppress(OSError):  # a process may have been started without standard error
        os.dup2(source, target)
