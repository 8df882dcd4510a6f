"""The report of several runs that one command made, one for each pair of backend keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.exit_codes import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_LIMIT_REACHED,
    EXIT_PROBLEMS,
    EXIT_USAGE,
)
from migrate_storage.core.text import visible
from migrate_storage.reporting.report import Report
from migrate_storage.reporting.statistics import Figures
from migrate_storage.reporting.text import headline, render, render_brief, wrap_line

__all__ = (
    "CombinedReport",
    "PairNotDone",
    "combined_headline",
    "describe_pair",
    "render_combined",
    "render_combined_brief",
)

_WORST_FIRST = (EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_LIMIT_REACHED, EXIT_PROBLEMS)
_ENDINGS = {
    0: "finished",
    EXIT_PROBLEMS: "finished with problems",
    EXIT_LIMIT_REACHED: "stopped at a limit",
    EXIT_INTERRUPTED: "interrupted",
    EXIT_FAILED: "failed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairNotDone:
    """A pair of keys whose run did not begin, or was refused."""

    source: str
    destination: str
    #: Why, in one line.
    reason: str
    #: The exit code of a command for this pair alone.
    exit_code: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CombinedReport:
    """The results of several runs, in their order."""

    reports: tuple[Report, ...]
    #: The pairs that come after them.
    not_done: tuple[PairNotDone, ...] = ()
    #: The command to type next.
    next_command: str = ""

    @property
    def exit_code(self) -> int:
        """The worst exit code: 3, then 2, 130, 4 and 1, else 0."""
        codes = {*(each.exit_code for each in self.reports), *(each.exit_code for each in self.not_done)}
        return next((code for code in _WORST_FIRST if code in codes), 0)

    @property
    def state(self) -> str:
        """``interrupted`` if a person or a signal stopped the command, else ``completed``."""
        return "interrupted" if self.exit_code == EXIT_INTERRUPTED else "completed"

    @property
    def keys(self) -> int:
        """The number of pairs."""
        return len(self.reports) + len(self.not_done)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON can represent. The reports of the runs are lines of their own."""
        ran = (
            {"key": each.source, "destination": each.destination, "run": each.run, "state": each.state,
             "exit_code": each.exit_code, "reason": each.error}
            for each in self.reports
        )  # fmt: skip
        left = (
            {"key": each.source, "destination": each.destination, "run": None, "state": None, "exit_code": each.exit_code,
             "reason": each.reason}
            for each in self.not_done
        )  # fmt: skip
        return {
            "exit_code": self.exit_code,
            "keys": self.keys,
            "runs": [*ran, *left],
            "next_command": self.next_command,
        }


def describe_pair(source: str, destination: str) -> str:
    """Return both keys, or the one of an in-place run."""
    return source if source == destination else f"{source} -> {destination}"


def combined_headline(report: CombinedReport) -> str:
    """Return the first line: how many runs ended in which way."""
    endings = Counter(
        "planned" if each.state == "planned" and not each.exit_code else _ENDINGS[each.exit_code]
        for each in report.reports
    )
    if report.not_done:
        endings["not done"] = len(report.not_done)
    return f"{report.keys} keys: {', '.join(f'{count} {ending}' for ending, count in endings.items())}."


def render_combined(report: CombinedReport, figures: Sequence[Figures] = (), width: int | None = None) -> str:
    """Return the report as text: how each run ended, then the report of each.

    Args:
        report: the report.
        figures: what the journal's records sum up to, of each run; empty where that is not known.
        width: columns of the terminal, where lines are wrapped; ``None`` wraps nothing.
    """
    lines = [
        part for line in (combined_headline(report), *_summarize(report)) for part in wrap_line(visible(line), width)
    ]
    for number, each in enumerate(report.reports):
        sums = figures[number] if figures else None
        text = render(replace(each, next_command=""), sums, width)
        lines += ["", f"== {visible(describe_pair(each.source, each.destination))}", *text.splitlines()]
    if report.next_command:
        lines += ["", "Next command", f"  {visible(report.next_command)}"]
    return "\n".join(lines)


def render_combined_brief(report: CombinedReport) -> str:
    """Return the report in a line for each pair, and the problems of each."""
    lines = [combined_headline(report), *_summarize(report)]
    for each in report.reports:
        if each.exit_code:
            lines += render_brief(replace(each, next_command="")).splitlines()[1:]
    lines += [f"  Next command: {report.next_command}"] if report.next_command else []
    return "\n".join(map(visible, lines))


def _summarize(report: CombinedReport) -> Iterator[str]:
    for each in report.reports:
        yield f"  {describe_pair(each.source, each.destination)}: {headline(each)}"
    for left in report.not_done:
        yield f"  {describe_pair(left.source, left.destination)}: not done: {left.reason}"
