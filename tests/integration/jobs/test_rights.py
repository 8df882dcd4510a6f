"""docs/rights.md, line by line: each command runs with exactly these rights, and fails without any one of them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.application.application import Application
from migrate_storage.core.errors import MigrateStorageError
from migrate_storage.jobs.explain import explain
from migrate_storage.jobs.links.job import LinksJob
from migrate_storage.jobs.links.options import LinksOptions
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.journal.schema import Tables
from migrate_storage.reporting import Report
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine import registrations as places
from tests.support.engine.other_process import ROOT
from tests.support.engine.world import World

PAGE = (ROOT / "docs" / "rights.md").read_text()
TABLE = {
    command: [{word.strip() for word in cell.split(",")} - {"–"} for cell in cells.split("|")]
    for command, cells in re.findall(r"^\| `([^`]+)` \| (.*) \|$", PAGE, re.MULTILINE)
}
OPERATIONS = {"head": "read", "open": "read", "put": "write", "delete": "delete", "list": "list"}
SPARED = {("run", "destination", "delete"), ("revert", "source", "delete"), ("revert", "source", "list"), ("purge", "destination", "delete"), ("purge --unreferenced-copies", "destination", "delete"), ("purge --unreferenced-copies", "source", "read"), ("plan", "source", "list"), ("plan", "destination", "list"), ("run", "source", "list"), ("run", "destination", "list")}  # fmt: skip
"""What a command asks for and goes on without: removing its own probe, looking for it, telling a missing bucket from a missing key."""


def run(application: Application, **options: Any) -> Report:
    return RunJob(
        application, RunOptions(source="old", destination="new", settle_time=0.0, lease_ttl=1.0, **options)
    ).run()


def purge(application: Application, **options: Any) -> Report:
    return PurgeJob(application, PurgeOptions(older_than=0.0, yes=True, lease_ttl=1.0, **options)).run()


def orphans(application: Application, **options: Any) -> Report:
    given = {"keys": ("old",), "min_age": 0.0, "lease_ttl": 1.0, "yes": True, **options}
    return OrphansJob(application, OrphansOptions(**given)).run()


def links(application: Application, **options: Any) -> Report:
    given = {
        "from_address": ("https://old.example/",),
        "to_address": "https://new.example/",
        "lease_ttl": 1.0,
        **options,
    }
    return LinksJob(application, LinksOptions(**given)).run()


def prune(application: Application) -> None:
    with application.engine.begin() as connection:  # type: ignore[union-attr]
        while Tables().prune(connection, time.time() + 60):
            pass


COMMANDS: dict[str, Callable[[Application], Any]] = {
    "plan": lambda application: run(application, dry_run=True),
    "run": run,
    "verify --read-content": lambda application: VerifyJob(application, VerifyOptions(read_content=True)).run(),
    "explain": lambda application: explain(application, "documents.file", ["1"]),
    "status --ready-to-unregister": lambda application: ready_to_unregister(application, "old", soak=0.0),
    "revert": lambda application: RevertJob(application, RevertOptions(settle_time=0.0, lease_ttl=1.0)).run(),
    "purge": purge,
    "purge --unreferenced-copies": lambda application: purge(application, unreferenced_copies=True),
    "orphans": lambda application: orphans(application, yes=False),
    "orphans --quarantine": lambda application: orphans(application, quarantine="q"),
    "orphans --restore": lambda application: orphans(application, restore="all"),
    "orphans --acknowledge-missing": lambda application: orphans(application, acknowledge_missing="lost"),
    "orphans --forget-acknowledged": lambda application: orphans(application, forget_acknowledged="stale"),
    "links": lambda application: links(application),
    "links --rewrite --yes": lambda application: links(application, rewrite=True, yes=True),
    "journal prune": prune,
}


def succeeds(command: str, application: Application) -> bool:
    try:
        result = COMMANDS[command](application)
    except (MigrateStorageError, SQLAlchemyError, PermissionError):
        return False
    if isinstance(result, Report):
        # A run goes on without columns that it may not search: they make the exit code 1, and no row stays.
        blind = (
            result.kind == "run"
            and result.state == "completed"
            and (result.rows_remaining, result.problem_count) == (0, 0)
        )
        return result.exit_code == 0 or blind
    if command == "status --ready-to-unregister":
        return all(check.ready for check in result[1])
    return "cannot be read" not in "".join(result or ()) if command == "explain" else True


class Bed:
    """A world with a role that has no right, and stores that refuse everything."""

    def __init__(self, world: World, role: str) -> None:
        self.world, self.role = world, role
        self.allowed: dict[str, set[str]] = {"old": set(), "new": set()}
        self.guarding = False
        self.application = Application(
            engine=sa.create_engine(sa.make_url(world.url).set(username=role)),
            columns=world.columns,
            backends=world.application.backends,
        )

    def rows(self, word: str, verb: str = "GRANT", to: str = "TO") -> None:
        for column in self.world.columns:
            names = (column.column,) if word == "UPDATE" else (*column.key, column.column)
            self.world.sql(f"{verb} {word} ({', '.join(names)}) ON {column.table} {to} {self.role}")

    def others(self, word: str, verb: str = "GRANT", to: str = "TO") -> None:
        """The columns that are no files and no keys: the census searches them."""
        for table in sorted({column.table for column in self.world.columns}):
            files = [column for column in self.world.columns if column.table == table]
            known = {name for column in files for name in (*column.key, column.column)}
            names = [found["name"] for found in sa.inspect(self.world.engine).get_columns(table)]
            if others := [name for name in names if name not in known]:
                self.world.sql(f"{verb} {word} ({', '.join(others)}) ON {table} {to} {self.role}")

    def journal(self, word: str, verb: str = "GRANT", to: str = "TO") -> None:
        for table in Tables().metadata.sorted_tables:
            self.world.sql(f"{verb} {word} ON {table.name} {to} {self.role}")
        if word == "INSERT":
            self.world.sql(f"{verb} USAGE ON SEQUENCE migrate_storage_row_id_seq {to} {self.role}")

    def check(self, store: Any, operation: str) -> None:
        key = store.name.split(" ")[0]
        if OPERATIONS[operation] not in self.allowed[key]:
            raise PermissionError(f"{operation} on {key} is not allowed")


@pytest.fixture
def bed(rclone_s3: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    old = places.old_s3(rclone_s3, rclone_s3.new_bucket())
    # By another name of the same server, so that the registrations leave open whether both are one storage.
    alias = rclone_s3.behind(rclone_s3.endpoint.replace("127.0.0.1", "localhost"))
    world = World(postgres_url, old.build(), places.new_s3(alias, rclone_s3.new_bucket()).build())
    world.fill(3)
    with world.engine.begin() as connection:
        Tables().create(connection)
    role = f"least_{os.getpid()}"
    world.sql(f"CREATE ROLE {role} LOGIN")
    bed = Bed(world, role)

    def guarded(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if bed.guarding:
                bed.check(self, name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for owner in (ObstoreStore, FsspecStore):
        for name in OPERATIONS:
            guarded(owner, name)
    yield bed
    bed.application.engine.dispose()  # type: ignore[union-attr]
    world.sql(f"DROP OWNED BY {role}")
    world.sql(f"DROP ROLE {role}")
    world.close()


def prepare(bed: Bed, command: str) -> None:
    """What must have been done before, with all rights."""
    world = bed.world
    if command in ("plan", "run"):
        return
    if command.startswith("orphans"):
        _prepare_orphans(world, command)
        return
    assert world.run().exit_code == 0
    if command == "purge --unreferenced-copies":
        assert RevertJob(world.application, RevertOptions(settle_time=0.0, lease_ttl=1.0)).run().exit_code == 0
    if command == "links --rewrite --yes":
        world.sql("UPDATE documents SET title = 'see https://old.example/docs/0/d0.bin'")
    if command == "revert":
        world.new.save_object(FileObject(backend="new", filename="docs/0/d0.bin"), b"goes back")


def _prepare_orphans(world: World, command: str) -> None:
    lost = FileObject(backend="old", filename="docs/0/d0.bin")
    if command in ("orphans --quarantine", "orphans --restore"):
        world.old.save_object(FileObject(backend="old", filename="stray"), b"nobody's")
    if command == "orphans --restore":
        assert orphans(world.application, quarantine="q").exit_code == 0
    if command in ("orphans --acknowledge-missing", "orphans --forget-acknowledged"):
        world.old.delete_object(lost.filename)
    if command == "orphans --forget-acknowledged":
        assert orphans(world.application, acknowledge_missing="lost").exit_code == 0
        world.old.save_object(lost, world.contents[lost.filename])


def test_the_table_has_every_command_that_touches_a_store_or_the_rows() -> None:
    assert TABLE.keys() == COMMANDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_with_exactly_these_rights(bed: Bed, command: str) -> None:
    rows, others, journal, source, destination = TABLE[command]
    prepare(bed, command)
    bed.guarding = True
    bed.allowed = {"old": set(source), "new": set(destination)}
    for word in rows:
        bed.rows(word)
    for word in others:
        bed.others(word)
    for word in journal:
        bed.journal(word)
    sides = {"source": "old", "destination": "new"}
    missing: list[tuple[str, str, Callable[[], None], Callable[[], None]]] = [
        *(("journal", word, lambda word=word: bed.journal(word, "REVOKE", "FROM"), lambda word=word: bed.journal(word)) for word in sorted(journal)),  # type: ignore[misc]
        *((side, word, lambda key=key, word=word: bed.allowed[key].remove(word), lambda key=key, word=word: bed.allowed[key].add(word)) for side, key in sides.items() for word in sorted(bed.allowed[key], reverse=True)),  # type: ignore[misc]
        *(("others", word, lambda word=word: bed.others(word, "REVOKE", "FROM"), lambda word=word: bed.others(word)) for word in sorted(others)),  # type: ignore[misc]
        *(("rows", word, lambda word=word: bed.rows(word, "REVOKE", "FROM"), lambda word=word: bed.rows(word)) for word in sorted(rows)),  # type: ignore[misc]
    ]  # fmt: skip
    for where, word, take, give in missing:
        if (command, where, word) in SPARED:
            continue
        take()
        assert not succeeds(command, bed.application), f"{command} does not need {word} on {where}"
        give()
    assert succeeds(command, bed.application)
    bed.guarding = False
    if command == "links --rewrite --yes":
        assert bed.world.sql("SELECT DISTINCT title FROM documents") == [("see https://new.example/docs/0/d0.bin",)]
    if command == "orphans --acknowledge-missing":
        bed.world.old.save_object(
            FileObject(backend="old", filename="docs/0/d0.bin"), bed.world.contents["docs/0/d0.bin"]
        )
    if command == "revert":
        bed.world.contents["docs/0/d0.bin"] = b"goes back"
    assert bed.world.check() == 3
