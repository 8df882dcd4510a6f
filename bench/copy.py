"""Many small objects from one bucket to another, with rows in PostgreSQL: cases 1 (one server) and 2 (two servers).

migrate-storage copies, verifies, re-points each row and keeps its journal, with its default settings; the others do what
they do. The objects were written by FSSpecBackend, which stores no content type: on the destination it must be the row's.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

import obstore
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from bench import _contest
from bench._application import Base, name_of, told, type_of, value_of
from bench._contest import Contestant, Ended, Goal
from tests import services
from tests.engine import places
from tests.servers import DatabaseServer, S3Server, start_rclone

GOALS = (
    Goal(case="1", metric="per second", against="s5cmd cp", goal=1.0),
    Goal(case="1", metric="per second", against="rclone copy", goal=1.3),
    Goal(case="1", metric="per second", against="script", goal=6.0),
    Goal(case="2", metric="per second", against="rclone copy", goal=1.2),
    Goal(case="2", metric="CPU for each", against="rclone copy", goal=0.8, most=True),
    Goal(case="2", metric="per second", against="script", goal=4.0),
    Goal(case="2", metric="per second", against="obstore loop", goal=0.8),
)
AT_ONCE = "32"


@dataclass
class Ground:
    """The servers of a case, and the bucket that is filled next."""

    source: S3Server
    destination: S3Server
    url: str
    bucket: str
    objects: int
    size: int
    #: The destination's bucket: a fresh one for each turn.
    there: str = ""
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url)

    def write(self) -> None:
        """The objects, through FSSpecBackend, as the application wrote them."""
        asyncio.run(self._write())

    async def _write(self) -> None:
        backend = FSSpecBackend(key="old", fs=self.source.fs(asynchronous=True), prefix=self.bucket)
        numbers, dice = iter(range(1, self.objects + 1)), random.Random(0)

        async def some() -> None:
            for number in numbers:
                file = FileObject(backend=backend, filename=name_of(number), content_type=type_of(number))
                await backend.save_object_async(file, dice.randbytes(self.size))

        await asyncio.gather(*(some() for _ in range(16)))
        await (await backend.fs.set_session()).close()

    def fresh(self) -> None:
        """Rows as they were, no journal, an empty bucket to copy to."""
        self.there = self.destination.new_bucket("to")
        with self.engine.begin() as connection:
            for table in sa.inspect(connection).get_table_names():
                connection.execute(sa.text(f'DROP TABLE "{table}"'))
            Base.metadata.create_all(connection)
            rows = [{"id": n, "v": value_of(n, self.size)} for n in range(1, self.objects + 1)]
            connection.execute(sa.text("INSERT INTO documents (id, title, file) VALUES (:id, 't', CAST(:v AS JSONB))"), rows)  # fmt: skip
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE documents"))

    def arrived(self, *, types: bool, rows: bool) -> tuple[int, Mapping[str, Any]]:
        """Objects that the destination holds with the source's size and ETag, content types that are the rows' own, and rows.

        Args:
            types: every content type must be right, else it is only counted.
            rows: every row must name the new place.

        Raises:
            RuntimeError: not everything arrived, or not so.
        """
        store = self.destination.store(self.there)
        here, there = _held(self.source.store(self.bucket)), _held(store)
        right = sum(there.get(path) == meta for path, meta in here.items())
        with ThreadPoolExecutor(16) as pool:
            found = pool.map(lambda n: _type(store, name_of(n)) == type_of(n), range(1, self.objects + 1))
        kinds = Counter(found)
        with self.engine.connect() as connection:
            moved = connection.execute(sa.text("SELECT count(*) FROM documents WHERE file->>'backend' = 'new'")).scalar_one()  # fmt: skip
        checked = {"content types as in the rows": kinds[True], "rows re-pointed": moved}
        if right != self.objects or (types and kinds[False]) or (rows and moved != self.objects):
            raise RuntimeError(f"of {self.objects} objects {right} arrived; {checked}")
        return right, checked


def _held(store: Any) -> dict[str, tuple[int, str | None]]:
    return {meta["path"]: (meta["size"], (meta["e_tag"] or "").strip('"')) for page in obstore.list(store) for meta in page}  # fmt: skip


def _type(store: Any, path: str) -> str | None:
    return obstore.get(store, path, options={"head": True}).attributes.get("Content-Type")


def _contestants(ground: Ground, *, one_server: bool) -> list[Contestant]:
    old, programs = places.old_s3(ground.source, ground.bucket), Path(sys.executable).parent

    def python(name: str, verifies: str, *command: str, rows: bool = False, types: bool = False) -> Contestant:
        def start() -> tuple[Sequence[str], Mapping[str, str]]:
            ends = {
                "from": {"bucket": ground.bucket, **ground.source.options()},
                "to": {"bucket": ground.there, **ground.destination.options()},
            }
            return (sys.executable, "-m", *command), told(
                ground.url, old, places.new_s3(ground.destination, ground.there), **ends
            )

        return Contestant(
            name=name,
            verifies=verifies,
            start=start,
            prepare=ground.fresh,
            count=lambda: ground.arrived(types=types, rows=rows),
        )

    def tool(
        name: str, verifies: str, command: Callable[[], Sequence[str]], environment: Mapping[str, str]
    ) -> Contestant:
        return Contestant(
            name=name,
            verifies=verifies,
            start=lambda: (command(), environment),
            prepare=ground.fresh,
            count=lambda: ground.arrived(types=False, rows=False),
        )

    ours = python(
        "migrate-storage", "both ends of each object, each row by compare-and-swap, each source again at the end",
        "migrate_storage", "run", "--app", "bench._application:engine", "--from", "old", "--to", "new", "--json",
        rows=True, types=True,
    )  # fmt: skip
    # Within one remote rclone lets the service copy.
    to = "src" if one_server else "dst"
    rclone = tool(
        "rclone copy", "size and MD5 of each object; no rows",
        lambda: [str(programs / "rclone"), "copy", f"src:{ground.bucket}", f"{to}:{ground.there}", "--config", "/dev/null",
                 "--transfers", AT_ONCE, "--checkers", AT_ONCE, "--s3-no-check-bucket"],
        {**_remote("SRC", ground.source), **_remote("DST", ground.destination)},
    )  # fmt: skip
    script = python("script", "nothing", "bench._rivals", "script", rows=True)
    if not one_server:
        return [ours, rclone, python("obstore loop", "nothing; no rows", "bench._rivals", "obstore_copies"), script]
    s5cmd = tool(
        "s5cmd cp", "nothing; no rows",
        lambda: [str(programs / "s5cmd"), "--log", "error", "--endpoint-url", ground.source.endpoint, "--numworkers", AT_ONCE,
                 "cp", f"s3://{ground.bucket}/*", f"s3://{ground.there}/"],
        {"AWS_ACCESS_KEY_ID": ground.source.key, "AWS_SECRET_ACCESS_KEY": ground.source.secret, "AWS_REGION": ground.source.region},
    )  # fmt: skip
    loop = python("obstore loop", "nothing; no rows", "bench._rivals", "obstore_copies_in_the_service")
    return [ours, s5cmd, rclone, loop, script]


def _remote(name: str, server: S3Server) -> dict[str, str]:
    values = {
        "TYPE": "s3", "PROVIDER": "Rclone", "ENDPOINT": server.endpoint, "REGION": server.region,
        "ACCESS_KEY_ID": server.key, "SECRET_ACCESS_KEY": server.secret,
    }  # fmt: skip
    return {f"RCLONE_CONFIG_{name}_{key}": value for key, value in values.items()}


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.options("copy", __doc__, arguments, objects=10_000, size=8192)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[Ended]]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        one = stack.enter_context(start_rclone(folder / "one"))
        database = DatabaseServer(service=stack.enter_context(services.launched("postgres", folder / "postgres")))
        url = stack.enter_context(database.database())
        ground = Ground(one, one, url, one.new_bucket("from"), options.objects, options.size)
        print(f"writing {options.objects} objects through FSSpecBackend", file=sys.stderr, flush=True)
        ground.write()
        what = f"{options.objects:,} objects of {options.size:,} bytes"
        for case in options.case or (1, 2):
            title = f"{what}, two buckets of one S3 server"
            if case == 2:
                ground.destination = stack.enter_context(start_rclone(folder / "other"))
                title = f"{what}, through the client from one S3 server to another"
            contestants = _contestants(ground, one_server=case == 1)
            cases[str(case)] = (title, contestants, _contest.contest(str(case), contestants, options.rounds))
        ground.engine.dispose()
    setting = {
        **_contest.machine(load), "servers": "rclone serve s3 and PostgreSQL 15 on loopback, on the same cores as the client",
        "objects": options.objects, "size": options.size, "at_once": int(AT_ONCE), "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("copy", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
