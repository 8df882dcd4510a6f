"""A run with and without a terminal, and with its journal in memory (case 10).

No job runs without a journal; a SQLite file in memory is the nearest to that.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from bench import _contest
from bench._contest import Goal
from bench._scenario import SERVERS, Scenario, start_database
from tests.support.servers import start_rclone

GOALS = (
    Goal(case="10", metric="seconds", against="no terminal", goal=1.1, most=True),
    Goal(case="10", metric="seconds", against="journal on a disk of memory", goal=1.1, most=True),
)
_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, *sys.argv[1:]])))"


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("steady", __doc__, arguments, objects=5_000, size=8192)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder, url = start_database(stack)
        here, there = (stack.enter_context(start_rclone(folder / name)) for name in ("here", "there"))
        scenario = Scenario(here, there, url, [options.size] * options.objects, here.new_bucket("from"))
        scenario.write_objects()
        terminal = ("-c", _TERMINAL)
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        journal = memory / "journal.db"

        def fresh() -> None:
            journal.unlink(missing_ok=True)
            scenario.reset()

        aside = scenario.our_contestant(
            "journal on a disk of memory", *terminal, more=["--journal", f"sqlite:///{journal}"]
        )
        contestants = [
            scenario.our_contestant("migrate-storage", *terminal),
            scenario.our_contestant("no terminal"),
            replace(aside, prepare=fresh),
        ]
        title = f"{options.objects:,} objects of {options.size:,} bytes, with a terminal and a journal beside the rows"
        cases = {"10": (title, contestants, _contest.run_contest("10", contestants, options.rounds))}
        scenario.close()
    setting = {
        **_contest.describe_machine(load), "servers": SERVERS,
        "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("steady", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
