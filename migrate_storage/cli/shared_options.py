"""Options that several commands share, each declared once.

A flag wins over the environment (``MIGRATE_STORAGE_<OPTION>``), the environment over the configuration file, and the
file over the default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import option
from migrate_storage.cli.param_types import BANDWIDTH, BYTES, PATTERNS, SECONDS, Age, Line, Names
from migrate_storage.cli.standard_output import echo, terminal_width
from migrate_storage.core.filters import ObjectBounds
from migrate_storage.core.text import MiB, visible
from migrate_storage.core.timetable import Bandwidth
from migrate_storage.jobs.run.options import RunOptions

__all__ = (
    "BoundOptions",
    "CensusFlags",
    "DiffFileOptions",
    "JobOutput",
    "LimitOptions",
    "Output",
    "PaceOptions",
    "PairOptions",
    "PatternOptions",
    "PreserveOptions",
    "RouteOptions",
    "dry_run_option",
    "file_option",
    "lease_ttl_option",
    "max_attempts_option",
    "max_memory_option",
    "opaque_etags_option",
    "references_option",
    "shutdown_timeout_option",
)

_DEFAULT = RunOptions(source="")


@dataclass(frozen=True, kw_only=True)
class RouteOptions:
    """The backend keys between which rows are re-pointed."""

    source: str | None = option(
        "--from", metavar="KEY", shell_complete=complete_keys, help="Backend key that the rows name now."
    )
    destination: str | None = option(
        "--to", metavar="KEY", shell_complete=complete_keys,
        help="Backend key that the rows shall name.  [default: the same key, translated to obstore: in place]",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """One pair of backend keys, or several."""

    source: tuple[str, ...] = option(
        "--from", metavar="KEY", multiple=True, type=Line(), shell_complete=complete_keys,
        help="Backend key that the rows name now, or old=new, which names the destination too. Several are done one after the other.",
    )  # fmt: skip
    destination: str | None = option(
        "--to", metavar="KEY", shell_complete=complete_keys,
        help="Backend key that the rows shall name.  [default: the same key, translated to obstore: in place]",
    )  # fmt: skip
    all_pairs: bool = option(
        "--all", in_file=False, is_flag=True,
        help="All pairs of keys that the application registers with register_pair, in place of --from.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PatternOptions:
    """Patterns of filenames."""

    include: tuple[str, ...] = option(
        metavar="PATTERNS", type=PATTERNS, default=(),
        help="Only files whose name matches one of these, separated by commas, in rclone's language: '*.jpg' anywhere, "
        "'/docs/*.{pdf,txt}' in a folder, 'docs/**' below it.",
    )  # fmt: skip
    exclude: tuple[str, ...] = option(
        metavar="PATTERNS", type=PATTERNS, default=(),
        help="Leave files alone whose name matches one of these, included or not.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BoundOptions:
    """Sizes and ages of objects."""

    min_size: int | None = option(
        in_file=False, metavar="BYTES", type=BYTES, help="Only objects of at least this size: 1K, 64MiB."
    )
    max_size: int | None = option(in_file=False, metavar="BYTES", type=BYTES, help="Only objects of at most this size.")
    min_age: float | None = option(
        in_file=False, metavar="AGE", type=Age(),
        help="Only objects that were written at least so long ago: 1h, 30d. `sync --delete` deletes none that is younger."
        "  [default: all; 1h for what is deleted]",
    )  # fmt: skip
    max_age: float | None = option(
        in_file=False, metavar="AGE", type=Age(), help="Only objects that were written at most so long ago."
    )

    def to_bounds(self) -> ObjectBounds:
        """Return the bounds.

        Raises:
            ConfigurationError: a minimum is above its maximum.
        """
        return ObjectBounds(min_size=self.min_size, max_size=self.max_size, min_age=self.min_age, max_age=self.max_age)


@dataclass(frozen=True, kw_only=True)
class PaceOptions:
    """Limits of the rate of requests to the stores."""

    concurrency: int | None = option(
        metavar="N", type=int,
        help="Objects under way at once, at most: fewer while a service asks to slow down.  "
        "[default: 32; run and sync take up to 256 while that is faster]",
    )  # fmt: skip
    bandwidth: Bandwidth | None = option(
        metavar="BYTES|TIMETABLE", type=BANDWIDTH,
        help="Content read in a second, over all objects under way: 10M. Or a timetable as rclone's, in local time: "
        "'08:00,2M 19:00,off', 'Mon-08:00,2M Fri-18:00,off'.  [default: no limit]",
    )  # fmt: skip
    max_requests_per_second: float | None = option(
        metavar="N", type=float,
        help="Requests to the stores in a second, about: parts of large uploads are not counted one by one.  "
        "[default: no limit]",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """Limits after which a job stops."""

    max_bytes: int | None = option(
        metavar="BYTES", type=BYTES,
        help="Begin no further object after so much content, and stop with exit code 4: 500G.",
    )  # fmt: skip
    max_duration: float | None = option(
        metavar="TIME", type=SECONDS,
        help="Begin no further object after this time, and stop with exit code 4: 2h, 1h30m.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PreserveOptions:
    """Storage class and tags of copies."""

    storage_class: str | None = option(
        metavar="NAME",
        help="Storage class or access tier of each copy: STANDARD_IA, NEARLINE, Cool.  [default: the bucket's]",
    )
    preserve: tuple[str, ...] = option(
        metavar="WORDS", type=Names(), default=(),
        help="What a copy takes over besides headers and user metadata: storage-class, tags, or both with a comma.",
    )  # fmt: skip


max_attempts_option = partial(
    option, renamed={"attempts": "max-attempts"}, metavar="N", type=int, default=_DEFAULT.max_attempts, show_default=True,
    help="Attempts for one request, the first included.",
)  # fmt: skip
shutdown_timeout_option = partial(
    option,
    renamed={"grace": "shutdown-timeout"},
    metavar="SECONDS",
    type=float,
    show_default=True,
    help="Time that objects in flight get after Ctrl-C.",
)
dry_run_option = partial(
    option, in_file=False, is_flag=True, help="Show what would happen, in the same counts; change nothing."
)
opaque_etags_option = partial(
    option, metavar="KEYS", type=Names(), default=(), shell_complete=complete_keys,
    help="Backends whose ETags have the form of MD5s and are none, as where KMS encrypts and no HEAD shows it. "
    "Two reads that agree count as proof there.",
)  # fmt: skip
references_option = partial(
    option, multiple=True, metavar="SQL|FILE", help="More filenames in use: a SELECT, or a file with one a line."
)
file_option = partial(option, type=click.Path(path_type=Path), metavar="FILE")


def max_memory_option(default: int) -> Any:
    """Declare ``--max-memory``, with a default in bytes."""
    return option(
        renamed={"memory": "max-memory"}, metavar="BYTES", type=BYTES, default=f"{default // MiB}MiB", show_default=True,
        help="Content in memory at once, over all objects under way.",
    )  # fmt: skip


def lease_ttl_option(default: float, job: str) -> Any:
    """Declare ``--lease-ttl``, with a default in seconds."""
    return option(
        renamed={"lease": "lease-ttl"}, metavar="SECONDS", type=float, default=default, show_default=True,
        help=f"Time after which a {job} that died no longer blocks the next one.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CensusFlags:
    """What the whole database is searched for, see :class:`migrate_storage.jobs.census_options.CensusOptions`."""

    census: tuple[str, ...] = option(
        metavar="full|none|TABLES", type=Names(), default=(),
        help="Search every table that this role sees for rows that name the key, also those that no model has. "
        "Full, none, or only TABLES, separated by commas.  [default: full where something is changed or deleted; else "
        "the last one is shown]",
    )  # fmt: skip
    excused: tuple[str, ...] = option(
        metavar="COLUMNS", type=Names(), default=(),
        help="Columns that may name an old key, such as audit trails: table.column, table.* or schema.table.column, "
        "separated by commas. They stay in the report.",
    )  # fmt: skip
    visible_tables_only: bool = option(
        is_flag=True,
        help="Continue although the server hides tables from this role (MariaDB, MySQL): none of them matters.",
    )
    census_rate: float | None = option(
        metavar="ROWS", type=float, help="Rows searched in a second.  [default: no limit]"
    )


@dataclass(frozen=True, kw_only=True)
class DiffFileOptions:
    """Report files, see :mod:`migrate_storage.reporting.diff_files`."""

    combined: Path | None = file_option(help="All objects with a sign: = - + * !")
    match: Path | None = file_option(help="Objects that are equal.")
    differ: Path | None = file_option(help="Objects that differ.")
    missing_on_dst: Path | None = file_option(
        help="Objects that the destination does not have, or that rows name and no store has."
    )
    missing_on_src: Path | None = file_option(help="Objects of the other side only.")
    error: Path | None = file_option(help="Objects that could not be compared.")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command prints."""

    json: bool = option(in_file=False, is_flag=True, help="Speak JSON, one value a line, on standard output.")
    quiet: bool = option(
        "--quiet", "-q", in_file=False, is_flag=True, help="Print nothing unless there is something to do."
    )
    #: Where a job writes its metrics.
    metrics_file: Path | None = None

    def print(self, value: Any, lines: Iterable[str], *, important: bool = False) -> None:
        """Print a value as one line of JSON, or else lines of text."""
        if self.json:
            echo(json.dumps(value))
        else:
            self.print_text(lines, important=important)

    def print_text(self, lines: Iterable[str], *, important: bool = False) -> None:
        """Print lines, but not with ``--json``; with ``--quiet`` only important ones.

        A terminal gets them wrapped at its width, all but a command to type.
        """
        if self.json or (self.quiet and not important):
            return
        from migrate_storage.cli.output import interpreter, program
        from migrate_storage.reporting.text import wrap_line

        width, typed = terminal_width(), (program(), interpreter(), "cd ")
        for line in lines:
            for part in wrap_line(visible(line), None if line.strip().startswith(typed) else width):
                echo(part)

    def print_verbatim(self, lines: Iterable[str]) -> None:
        """Print lines as they are, but not with ``--json`` or ``--quiet``."""
        if not self.json and not self.quiet:
            for line in lines:
                echo(visible(line))

    def print_message(self, event: str, message: str) -> None:
        """Print one message."""
        self.print({"event": event, "message": message}, [message])


@dataclass(frozen=True, kw_only=True)
class JobOutput(Output):
    """What a job prints, and its metrics for Prometheus."""

    metrics_file: Path | None = option(
        type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        help="Write counts and times for Prometheus to this file, again and again, each time whole.",
    )  # fmt: skip
