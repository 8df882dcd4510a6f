"""What watching costs: the same run with a terminal and without one, its journal beside the rows and on a disk of memory (case 10).

Nothing runs without a journal; a SQLite file that no disk has to write is the nearest.
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
from bench._ground import SERVERS, Ground, site
from tests.support.servers import start_rclone

GOALS = (
    Goal(case="10", metric="seconds", against="no terminal", goal=1.1, most=True),
    Goal(case="10", metric="seconds", against="journal on a disk of memory", goal=1.1, most=True),
)
_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, *sys.argv[1:]])))"


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.options("steady", __doc__, arguments, objects=5_000, size=8192)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder, url = site(stack)
        here, there = (stack.enter_context(start_rclone(folder / name)) for name in ("here", "there"))
        ground = Ground(here, there, url, [options.size] * options.objects, here.new_bucket("from"))
        ground.write()
        terminal = ("-c", _TERMINAL)
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        journal = memory / "journal.db"

        def fresh() -> None:
            journal.unlink(missing_ok=True)
            ground.fresh()

        aside = ground.ours("journal on a disk of memory", *terminal, more=["--journal", f"sqlite:///{journal}"])
        contestants = [
            ground.ours("migrate-storage", *terminal),
            ground.ours("no terminal"),
            replace(aside, prepare=fresh),
        ]
        title = f"{options.objects:,} objects of {options.size:,} bytes, with a terminal and a journal beside the rows"
        cases = {"10": (title, contestants, _contest.contest("10", contestants, options.rounds))}
        ground.leave()
    setting = {
        **_contest.machine(load), "servers": SERVERS,
        "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("steady", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
