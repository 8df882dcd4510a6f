"""Many small objects behind a slow network: each answer comes 20 ms (cases 12 and 13) or 100 ms (14 and 15) later.

Cases 12 and 14 copy through the client from one S3 server to another, 13 and 15 within one service. Each tool takes part
with its default settings, and with more requests at once where that is an option of it. A proxy delays the answers; it runs
on the same cores as the client and the servers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from bench import _contest
from bench._contest import Contestant, Goal, TurnResult
from bench._proxy import start_proxy
from bench._scenario import SERVERS, Scenario, start_database
from bench.copy import CONSISTENT
from tests.support.servers import start_rclone

CASES = {12: (0.02, False), 13: (0.02, True), 14: (0.1, False), 15: (0.1, True)}
"""The seconds by which an answer is late, and whether both buckets are of one service."""
MANY = "64"
"""Transfers of rclone in its second contestant."""
RCLONE_MANY = f"rclone copy, {MANY} transfers"
GOALS = tuple(
    goal
    for case, (_, within) in CASES.items()
    for goal in (
        [Goal(case=str(case), metric="per second", against="s5cmd cp", goal=0.5)]
        if within
        else [
            Goal(case=str(case), metric="per second", against="rclone copy", goal=5.0),
            Goal(case=str(case), metric="per second", against=RCLONE_MANY, goal=1.0),
        ]
    )
)


def _contestants(scenario: Scenario, *, within: bool) -> list[Contestant]:
    found = [
        scenario.our_contestant(more=CONSISTENT),
        scenario.our_contestant("migrate-storage, 256 at once", more=(*CONSISTENT, "--concurrency", "256")),
        scenario.rclone_contestant(),
        scenario.rclone_contestant("--transfers", MANY, "--checkers", MANY, name=RCLONE_MANY),
    ]
    return [*found, scenario.s5cmd_contestant()] if within else found


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("latency", __doc__, arguments, objects=10_000, size=8192)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[TurnResult]]]] = {}
    with ExitStack() as stack:
        folder, url = start_database(stack)
        one, other = (stack.enter_context(start_rclone(folder / name)) for name in ("one", "other"))
        bucket, written = one.new_bucket("from"), {}
        for case in options.case or CASES:
            seconds, within = CASES[case]
            with ExitStack() as proxies:
                near, far = (
                    server.behind(proxies.enter_context(start_proxy(server.service.port, latency=seconds)))
                    for server in (one, other)
                )
                scenario = Scenario(near, near if within else far, url, [options.size] * options.objects, bucket)
                if not written:
                    scenario.write_objects()
                    written = scenario.written
                scenario.written = written
                contestants = _contestants(scenario, within=within)
                where = "within one S3 service" if within else "through the client from one S3 server to another"
                title = f"{options.objects:,} objects of {options.size:,} bytes, {where}, answers {seconds * 1000:.0f} ms late"
                cases[str(case)] = (title, contestants, _contest.run_contest(str(case), contestants, options.rounds))
                scenario.close()
    setting = {
        **_contest.describe_machine(load), "servers": f"{SERVERS}; a proxy before each S3 server",
        "objects": options.objects, "size": options.size, "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("latency", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
