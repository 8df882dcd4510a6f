"""What would make a run fail is found before anything is touched, with one clear line and what to do."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import obstore
import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.core.events import DiagnosticRaised, RunStarted
from migrate_storage.core.model import Column, OutcomeKind, Strategy
from migrate_storage.engine.probe import SCRATCH, try_destination
from migrate_storage.stores.failures import FailureKind, classify
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from tests.support.engine import registrations as places
from tests.support.engine.world import COLUMNS, World


def refused(world: World, says: str, **options: Any) -> str:
    """The run is refused in one line, and left nothing behind."""
    before = world.dump()
    with pytest.raises(ConfigurationError, match=says) as caught:
        world.run(max_attempts=1, **options)
    assert "\n" not in str(caught.value)
    assert "tester-secret" not in str(caught.value)
    assert world.dump() == before
    assert not [event for event in world.events if isinstance(event, RunStarted)]
    return str(caught.value)


@pytest.fixture(params=["rclone_s3", "moto_s3", "azurite"])
def gone(request: pytest.FixtureRequest) -> places.Registration:
    """A destination whose bucket does not exist."""
    server = request.getfixturevalue(request.param)
    if request.param == "azurite":
        return places.new_azure(server, "no-such-container")
    return places.new_s3(server, "no-such-bucket")


def test_a_missing_bucket_is_no_missing_key(gone: places.Registration, tmp_path: Path, sqlite_url: str) -> None:
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), gone.build())
    world.fill(1)
    line = refused(world, "the destination 'new'")
    assert "create the bucket or correct its name" in line
    refused(world, "create the bucket or correct its name", dry_run=True)


def test_a_missing_bucket_of_the_source(rclone_s3, world: World) -> None:
    """To the rows it would look as if every one of their objects were missing."""
    world.fill(2)
    world.old = places.old_s3(rclone_s3, "no-such-bucket").build()
    assert "create the bucket or correct its name" in refused(world, "the source 'old'")


@pytest.mark.parametrize("name", ["rclone_s3", "gcs", "azurite"])
def test_fsspec_tells_them_apart_too(name: str, request: pytest.FixtureRequest) -> None:
    """By itself fsspec lists a bucket that does not exist as an empty one."""
    server = request.getfixturevalue(name)
    store = FsspecStore(server.fs(), "old")
    empty = server.new_container() if name == "azurite" else server.new_bucket()
    assert list(store.list(f"{empty}/nothing")) == []
    with pytest.raises(FileNotFoundError) as caught:
        store.head(f"{empty}/nothing")
    assert classify(caught.value).kind is FailureKind.MISSING
    with pytest.raises(FileNotFoundError) as caught:
        list(store.list("no-such-bucket/nothing"))
    assert classify(caught.value).kind is FailureKind.NO_BUCKET


def test_an_empty_bucket_is_not_a_missing_one(rclone_s3, world: World) -> None:
    world.fill(2)
    world.old = places.old_s3(rclone_s3, rclone_s3.new_bucket()).build()
    report = world.run()
    assert (report.state, report.counts) == ("completed", {OutcomeKind.MISSING: 2})


@pytest.mark.parametrize("side", ["source", "destination"])
def test_wrong_credentials(rclone_s3, world: World, side: str) -> None:
    bucket = rclone_s3.new_bucket()
    stranger = dataclasses.replace(rclone_s3, secret="wrong")
    world.fill(1)
    if side == "source":
        world.old = places.old_s3(stranger, bucket).build()
    else:
        world.new = places.new_s3(stranger, bucket).build()
    line = refused(world, f"the {side} '{world.old.key if side == 'source' else 'new'}'")
    assert "check the credentials" in line


def test_a_server_that_is_not_there(world: World) -> None:
    options = {"endpoint": "http://127.0.0.1:9", "access_key_id": "k", "secret_access_key": "tester-secret", "region": "r", "client_options": {"allow_http": True}}  # fmt: skip
    world.fill(1)
    world.new = places.Registration(key="new", driver="obstore", fs="s3://b/", options=options).build()
    assert "check the endpoint" in refused(world, "the destination 'new'")


def test_a_destination_that_may_not_be_written(world: World, tmp_path: Path) -> None:
    """A file where the folder of the destination should be: refused as no right to write would be."""
    world.fill(1)
    directory = tmp_path / "new"
    directory.rmdir()
    directory.write_text("in the way")
    refused(world, "the destination 'new'")


def test_one_place_under_two_names_is_found_out_by_a_probe(rclone_s3, sqlite_url: str) -> None:
    """127.0.0.1 and localhost: nothing in the registrations tells that they are one server."""
    bucket = rclone_s3.new_bucket()
    other = rclone_s3.behind(rclone_s3.endpoint.replace("127.0.0.1", "localhost"))
    world = World(sqlite_url, places.old_s3(rclone_s3, bucket).build(), places.new_s3(other, bucket).build())
    world.fill(5)
    report = world.run()
    assert (report.strategy, report.exit_code, report.bytes_copied) == (Strategy.REKEY, 0, 0), report
    assert "a probe object at the destination is seen through the source" in report.strategy_reason
    assert world.check(backend="new") == 5
    assert {meta["path"] for meta in obstore.list(rclone_s3.store(bucket)).collect()} == set(world.contents)


def test_two_buckets_of_one_server_under_two_names_are_two_places(rclone_s3, sqlite_url: str) -> None:
    """The reason does not say at once that the storage differs and that one side shows the object of the other."""
    old = places.old_s3(rclone_s3, rclone_s3.new_bucket())
    new = places.new_s3(rclone_s3.by_another_name, rclone_s3.new_bucket())
    world = World(sqlite_url, old.build(), new.build())
    world.fill(2)
    report = world.run()
    assert (report.strategy, report.exit_code) == (Strategy.MOVE, 0)
    assert "the keys reach different places of one storage (a probe object" in report.strategy_reason


def test_two_servers_are_told_apart_by_the_same_probe(rclone_s3, moto_s3, sqlite_url: str) -> None:
    bucket = rclone_s3.new_bucket()
    moto_s3.client.create_bucket(Bucket=bucket)
    world = World(sqlite_url, places.old_s3(rclone_s3, bucket).build(), places.new_s3(moto_s3, bucket).build())
    world.fill(2)
    report = world.run()
    assert (report.strategy, report.exit_code) == (Strategy.MOVE, 0)
    assert "is not seen through the source" in report.strategy_reason


def test_no_right_to_make_the_tables_of_the_journal(world: World, postgres_url: str) -> None:
    with sa.create_engine(postgres_url).begin() as connection:
        role = "r" + sa.make_url(postgres_url).database
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    try:
        moving = World(postgres_url, world.old, world.new)
        moving.fill(2)
        moving.sql(f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
        moving.other_engine = sa.create_engine(sa.make_url(postgres_url).set(username=role))
        before = moving.dump()
        with pytest.raises(ConfigurationError, match="cannot create the journal's tables .* grant CREATE.*--journal URL"):  # fmt: skip
            moving.run()
        assert moving.dump() == before
        report = moving.run(journal=world.url)
        assert (report.exit_code, report.rows_remaining) == (0, 0)
        moving.other_engine.dispose()
        moving.close()
    finally:
        with sa.create_engine(postgres_url).begin() as connection:
            connection.execute(sa.text(f"DROP OWNED BY {role}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))


def test_values_that_are_no_files(all_worlds: World) -> None:
    all_worlds.fill(3)
    all_worlds.columns = (*COLUMNS[:1], Column(table="documents", column="title", key=("id",)))
    refused(all_worlds, "documents.title has no files.*is it a StoredObject column")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": "odl"}, "no storage backend is registered under 'odl'; registered: new, old"),
        ({"destination": "nwe"}, "no storage backend is registered under 'nwe'"),
        ({"destination": "old"}, "--from and --to are both 'old'"),
        ({"columns": ("documents.fiel",)}, "no StoredObject column documents.fiel; there is documents.file"),
        ({"where": "nothing = 1"}, "--where is not a condition on documents"),
        ({"journal": "postgresql+psycopg://me:tester-secret@127.0.0.1:9/x"}, "cannot reach the database"),
    ],
)
def test_options_that_name_nothing(world: World, options: dict[str, Any], says: str) -> None:
    world.fill(2)
    refused(world, says, **options)


def test_a_column_that_the_database_has_not(world: World) -> None:
    world.columns = (Column(table="documents", column="missing", key=("id",)),)
    refused(world, "documents has no column missing.*has it been migrated")
    world.columns = (Column(table="nothing", column="file", key=("id",)),)
    refused(world, "no such table nothing")


def test_a_database_that_is_not_there(world: World) -> None:
    world.other_engine = sa.create_engine("postgresql+psycopg://me:tester-secret@127.0.0.1:9/db")
    with pytest.raises(ConfigurationError, match="cannot reach the database .*me:\\*\\*\\*@127") as caught:
        world.run()
    assert "tester-secret" not in str(caught.value)


TRIGGERS = {
    "sqlite": ["CREATE TRIGGER loud AFTER UPDATE ON documents BEGIN SELECT 1; END"],
    "postgresql": [
        "CREATE FUNCTION f() RETURNS trigger AS 'BEGIN RETURN NEW; END' LANGUAGE plpgsql",
        "CREATE TRIGGER loud BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION f()",
    ],
    "mysql": ["CREATE TRIGGER loud BEFORE UPDATE ON documents FOR EACH ROW SET NEW.title = NEW.title"],
}


def test_triggers_are_named(worlds: World) -> None:
    worlds.fill(1)
    for statement in TRIGGERS[worlds.engine.dialect.name]:
        worlds.sql(statement)
    report = worlds.run()
    [note] = [note for note in report.notes if note.code == "database.trigger"]
    assert "loud" in note.message
    assert "documents" in note.subject
    assert [event.note for event in worlds.events if isinstance(event, DiagnosticRaised)].count(note) == 1


def test_a_source_without_counterpart_is_not_swapped(world: World, tmp_path: Path) -> None:
    world.fill(1)
    world.old = places.Registration(key="old", driver="fsspec", fs="zip", options={"fo": str(tmp_path / "z.zip"), "mode": "w"}).build()  # fmt: skip
    assert "name a destination with --to" in refused(world, "has no obstore counterpart", destination=None)


def test_it_is_a_preflight_error(world: World, moto_s3) -> None:
    world.new = places.new_s3(moto_s3, "no-such-bucket").build()
    with pytest.raises(PreflightError):
        world.run()


def test_s3_to_a_folder(rclone_s3, tmp_path: Path, sqlite_url: str) -> None:
    old, new = places.old_s3(rclone_s3, rclone_s3.new_bucket()), places.new_local(tmp_path / "new")
    world = World(sqlite_url, old.build(), new.build())
    world.fill(6)
    report = world.run()
    assert (report.strategy, report.exit_code) == (Strategy.MOVE, 0)
    assert world.check(backend="new") == 6
    assert sorted(str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*.bin")) == sorted(world.contents)  # fmt: skip


@pytest.mark.parametrize(
    ("service", "whole", "of_parts"),
    [("rclone_s3", True, False), ("moto_s3", False, True), ("azurite", False, False), ("disk", False, False)],
)
def test_what_an_upload_in_parts_tells_of_its_bytes(
    service: str, whole: bool, of_parts: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """So that no digest is taken of a large object that nobody will compare with."""
    if service == "disk":
        registration = places.new_local(tmp_path)
    elif service == "azurite":
        azurite = request.getfixturevalue(service)
        registration = places.new_azure(azurite, azurite.new_container())
    else:
        server = request.getfixturevalue(service)
        registration = places.new_s3(server, server.new_bucket())
    side = ResolvedBackend(registration.build())
    found, notes = try_destination(side, Retry(1, threading.Event()))
    assert (found.large_etag_is_md5, found.large_etag_is_of_parts) == (whole, of_parts)
    assert [note for note in notes if note.code == "destination.delete"] == []
    store, path = side.resolve(f"{SCRATCH}/x")
    assert list(store.list(path.rpartition("/")[0])) == [], "what was tried is gone"
