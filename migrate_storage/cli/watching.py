"""A job with its progress shown, stopped by Ctrl-C and SIGTERM: run, revert, verify and purge alike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from migrate_storage.cli.endings import outliving_reader, show, stopped_by_signals
from migrate_storage.cli.options import Output
from migrate_storage.events import Event, Listener
from migrate_storage.report import Report

__all__ = ("Job", "finished", "watched")


class Job(Protocol):
    """What can be run to a report, and told to stop."""

    def run(self) -> Report:
        """Do it."""

    def stop(self) -> None:
        """End soon; called by a signal handler."""


def watched(make: Callable[[Listener], Job], output: Output, grace: float) -> tuple[Report, int]:
    """Run a job with its progress shown.

    Args:
        make: makes the job that tells its news to the listener.
        output: how the command speaks.
        grace: seconds that objects in flight are given once interrupted.

    Returns:
        The report, already written where ``output`` is JSON, and the exit code.
    """
    from migrate_storage.progress import JsonLines, shown_on

    stream = sys.stdout if output.json else sys.stderr
    shown = shown_on(sys.stderr, as_json=output.json, quiet=output.quiet, lines=sys.stdout)

    def listen(event: Event) -> None:
        with outliving_reader(stream, otherwise=job.stop):
            shown(event)

    job = make(listen)
    with shown, stopped_by_signals(job.stop, grace) as caught:
        report = job.run()
    if isinstance(shown, JsonLines):
        with outliving_reader(stream):
            shown.report(report)
    return report, 128 + caught[0] if caught and report.state == "stopped" else report.exit_code


def finished(make: Callable[[Listener], Job], output: Output, grace: float = 20.0) -> int:
    """Run a job, show its report, and return the exit code."""
    report, code = watched(make, output, grace)
    if not output.json and (code or not output.quiet):
        show(report)
    return code
