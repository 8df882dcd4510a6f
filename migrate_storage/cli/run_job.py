"""Run a job: show progress, stop it at signals, write metrics and a report."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from migrate_storage.cli.output import ignore_broken_pipe, print_combined, print_report, stopped_by_signals
from migrate_storage.cli.shared_options import Output
from migrate_storage.cli.standard_output import results
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import BytesTransferred, Event, Listener, ObjectFinished, ObjectsFinished
from migrate_storage.reporting import Report
from migrate_storage.reporting.metrics import Counters

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.jobs.run.options import RunOptions
    from migrate_storage.reporting.combined import CombinedReport

__all__ = ("Job", "MetricsFile", "run_and_report", "run_several", "run_with_progress")

AnyReport = TypeVar("AnyReport", bound="Report | CombinedReport", covariant=True)

METRICS_FILE_SECONDS = 5.0
"""Seconds between two versions of the metrics file."""


class Reporting(Protocol[AnyReport]):
    """What ends with a report and can be stopped."""

    def run(self) -> AnyReport:
        """Run it to its end."""

    def stop(self) -> None:
        """Stop soon. A signal handler calls it."""


class Job(Reporting[Report], Protocol):
    """A job of one run."""


def run_with_progress(
    make: Callable[[Listener], Reporting[AnyReport]], output: Output, grace: float, *, several: bool = False
) -> tuple[AnyReport, int]:
    """Run a job and show its progress.

    Args:
        make: Makes the job with the listener that gets its events.
        output: What the command prints.
        grace: Seconds that objects in flight get after an interrupt.
        several: Whether the job makes several runs, each with a display of its own.

    Returns:
        The report, which JSON output contains already, and the exit code.
    """
    from migrate_storage.reporting.progress import shown_on
    from migrate_storage.reporting.progress.json_lines import JsonLines

    stream = results() if output.json else sys.stderr
    shown = shown_on(sys.stderr, as_json=output.json, quiet=output.quiet, lines=results(), several=several)

    reader = ignore_broken_pipe(stream, otherwise=lambda: job.stop())

    def listen(event: Event) -> None:
        with reader:
            shown(event)

    metrics = MetricsFile(output.metrics_file) if output.metrics_file is not None else None
    job = make(listen if metrics is None else metrics.beside(listen))
    # Imported modules live until the process ends, so the garbage collector need not visit their objects.
    gc.freeze()
    with shown, stopped_by_signals(job.stop, grace) as caught:
        report = job.run()
    if metrics is not None:
        metrics.finished(report.exit_code)
    if isinstance(shown, JsonLines):
        with ignore_broken_pipe(stream):
            shown.report(report)
    return report, 128 + caught[0] if caught and report.state == "interrupted" else report.exit_code


def run_several(
    application: Application,
    options: Sequence[RunOptions],
    make: Callable[[Application, RunOptions, Listener], Job],
    output: Output,
) -> int:
    """Make several runs, print their reports, and return the worst exit code.

    Args:
        application: What to migrate.
        options: Of each run.
        make: Makes the job of a run.
        output: What the command prints.
    """
    from migrate_storage.jobs.run.several import SeveralRuns

    report, code = run_with_progress(
        lambda listener: SeveralRuns(application, options, lambda how: make(application, how, listener)),
        output, options[0].shutdown_timeout, several=True,
    )  # fmt: skip
    if not output.json and (code or not output.quiet):
        print_combined(report, brief=output.quiet)
    return code


def run_and_report(make: Callable[[Listener], Job], output: Output, grace: float = 20.0) -> int:
    """Run a job, print its report, and return the exit code."""
    report, code = run_with_progress(make, output, grace)
    if not output.json and (code or not output.quiet):
        print_report(report, brief=output.quiet)
    return code


class MetricsFile:
    """Counts a job's events, and writes the counts to a file for Prometheus.

    Args:
        path: Path of the file. It is written at once, so that an unwritable path fails before the job begins.

    Raises:
        ConfigurationError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.counters = Counters("job", "outcome", command=click.get_current_context().info_name or "")
        self.counters.set("running", "", 1)
        self._write()

    def beside(self, listen: Listener) -> Listener:
        """Return a listener that counts each event and then passes it to another listener."""

        def count_and_listen(event: Event) -> None:
            match event:
                case ObjectFinished(outcome=outcome):
                    self.counters.add("objects", outcome.kind.value)
                case ObjectsFinished(objects=objects, kind=kind):
                    self.counters.add("objects", kind.value, amount=objects)
                case BytesTransferred(count=count):
                    self.counters.add("bytes", amount=count)
            if time.monotonic() - self._written > METRICS_FILE_SECONDS:
                # The file was writable when the job began. A failure now does not end the job.
                with contextlib.suppress(ConfigurationError):
                    self._write()
            listen(event)

        return count_and_listen

    def finished(self, code: int) -> None:
        """Record that the job has ended with this exit code."""
        self.counters.set("running", "", 0)
        self.counters.set("exit_code", "", code)
        self.counters.set("finished_timestamp_seconds", "", round(time.time()))
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        self.counters.write(self._path)
