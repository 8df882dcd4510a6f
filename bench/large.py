"""Large objects between servers (case 3), mixed sizes from disk to S3 (case 4).

Case 3 has 4 objects of 1 GiB through the client, case 4 has 2 GB. Rows are in PostgreSQL as in ``copy``. rclone has its
defaults, except that it sends a large file in one PUT. In several streams, its own server makes it wait for minutes,
twice, which would flatter us tenfold.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from bench import _contest
from bench._contest import Contestant, Goal, TurnResult
from bench._scenario import SERVERS, Scenario, start_database
from tests.support.servers import start_rclone

ONE_STREAM = ("--multi-thread-streams", "0")
ONE_PUT = "rclone copy, no parts"
GOALS = (
    Goal(case="3", metric="per second", against="rclone copy", goal=1.0),
    Goal(case="3", metric="per second", against=ONE_PUT, goal=0.8),
    Goal(case="3", metric="peak MB", against=None, goal=200, most=True),
    Goal(case="4", metric="per second", against="rclone copy", goal=1.0),
    Goal(case="4", metric="per second", against=ONE_PUT, goal=0.8),
    Goal(case="4", metric="peak MB", against=None, goal=200, most=True),
)
SMALLEST, LARGEST = 1000, 64 * 10**6


def mixed(total: int) -> Iterator[int]:
    """Return log-normal sizes between 1 KB and 64 MB, ``total`` bytes in all."""
    dice = random.Random(0)
    while total > 0:
        size = min(int(dice.lognormvariate(11.5, 2.0)), LARGEST, max(total, SMALLEST))
        if size >= SMALLEST:
            yield size
            total -= size


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("large", __doc__, arguments, objects=4, size=1 << 30, total=2 * 10**9)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[TurnResult]]]] = {}
    with ExitStack() as stack:
        folder, url = start_database(stack)
        there = stack.enter_context(start_rclone(folder / "there", hashes=True))
        for case in options.case or (3, 4):
            if case == 3:
                here = stack.enter_context(start_rclone(folder / "here", hashes=True))
                scenario = Scenario(here, there, url, [options.size] * options.objects, here.new_bucket("from"))
                title = f"{options.objects} objects of {options.size:,} bytes, from one S3 server to another"
            else:
                sizes = list(mixed(options.total))
                scenario = Scenario(folder / "disk", there, url, sizes)
                title = (
                    f"{len(sizes):,} objects of mixed sizes, {options.total:,} bytes, from a local disk to an S3 server"
                )
            scenario.write_objects()
            contestants = [
                scenario.our_contestant(),
                scenario.rclone_contestant(*ONE_STREAM),
                scenario.rclone_contestant(*ONE_STREAM, "--s3-upload-cutoff", "5G", name=ONE_PUT),
            ]
            cases[str(case)] = (title, contestants, _contest.run_contest(str(case), contestants, options.rounds))
            scenario.close()
    setting = {
        **_contest.describe_machine(load), "servers": f"{SERVERS}; rclone keeps the digests of its objects, as services do",
        "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("large", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
