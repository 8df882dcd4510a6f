"""A job with its progress shown, stopped by Ctrl-C and SIGTERM: run, revert, verify and purge alike."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import click

from migrate_storage.cli.output import ignore_broken_pipe, show, stopped_by_signals
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import BytesMoved, Event, ItemFinished, ItemsFinished, Listener
from migrate_storage.reporting import Report
from migrate_storage.reporting.metrics import Counters

__all__ = ("Job", "MetricsFile", "finished", "watched")

_EVERY = 5.0
"""Seconds between two versions of the metrics file."""


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
    from migrate_storage.reporting.progress import shown_on
    from migrate_storage.reporting.progress.json_lines import JsonLines

    stream = sys.stdout if output.json else sys.stderr
    shown = shown_on(sys.stderr, as_json=output.json, quiet=output.quiet, lines=sys.stdout)

    reader = ignore_broken_pipe(stream, otherwise=lambda: job.stop())

    def listen(event: Event) -> None:
        with reader:
            shown(event)

    counted = MetricsFile(output.metrics) if output.metrics is not None else None
    job = make(listen if counted is None else counted.beside(listen))
    # What is imported by now stays for good: the collector need not look at it again and again.
    gc.freeze()
    with shown, stopped_by_signals(job.stop, grace) as caught:
        report = job.run()
    if counted is not None:
        counted.finished(report.exit_code)
    if isinstance(shown, JsonLines):
        with ignore_broken_pipe(stream):
            shown.report(report)
    return report, 128 + caught[0] if caught and report.state == "stopped" else report.exit_code


class MetricsFile:
    """Counts what a job tells, and keeps it in a file for Prometheus.

    Args:
        path: of the file; written at once, so that a wrong one is known before the job begins.

    Raises:
        ConfigurationError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.counters = Counters("job", "outcome", command=click.get_current_context().info_name or "")
        self.counters.set("running", "", 1)
        self._write()

    def beside(self, listen: Listener) -> Listener:
        """A listener that counts, and then tells the other."""

        def both(event: Event) -> None:
            match event:
                case ItemFinished(outcome=outcome):
                    self.counters.add("objects", outcome.kind.value)
                case ItemsFinished(objects=objects, kind=kind):
                    self.counters.add("objects", kind.value, amount=objects)
                case BytesMoved(count=count):
                    self.counters.add("bytes", amount=count)
                case _:
                    pass
            if time.monotonic() - self._written > _EVERY:
                # It could be written before; what is counted is no reason to end a job.
                with contextlib.suppress(ConfigurationError):
                    self._write()
            listen(event)

        return both

    def finished(self, code: int) -> None:
        """The job is over, with this exit code."""
        self.counters.set("running", "", 0)
        self.counters.set("exit_code", "", code)
        self.counters.set("finished_timestamp_seconds", "", round(time.time()))
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        self.counters.write(self._path)


def finished(make: Callable[[Listener], Job], output: Output, grace: float = 20.0) -> int:
    """Run a job, show its report, and return the exit code."""
    report, code = watched(make, output, grace)
    if not output.json and (code or not output.quiet):
        show(report)
    return code
