"""Many small objects with rows: one S3 server (case 1) and two (case 2).

migrate-storage copies, verifies, re-points each row and keeps its journal, with its default settings. The others do
what they do by default. The rows are in PostgreSQL. The objects were written by FSSpecBackend, which stores no content
type; on the destination it must be the row's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from bench import _contest
from bench._contest import Contestant, Goal, TurnResult
from bench._scenario import PARALLEL_REQUESTS, SERVERS, Scenario, start_database
from tests.support.servers import S3Server, start_rclone

CONSISTENT = ("--consistent-listings", "old,new")
"""rclone's server lists each write at once, and its user says so, as one of MinIO would."""

GOALS = (
    Goal(case="1", metric="per second", against="rclone copy", goal=0.8),
    Goal(case="1", metric="per second", against="s5cmd cp", goal=0.45),
    Goal(case="1", metric="per second", against="script", goal=2.5),
    Goal(case="1", metric="CPU for each", against="rclone copy", goal=1.1, most=True),
    Goal(case="2", metric="per second", against="rclone copy", goal=0.8),
    Goal(case="2", metric="per second", against="obstore loop", goal=0.65),
    Goal(case="2", metric="per second", against="script", goal=2.5),
    Goal(case="2", metric="CPU for each", against="yardstick", goal=1.25, most=True),
    Goal(case="2", metric="CPU for each", against="rclone copy", goal=1.1, most=True),
)


def _contestants(scenario: Scenario, server: S3Server) -> list[Contestant]:
    ours = scenario.our_contestant(more=CONSISTENT)
    unsaid = scenario.our_contestant("migrate-storage, a HEAD for each")
    rclone = scenario.rclone_contestant("--transfers", PARALLEL_REQUESTS, "--checkers", PARALLEL_REQUESTS)
    script = scenario.python_contestant("script", "nothing", "-m", "bench._rivals", "script", rows=True)
    if server is not scenario.destination:
        loop = scenario.python_contestant("obstore loop", "nothing; no rows", "-m", "bench._rivals", "obstore_copies")
        return [ours, unsaid, rclone, loop, scenario.yardstick_contestant(), script]
    loop = scenario.python_contestant(
        "obstore loop", "nothing; no rows", "-m", "bench._rivals", "obstore_copies_in_the_service"
    )
    return [ours, unsaid, scenario.s5cmd_contestant("--numworkers", PARALLEL_REQUESTS), rclone, loop, script]


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("copy", __doc__, arguments, objects=10_000, size=8192)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[TurnResult]]]] = {}
    with ExitStack() as stack:
        folder, url = start_database(stack)
        one = stack.enter_context(start_rclone(folder / "one"))
        scenario = Scenario(one, one, url, [options.size] * options.objects, one.new_bucket("from"))
        scenario.write_objects()
        what = f"{options.objects:,} objects of {options.size:,} bytes"
        for case in options.case or (1, 2):
            title = f"{what}, two buckets of one S3 server"
            if case == 2:
                scenario.set_destination(stack.enter_context(start_rclone(folder / "other")))
                title = f"{what}, through the client from one S3 server to another"
            contestants = _contestants(scenario, one)
            cases[str(case)] = (title, contestants, _contest.run_contest(str(case), contestants, options.rounds))
        scenario.close()
    setting = {
        **_contest.describe_machine(load), "servers": SERVERS,
        "objects": options.objects, "size": options.size, "at_once": int(PARALLEL_REQUESTS), "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("copy", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
