"""Objects written by FSSpecBackend, their rows in PostgreSQL, and the contestants."""

from __future__ import annotations

import asyncio
import hashlib
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

import obstore
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from bench._application import Base, environment_for, name_of, type_of, value_of
from bench._contest import Contestant
from tests.support import services
from tests.support.engine import registrations as places
from tests.support.servers import DatabaseServer, S3Server

PARALLEL_REQUESTS = "32"
SERVERS = "rclone serve s3 and PostgreSQL 15 on loopback, on the same cores as the client"
"""The setting of every section that uses a Scenario."""
PROGRAMS = Path(sys.executable).parent
_BLOCK = 1 << 20


@dataclass
class Scenario:
    """Source, destination and database of a case."""

    #: A server, or a folder of this machine.
    source: S3Server | Path
    destination: S3Server
    #: Of the database.
    url: str
    #: Bytes of each object.
    sizes: Sequence[int]
    #: The source's bucket; a folder has none.
    bucket: str = ""
    #: The destination's bucket: a fresh one for each turn.
    destination_bucket: str = field(init=False, default="")
    #: Size and MD5 of what was written, by name.
    written: dict[str, tuple[int, str | None]] = field(init=False, default_factory=dict)
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url)

    @property
    def source_registration(self) -> places.Registration:
        """The backend that is registered under ``old``."""
        if isinstance(self.source, Path):
            return places.old_local(self.source)
        return places.old_s3(self.source, self.bucket)

    def write_objects(self) -> None:
        """Write the objects through FSSpecBackend, as an application does."""
        print(f"writing {len(self.sizes)} objects through FSSpecBackend", file=sys.stderr, flush=True)
        dice = random.Random(0)
        if isinstance(self.source, Path):
            backend = self.source_registration.build()
            for number, size in enumerate(self.sizes, 1):
                backend.save_object(*self._file(backend, number, size, dice))
        else:
            asyncio.run(self._write_all(self.source, dice))

    async def _write_all(self, server: S3Server, dice: random.Random) -> None:
        backend = FSSpecBackend(key="old", fs=server.fs(asynchronous=True), prefix=self.bucket)
        numbers = iter(enumerate(self.sizes, 1))

        async def some() -> None:
            for number, size in numbers:
                await backend.save_object_async(*self._file(backend, number, size, dice))

        await asyncio.gather(*(some() for _ in range(16 if max(self.sizes) < _BLOCK else 1)))
        await (await backend.fs.set_session()).close()

    def _file(self, backend: Any, number: int, size: int, dice: random.Random) -> tuple[FileObject, bytes]:
        block = dice.randbytes(min(size, _BLOCK))
        content = (block * -(-size // len(block)))[:size]
        self.written[name_of(number)] = size, hashlib.md5(content, usedforsecurity=False).hexdigest()
        return FileObject(backend=backend, filename=name_of(number), content_type=type_of(number)), content

    def close(self) -> None:
        """Delete the objects of the last turn, and close the database connections."""
        _delete_objects(self.destination.store(self.destination_bucket))
        self.engine.dispose()

    def set_destination(self, destination: S3Server) -> None:
        """Use another destination from now on."""
        self.destination, self.destination_bucket = destination, ""

    def reset(self) -> None:
        """Restore the rows, drop the journal, and create an empty destination bucket."""
        if self.destination_bucket:
            _delete_objects(self.destination.store(self.destination_bucket))
        self.destination_bucket = self.destination.new_bucket("to")
        with self.engine.begin() as connection:
            for table in sa.inspect(connection).get_table_names():
                connection.execute(sa.text(f'DROP TABLE "{table}"'))
            Base.metadata.create_all(connection)
            rows = [{"id": number, "v": value_of(number, size)} for number, size in enumerate(self.sizes, 1)]
            connection.execute(sa.text("INSERT INTO documents (id, title, file) VALUES (:id, 't', CAST(:v AS JSONB))"), rows)  # fmt: skip
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE documents"))

    def count_arrived(self, *, types: bool, rows: bool) -> tuple[int, Mapping[str, Any]]:
        """Count the correct copies, their content types, and the re-pointed rows.

        Args:
            types: every content type must be that of its row; otherwise they are only counted.
            rows: every row must name the new place.

        Raises:
            RuntimeError: a copy, content type or row is missing or wrong.
        """
        store = self.destination.store(self.destination_bucket)
        there = {
            meta["path"]: (meta["size"], (meta["e_tag"] or "").strip('"')) for page in obstore.list(store) for meta in page
        }  # fmt: skip
        right = sum(there.get(path) == known for path, known in self.written.items())
        with ThreadPoolExecutor(16) as pool:
            found = pool.map(
                lambda n: _read_content_type(store, name_of(n)) == type_of(n), range(1, len(self.sizes) + 1)
            )
        kinds = Counter(found)
        with self.engine.connect() as connection:
            moved = connection.execute(sa.text("SELECT count(*) FROM documents WHERE file->>'backend' = 'new'")).scalar_one()  # fmt: skip
        checked = {"content types as in the rows": kinds[True], "rows re-pointed": moved}
        wanted = len(self.sizes)
        if right != wanted or (types and kinds[False]) or (rows and moved != wanted):
            raise RuntimeError(f"of {wanted} objects {right} arrived; {checked}")
        return right, checked

    def python_contestant(
        self, name: str, verifies: str, *command: str, rows: bool = False, types: bool = False
    ) -> Contestant:
        """Return a contestant in Python, with its environment."""

        def start() -> tuple[Sequence[str], Mapping[str, str]]:
            ends: dict[str, Any] = {"to": {"bucket": self.destination_bucket, **self.destination.options()}}
            if isinstance(self.source, S3Server):
                ends["from"] = {"bucket": self.bucket, **self.source.options()}
            new = places.new_s3(self.destination, self.destination_bucket)
            return (sys.executable, *command), environment_for(self.url, self.source_registration, new, **ends)

        return Contestant(
            name=name,
            verifies=verifies,
            start=start,
            prepare=self.reset,
            count=lambda: self.count_arrived(types=types, rows=rows),
        )

    def our_contestant(self, name: str = "migrate-storage", *wrapped: str, more: Sequence[str] = ()) -> Contestant:
        """Return migrate-storage with its default settings as a contestant.

        Args:
            name: of the contestant.
            *wrapped: arguments of Python before ``-m migrate_storage``.
            more: more options of ``run``.
        """
        return self.python_contestant(
            name, "both ends of each object, each row by compare-and-swap, each source again at the end",
            *wrapped, "-m", "migrate_storage", "run", "--app", "bench._application:engine", "--from", "old", "--to", "new", *more,
            rows=True, types=True,
        )  # fmt: skip

    def yardstick_contestant(self) -> Contestant:
        """Return the least that proof, rows and a journal cost in Python as a contestant."""
        return self.python_contestant(
            "yardstick", "both ends of each object, rows and journal; no retry, no resume",
            "-m", "bench._rivals", "yardstick", rows=True,
        )  # fmt: skip

    def tool_contestant(self, name: str, verifies: str, command: Callable[[], Sequence[str]], environment: Mapping[str, str]) -> Contestant:  # fmt: skip
        """Return a contestant that does not re-point rows."""
        return Contestant(
            name=name,
            verifies=verifies,
            start=lambda: (command(), environment),
            prepare=self.reset,
            count=lambda: self.count_arrived(types=False, rows=False),
        )

    def s5cmd_contestant(self, *options: str, name: str = "s5cmd cp") -> Contestant:
        """Return ``s5cmd cp``, which copies within one server, as a contestant."""
        server = self.destination
        return self.tool_contestant(
            name, "nothing; no rows",
            lambda: [str(PROGRAMS / "s5cmd"), "--log", "error", "--endpoint-url", server.endpoint, *options,
                     "cp", f"s3://{self.bucket}/*", f"s3://{self.destination_bucket}/"],
            {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret, "AWS_REGION": server.region},
        )  # fmt: skip

    def rclone_contestant(self, *options: str, name: str = "rclone copy") -> Contestant:
        """Return ``rclone copy`` as a contestant; within one server it copies server-side."""
        environment = rclone_environment("DST", self.destination)
        if isinstance(self.source, Path):
            here = str(self.source)
        else:
            here = f"src:{self.bucket}"
            environment |= rclone_environment("SRC", self.source)
        to = "src" if self.source is self.destination else "dst"
        return self.tool_contestant(
            name, "size and MD5 of each object; no rows",
            lambda: [str(PROGRAMS / "rclone"), "copy", here, f"{to}:{self.destination_bucket}", "--config", "/dev/null", "--s3-no-check-bucket", *options],
            environment,
        )  # fmt: skip


def start_database(stack: ExitStack) -> tuple[Path, str]:
    """Create a folder for servers, and a database on a new PostgreSQL server.

    Both exist until the stack is closed.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    database = DatabaseServer(service=stack.enter_context(services.launched("postgres", folder / "postgres")))
    return folder, stack.enter_context(database.database())


def rclone_environment(name: str, server: S3Server) -> dict[str, str]:
    """Return the environment that configures a server as a remote of rclone."""
    values = {
        "TYPE": "s3", "PROVIDER": "Rclone", "ENDPOINT": server.endpoint, "REGION": server.region,
        "ACCESS_KEY_ID": server.key, "SECRET_ACCESS_KEY": server.secret,
    }  # fmt: skip
    return {f"RCLONE_CONFIG_{name}_{key}": value for key, value in values.items()}


def _delete_objects(store: Any) -> None:
    for page in obstore.list(store):
        obstore.delete(store, [meta["path"] for meta in page])


def _read_content_type(store: Any, path: str) -> str | None:
    return obstore.get(store, path, options={"head": True}).attributes.get("Content-Type")
