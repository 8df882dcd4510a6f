"""The options that commands share, each declared once, and the values that they become.

Precedence is flag, environment (``MIGRATE_STORAGE_<OPTION>``), configuration file, default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from migrate_storage.cli.option import decorated, option
from migrate_storage.cli.param_types import BYTES, SECONDS
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting.diff_files import KINDS

__all__ = (
    "EXCLUDE",
    "INCLUDE",
    "Output",
    "allowance_options",
    "attempts_option",
    "output_options",
    "pace_options",
    "reports_options",
)


INCLUDE = (
    "Only files whose name matches one of these, separated by commas, in rclone's language: '*.jpg' anywhere, "
    "'/docs/*.{pdf,txt}' in a folder, 'docs/**' below it."
)


EXCLUDE = "Leave files alone whose name matches one of these, included or not."


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command speaks."""

    json: bool
    quiet: bool
    #: Where a job writes what it counts, for Prometheus.
    metrics: Path | None = None


def pace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the limits of how fast the stores are spoken to."""
    default = RunOptions(source="")
    return decorated(
        command,
        option(
            "--concurrency", metavar="N", type=int, default=default.concurrency, show_default=True,
            help="Objects under way at once, at most: fewer while a service asks to slow down.",
        ),
        option(
            "--bandwidth", metavar="BYTES", type=BYTES,
            help="Content read in a second, over all objects under way: 10M.  [default: no limit]",
        ),
        option(
            "--max-requests-per-second", metavar="N", type=float,
            help="Requests to the stores in a second, about: parts of large uploads are not counted one by one.  "
            "[default: no limit]",
        ),
    )  # fmt: skip


def attempts_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``attempts``."""
    default = RunOptions(source="").attempts
    return option(
        "--attempts", metavar="N", type=int, default=default, show_default=True,
        help="Attempts for one request, the first included.",
    )(command)  # fmt: skip


def allowance_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the limits of how much it may do before it stops."""
    return decorated(
        command,
        option(
            "--max-bytes", metavar="BYTES", type=BYTES,
            help="Begin no further object after so much content, and stop with exit code 4: 500G.",
        ),
        option(
            "--max-duration", metavar="TIME", type=SECONDS,
            help="Begin no further object after this time, and stop with exit code 4: 2h, 1h30m.",
        ),
    )  # fmt: skip


def reports_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the report files, see :mod:`migrate_storage.reporting.diff_files`, as ``files`` by their parameters' names."""

    @functools.wraps(command)
    def with_files(*args: Any, **others: Any) -> Any:
        files = {kind.replace("-", "_"): others.pop(kind.replace("-", "_")) for kind in KINDS}
        return command(*args, files=files, **others)

    helps = {
        "combined": "All objects with a sign: = - + * !",
        "match": "Objects that are equal.",
        "differ": "Objects that differ.",
        "missing-on-dst": "Objects that the destination does not hold, or that rows name and no store holds.",
        "missing-on-src": "Objects of the other side only.",
        "error": "Objects that could not be compared.",
    }
    kind = click.Path(path_type=Path)
    return decorated(with_files, *(option(f"--{name}", type=kind, metavar="FILE", help=helps[name]) for name in helps))


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``--quiet``, as ``output``."""

    @functools.wraps(command)
    def with_output(*args: Any, json: bool, quiet: bool, **others: Any) -> Any:
        return command(*args, output=Output(json=json, quiet=quiet), **others)

    return decorated(
        with_output,
        option("--json", in_file=False, is_flag=True, help="Speak JSON, one value a line, on standard output."),
        option("--quiet", "-q", in_file=False, is_flag=True, help="Say nothing unless there is something to do."),
    )


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what :func:`output_options` gives, and ``--metrics-file``."""

    @functools.wraps(command)
    def with_metrics(*args: Any, output: Output, metrics_file: Path | None, **others: Any) -> Any:
        return command(*args, output=replace(output, metrics=metrics_file), **others)

    return output_options(
        option(
            "--metrics-file",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write counts and times for Prometheus to this file, again and again, each time whole.",
        )(with_metrics)
    )
