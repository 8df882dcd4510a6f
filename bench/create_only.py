"""Many small objects to a server that refuses to replace one, as services do (case 16).

The case is that of ``copy`` through the client (case 2), with a proxy before the destination. A PUT with ``If-None-Match: *``
onto an existing object gets 412 there. rclone's own server ignores the condition, so that a HEAD or a LIST of the destination
has to precede a PUT of migrate-storage.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from bench import _contest
from bench._contest import Contestant, Goal
from bench._proxy import start_proxy
from bench._scenario import PARALLEL_REQUESTS, SERVERS, Scenario, start_database
from bench.copy import CONSISTENT
from tests.support.servers import start_rclone

GOALS = (
    Goal(case="16", metric="per second", against="rclone copy", goal=0.8),
    Goal(case="16", metric="per second", against="obstore loop", goal=0.65),
    Goal(case="16", metric="CPU for each", against="yardstick", goal=1.25, most=True),
    Goal(case="16", metric="CPU for each", against="rclone copy", goal=1.1, most=True),
)


def _contestants(scenario: Scenario) -> list[Contestant]:
    return [
        scenario.our_contestant(more=CONSISTENT),
        scenario.our_contestant("migrate-storage, a HEAD for each"),
        scenario.rclone_contestant("--transfers", PARALLEL_REQUESTS, "--checkers", PARALLEL_REQUESTS),
        scenario.python_contestant("obstore loop", "nothing; no rows", "-m", "bench._rivals", "obstore_copies"),
        scenario.yardstick_contestant(),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("create_only", __doc__, arguments, objects=10_000, size=8192)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder, url = start_database(stack)
        here, there = (stack.enter_context(start_rclone(folder / name)) for name in ("here", "there"))
        refusing = there.behind(stack.enter_context(start_proxy(there.service.port, refuses=True)))
        scenario = Scenario(here, refusing, url, [options.size] * options.objects, here.new_bucket("from"))
        scenario.write_objects()
        contestants = _contestants(scenario)
        title = f"{options.objects:,} objects of {options.size:,} bytes, through the client to a server that refuses to replace"
        cases = {"16": (title, contestants, _contest.run_contest("16", contestants, options.rounds))}
        scenario.close()
    setting = {
        **_contest.describe_machine(load), "servers": f"{SERVERS}; a proxy before the destination answers If-None-Match",
        "objects": options.objects, "size": options.size, "at_once": int(PARALLEL_REQUESTS), "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("create_only", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
