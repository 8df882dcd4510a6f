"""Rows without bytes: re-keying (5 and 6), planning (7), a resumed run (8).

Case 5 is on PostgreSQL, case 6 on SQLite and MariaDB. The files were written by FSSpecBackend into one folder; for the
rows in PostgreSQL that folder is a bucket of an S3 server. Both keys reach it, so only rows change. migrate-storage
checks that every file exists, keeps its journal, and can revert; the others do not. A contestant that only lists the files
shows what the check costs at least. A ratio with the words "listing apart" is without its seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from bench import _contest
from bench._application import Base, environment_for, name_of, type_of, value_of
from bench._contest import Contestant, Goal, TurnResult
from tests.support import services
from tests.support.engine import registrations as places
from tests.support.servers import S3Server, start_mariadb, start_postgres

GOALS = (
    Goal(case="5", metric="per second", against="executemany", goal=1.0, apart="listing"),
    Goal(case="6-sqlite", metric="per second", against="executemany", goal=0.5, apart="listing"),
    Goal(case="6-mariadb", metric="per second", against="executemany", goal=0.5, apart="listing"),
    Goal(case="7", metric="CPU", against="select", goal=3.0, most=True),
    Goal(case="7", metric="peak MB", against=None, goal=150, most=True),
    Goal(case="8", metric="seconds", against="select", goal=2.0, most=True),
)
SIZE = 16
"""Bytes of a file: none is read."""


@dataclass
class RowScenario:
    """A database with one row a file, and the folder of the files."""

    url: str
    rows: int
    #: What is registered under ``old`` and ``new``.
    backends: tuple[places.Registration, places.Registration]
    #: What has the files: a store's options, or a folder.
    files: Mapping[str, Any] | str

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url)
        self.postgres = self.engine.dialect.name == "postgresql"

    def fresh(self) -> None:
        """Rows as they were at the beginning, and no journal.

        No other table has a copy of them: the census of a run would search it, and find the old key there.
        """
        with self.engine.begin() as connection:
            for table in sa.inspect(connection).get_table_names():
                connection.execute(sa.text(f"DROP TABLE {table}"))
            Base.metadata.create_all(connection)
            if self.postgres:
                cursor = connection.connection.cursor()
                with cursor.copy("COPY documents (id, title, file) FROM STDIN") as rows:
                    for number in range(1, self.rows + 1):
                        rows.write_row((number, "t", value_of(number, SIZE)))
            else:
                statement = sa.text("INSERT INTO documents (id, title, file) VALUES (:id, 't', :v)")
                for start in range(1, self.rows + 1, 10_000):
                    numbers = range(start, min(start + 10_000, self.rows + 1))
                    connection.execute(statement, [{"id": n, "v": value_of(n, SIZE)} for n in numbers])
        self._settle()

    def _settle(self) -> None:
        """Do the database's maintenance after many writes before the clock starts."""
        if self.postgres:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
                connection.execute(sa.text("CHECKPOINT"))

    def moved(self, *, journal: bool) -> tuple[int, Mapping[str, Any]]:
        """Count the re-pointed rows, and their journal records.

        Raises:
            RuntimeError: not all of them.
        """
        done = sum(map(_is_moved, self._read_values()))
        recorded = self._count_recorded() if journal else 0
        if done != self.rows or (journal and recorded != self.rows):
            raise RuntimeError(f"of {self.rows} rows {done} name the new key, {recorded} are in the journal")
        return done, {"rows in the journal": recorded}

    def _read_values(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        text = "file::text" if self.postgres else "file"
        with self.engine.connect().execution_options(stream_results=True, yield_per=10_000) as connection:
            for number, value in connection.execute(sa.text(f"SELECT id, {text} FROM documents")):
                yield number, json.loads(value)

    def _count_recorded(self) -> int:
        """Count the rows in the journal: those with a line of their own, and those of re-keyed ranges."""
        packed = "SELECT COALESCE(sum(row_count), 0) FROM migrate_storage_rekey WHERE state = 'packed'"
        return self._count("SELECT count(*) FROM migrate_storage_row WHERE state = 'repointed'") + self._count(packed)

    def untouched(self) -> tuple[int, Mapping[str, Any]]:
        """Rows that name the old key still.

        Raises:
            RuntimeError: not all of them.
        """
        path = "file->>'backend'" if self.postgres else self._part("file", "backend")
        done = self._count(f"SELECT count(*) FROM documents WHERE {path} = 'old'")
        if done != self.rows:
            raise RuntimeError(f"of {self.rows} rows {done} are as they were")
        return done, {}

    def _part(self, column: str, name: str) -> str:
        found = f"json_extract({column}, '$.{name}')"
        return found if self.engine.dialect.name == "sqlite" else f"json_unquote({found})"

    def _count(self, statement: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.text(statement)).scalar_one())

    def contestant(self, name: str, verifies: str, *command: str, prepare: Any, count: Any) -> Contestant:
        line = (sys.executable, "-m", *command)
        return Contestant(
            name=name,
            verifies=verifies,
            start=lambda: (line, environment_for(self.url, *self.backends, files=self.files, rows=self.rows)),
            prepare=prepare,
            count=count,
        )

    def rekeying(self, *, orm: bool) -> list[Contestant]:
        """Return the contestants that re-point all rows."""
        ours = self.contestant(
            "migrate-storage", "each file, each row by compare-and-swap, a journal", *_run("run"),
            prepare=self.fresh, count=lambda: self.moved(journal=True),
        )  # fmt: skip
        others = [("executemany", "each row by compare-and-swap; no file, no journal", "executemany")]
        if orm:
            others.append(("ORM loop", "nothing", "orm"))
        listing = self.contestant(
            "listing", "each file; no rows", "bench._rivals", "listing", prepare=self.fresh, count=self.untouched
        )
        return [ours, listing, *(
            self.contestant(name, verifies, "bench._rivals", command, prepare=self.fresh, count=lambda: self.moved(journal=False))
            for name, verifies, command in others
        )]  # fmt: skip

    def reading(self, command: str, verifies: str, *, finished: bool) -> list[Contestant]:
        """Return the contestants that only read: rows to move, or moved ones."""
        count = (lambda: self.moved(journal=True)) if finished else self.untouched
        ours = self.contestant(
            "migrate-storage", verifies, *_run(command), prepare=self._settle if finished else self.fresh, count=count
        )
        return [
            ours,
            self.contestant("select", "nothing", "bench._rivals", "select", prepare=self._settle, count=count),
        ]


def _is_moved(row: tuple[int, Mapping[str, Any]]) -> bool:
    """Whether a row names the new key, and else what it named."""
    number, value = row
    expected = json.loads(value_of(number, SIZE, backend="new"))
    return all(value[name] == expected[name] for name in ("backend", "filename", "content_type"))


def _run(command: str) -> tuple[str, ...]:
    return ("migrate_storage", command, "--app", "bench._application:engine", "--from", "old", "--to", "new", "--json")


def write(folder: Path, count: int) -> None:
    """The files, through FSSpecBackend."""
    print(f"writing {count} files through FSSpecBackend", file=sys.stderr, flush=True)
    places.old_local(folder)
    backend = FSSpecBackend(key="old", fs="file", prefix=str(folder), auto_mkdir=True)
    for number in range(1, count + 1):
        file = FileObject(backend=backend, filename=name_of(number), content_type=type_of(number))
        backend.save_object(file, b"0" * SIZE)


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("rows", __doc__, arguments, rows=1_000_000)
    wanted = options.case or (5, 6, 7, 8)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[TurnResult]]]] = {}

    def held(case: str, title: str, contestants: Sequence[Contestant]) -> None:
        cases[case] = (title, contestants, _contest.run_contest(case, contestants, options.rounds))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        if {5, 7, 8} & set(wanted):
            rclone = S3Server.of(stack.enter_context(services.launched("rclone", folder / "rclone")))
            bucket = rclone.new_bucket("files")
            write(folder / "rclone" / "data" / bucket, options.rows)
            served = places.old_s3(rclone, bucket), places.new_s3(rclone, bucket)
            server = stack.enter_context(start_postgres(folder / "postgres"))
            bucket_options = {"bucket": bucket, **rclone.options()}
            scenario = RowScenario(stack.enter_context(server.database()), options.rows, served, bucket_options)
            scenario.fresh()
            rows = f"{options.rows:,} rows in PostgreSQL"
            if 7 in wanted:
                held(
                    "7",
                    f"plan {rows}",
                    scenario.reading("plan", "a sample of 1,000 files through both keys", finished=False),
                )
            if 5 in wanted:
                held("5", f"re-key {rows}", scenario.rekeying(orm=True))
            if 8 in wanted:
                _contest.run_turn(scenario.rekeying(orm=False)[0])
                held(
                    "8",
                    f"resume a finished job of {rows}",
                    scenario.reading("run", "that no row is left", finished=True),
                )
            scenario.engine.dispose()
        if 6 in wanted:
            few = max(1, options.rows // 5)
            files = folder / "files"
            write(files, few)
            local = places.old_local(files), places.new_local(files)
            mariadb = stack.enter_context(start_mariadb(folder / "m"))
            for name, url in (
                ("SQLite", f"sqlite:///{folder}/app.db"),
                ("MariaDB", stack.enter_context(mariadb.database())),
            ):
                scenario = RowScenario(url, few, local, str(files))
                held(f"6-{name.lower()}", f"re-key {few:,} rows in {name}", scenario.rekeying(orm=False))
                scenario.engine.dispose()
    setting = {
        **_contest.describe_machine(load), "servers": "rclone serve s3, PostgreSQL 15 and MariaDB 10.11 on loopback, on the same cores as the client. SQLite and MariaDB: files on a local disk",
        "rounds": options.rounds,
    }  # fmt: skip
    return _contest.publish("rows", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
