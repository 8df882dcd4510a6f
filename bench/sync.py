"""``sync`` with nothing to do, between two equal buckets of one server (case 9).

The objects were written by FSSpecBackend into the folder that the server serves, and are in both buckets. Both tools
compare sizes and the digests of the listings. rclone does so with ``--checksum``; without it, it requests each object's
time.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

import obstore
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from bench import _contest
from bench._application import name_of
from bench._contest import Contestant, Goal
from bench._scenario import PARALLEL_REQUESTS, PROGRAMS, rclone_environment
from tests.support.servers import S3Server, start_rclone

GOALS = (Goal(case="9", metric="per second", against="rclone sync", goal=1.0),)
SIZE = 16


def _write(folder: Path, twin: Path, count: int) -> None:
    """The objects, and the same ones under another bucket."""
    print(f"writing {count} objects through FSSpecBackend", file=sys.stderr, flush=True)
    backend = FSSpecBackend(key="old", fs="file", prefix=str(folder), auto_mkdir=True)
    for number in range(1, count + 1):
        name = name_of(number)
        backend.save_object(FileObject(backend=backend, filename=name), b"%016d" % number)
        (twin / name).parent.mkdir(parents=True, exist_ok=True)
        (twin / name).hardlink_to(folder / name)


def _contestants(server: S3Server, here: str, there: str, state: Path, count: int) -> list[Contestant]:
    def same() -> tuple[int, Mapping[str, Any]]:
        held = [sum(len(page) for page in obstore.list(server.store(bucket))) for bucket in (here, there)]
        if held != [count, count]:
            raise RuntimeError(f"the buckets hold {held} objects, not {count} each")
        return count, {}

    def forget() -> None:
        state.unlink(missing_ok=True)

    options = [
        part
        for side in ("--from-option", "--to-option")
        for value in (f"endpoint={server.endpoint}", "allow_http=true", "virtual_hosted_style_request=false")
        for part in (side, value)
    ]
    keys = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret, "AWS_REGION": server.region}
    ours: Sequence[str] = (
        sys.executable, "-m", "migrate_storage", "sync", f"s3://{here}/", f"s3://{there}/", *options,
        "--journal", f"sqlite:///{state}",
    )  # fmt: skip
    theirs: Sequence[str] = (
        str(PROGRAMS / "rclone"), "sync", f"src:{here}", f"src:{there}", "--config", "/dev/null", "--checksum",
        "--transfers", PARALLEL_REQUESTS, "--checkers", PARALLEL_REQUESTS,
    )  # fmt: skip
    return [
        Contestant(name="migrate-storage", verifies="size and MD5 of each pair", start=lambda: (ours, keys), prepare=forget, count=same),
        Contestant(name="rclone sync", verifies="size and MD5 of each pair", start=lambda: (theirs, rclone_environment("SRC", server)), prepare=forget, count=same),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("sync", __doc__, arguments, objects=200_000)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        server = stack.enter_context(start_rclone(folder / "server"))
        here, there = server.new_bucket("from"), server.new_bucket("to")
        data = folder / "server" / "data"
        _write(data / here, data / there, options.objects)
        contestants = _contestants(server, here, there, folder / "journal.db", options.objects)
        title = f"sync with nothing to do, {options.objects:,} objects a side"
        cases = {"9": (title, contestants, _contest.run_contest("9", contestants, options.rounds))}
    setting = {**_contest.describe_machine(load), "servers": "rclone serve s3 on loopback, on the same cores as the client", "rounds": options.rounds}  # fmt: skip
    return _contest.publish("sync", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
