"""Files anywhere in the JSON of a column that no model declares are moved, verified, reverted and purged as all others are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject

from migrate_storage.application.application import from_database
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine.repoint import RowUpdate
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.jobs.explain import explain
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.jobs.purge import purge

TYPES = [
    *(("sqlite", type_) for type_ in ("JSON", "TEXT")),
    *(("postgres", type_) for type_ in ("JSONB", "JSON", "TEXT", "VARCHAR(9000)", "JSONB[]", "JSON[]")),
    *(("mariadb", type_) for type_ in ("JSON", "TEXT", "VARCHAR(9000)")),
]
Document = dict[str, Any]


class Documents:
    """A table of JSON that no model declares, in a world's database."""

    def __init__(self, world: World, type_: str) -> None:
        self.world, self.type = world, type_
        world.sql(f"CREATE TABLE settings (owner VARCHAR(40) PRIMARY KEY, data {type_})")
        world.columns = from_database(world.url, ["settings.data"], {}).columns

    def write(self, documents: dict[str, Any], *, ascii_only: bool = True) -> None:
        """Write the documents as another program does."""
        for owner, document in documents.items():
            value: Any = json.dumps(document, ensure_ascii=ascii_only)
            placed = ":v"
            if self.type.endswith("[]"):
                value, placed = [value, json.dumps({"second": 1})], f"CAST(:v AS {self.type})"
            elif self.type.startswith("JSON") and self.world.engine.dialect.name == "postgresql":
                placed = f"CAST(:v AS {self.type})"
            self.world.sql("DELETE FROM settings WHERE owner = :o", o=owner)
            self.world.sql(f"INSERT INTO settings VALUES (:o, {placed})", o=owner, v=value)

    def read(self) -> dict[str, Any]:
        found = {}
        for owner, value in self.world.sql("SELECT owner, data FROM settings ORDER BY owner"):
            if self.type.endswith("[]"):
                assert value[1:] == [{"second": 1}]
                value = value[0]
            found[owner] = json.loads(value) if isinstance(value, str) else value
        return found

    def file(self, name: str) -> Document:
        """A file that the application has saved, as its JSON."""
        return {**self.world.file(name).to_dict(), "caption": f"of {name}"}


def open_world(request: pytest.FixtureRequest, database: str) -> World:
    folder, url = request.getfixturevalue("tmp_path"), request.getfixturevalue(f"{database}_url")
    return World(url, places.old_local(folder / "old").build(), places.new_local(folder / "new").build())


@pytest.fixture(params=TYPES, ids=" ".join)
def documents(request: pytest.FixtureRequest) -> Iterator[Documents]:
    """Documents in a column of each type that each database has for them."""
    database, type_ = request.param
    world = open_world(request, database)
    yield Documents(world, type_)
    world.close()


def fill(documents: Documents) -> dict[str, Any]:
    file = documents.file
    written = {
        "anna": {"theme": "dunkel ö", "gallery": [file("a/1"), None, file("a/2")], "cover": {"image": file("a/3"), "at": 0.25}},
        "bert": {"text": json.dumps({"avatar": file("b/1"), "π": [1]}), "backend": "old", "old": ["old", {"backend": "old"}]},
        "carl": {"gallery": [], "other": {"backend": "elsewhere", "filename": "x"}, "word": "old"},
        "dora": {**file("d/1"), "metadata": {"thumbnail": file("d/2")}},
        "emil": [[file("e/1")], file("e/1"), "old"],
        "fred": None,
    }  # fmt: skip
    documents.write(written)
    return written


def moved(document: Any) -> Any:
    """The document with each file of ``old`` as a run writes it, without what only the store knows."""
    if isinstance(document, str) and "backend" in document:
        return json.dumps(moved(json.loads(document)))
    if isinstance(document, list):
        return [moved(each) for each in document]
    if not isinstance(document, dict):
        return document
    document = {name: moved(value) for name, value in document.items()}
    if isinstance(document.get("filename"), str):
        known = {name: value for name, value in document.items() if name not in STORE_FIELDS}
        return {**known, "backend": {"old": "new"}.get(document["backend"], document["backend"])}
    return document


STORE_FIELDS = ("size", "etag", "last_modified", "version_id", "checksum")


def files_in(document: Any) -> Iterator[Document]:
    if isinstance(document, str) and "backend" in document:
        document = json.loads(document)
    if isinstance(document, dict) and isinstance(document.get("filename"), str):
        yield document
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    for each in inner:
        yield from files_in(each)


def check_opens(world: World, documents: dict[str, Any], backend: str, names: set[str]) -> None:
    """Each file is of the backend and has its bytes."""
    side = {"old": world.old, "new": world.new}[backend]
    seen = set()
    for file in files_in(list(documents.values())):
        if file["backend"] == "elsewhere":
            continue
        assert file["backend"] == backend
        assert side.get_content(file["filename"]) == world.contents[file["metadata"].get("name", file["filename"])]
        seen.add(file["filename"])
    assert seen == names


NAMES = {"a/1", "a/2", "a/3", "b/1", "d/1", "d/2", "e/1"}


def revert(world: World, **options: Any) -> Report:
    return RevertJob(
        world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05, **options), listener=world.events.append
    ).run()


def verify(world: World) -> Report:
    return VerifyJob(world.application, VerifyOptions(read_content=True), listener=world.events.append).run()


def test_every_file_is_moved_and_nothing_else_changes(documents: Documents) -> None:
    world, before = documents.world, fill(documents)
    assert documents.read() == before
    plan = world.run(dry_run=True)
    assert (plan.objects, documents.read()) == (len(NAMES), before)
    report = world.run(batch_size=2)
    assert (report.exit_code, report.rows_remaining, report.rows_repointed) == (0, 0, 4), report
    assert report.counts == {OutcomeKind.REPOINTED: len(NAMES)}
    after = documents.read()
    assert moved(after) == moved(before)
    check_opens(world, after, "new", NAMES)
    assert {"carl": after["carl"], "fred": after["fred"]} == {"carl": before["carl"], "fred": before["fred"]}
    assert world.run().objects == 0, "a second run finds nothing to do"


def test_they_are_verified_explained_reverted_and_purged(documents: Documents) -> None:
    world, before = documents.world, fill(documents)
    documents.world.sql("DELETE FROM settings WHERE owner = 'carl'")
    del before["carl"]  # it names a backend that is not registered, so that nothing may be deleted
    assert world.run().exit_code == 0
    assert verify(world).exit_code == 0
    story = explain(world.application, "settings.data", ["anna"])
    place = "[0]" if documents.type.endswith("[]") else ""
    assert f"  {place}.gallery[0] names new:a/1" in story
    assert f"  {place}.cover.image names new:a/3" in story
    [prediction] = [line for line in story if "now: a revert would name" in line]
    assert all(f"old:a/{number}" in prediction for number in (1, 2, 3))
    report = revert(world)
    assert (report.exit_code, report.rows_repointed) == (0, 4), report
    assert documents.read() == before
    check_opens(world, before, "old", NAMES)
    assert world.run().exit_code == 0
    orphaned = OrphansJob(world.application, OrphansOptions(keys=("new",), min_age=0.0, lease_ttl=1.0)).run()
    assert orphaned.counts.get(OutcomeKind.ORPHAN, 0) == 0
    purged = purge(world)
    assert purged.counts == {OutcomeKind.DELETED: len(NAMES)}, purged
    check_opens(world, documents.read(), "new", NAMES)
    # The role of a test sees its own database only, which MariaDB says of every table that it hides.
    visible = CensusOptions(visible_tables_only=True)
    checks = ready_to_unregister(world.application, "old", soak=0.0, census=visible)[1]
    assert [check.name for check in checks if not check.ready] == []


def test_a_purge_leaves_what_a_document_names(documents: Documents) -> None:
    world = documents.world
    fill(documents)
    assert world.run().exit_code == 0
    documents.write({"gert": {"again": FileObject(backend="old", filename="a/2", content_type="x").to_dict()}})
    world.sql("DELETE FROM settings WHERE owner = 'carl'")
    assert purge(world).counts[OutcomeKind.DELETED] == len(NAMES) - 1
    assert world.old.get_content("a/2") == world.contents["a/2"]


def test_what_the_application_writes_beside_a_file_stays_when_the_file_goes_back(documents: Documents) -> None:
    world, before = documents.world, fill(documents)
    assert world.run().exit_code == 0
    now = documents.read()
    mine = world.file("mine").to_dict()
    world.new.save_object(FileObject(backend="new", filename="mine"), world.contents["mine"])
    mine["backend"] = "new"
    anna = now["anna"]
    anna["theme"] = "light"
    anna["gallery"] = [mine, anna["gallery"][2], {**anna["gallery"][0], "caption": "new"}]
    del anna["cover"]
    now["dora"]["metadata"]["more"] = 1
    documents.write({"anna": anna, "dora": now["dora"]})
    # Neither a copy whose file the application took out nor one that it deleted then keeps the rest of the row.
    world.new.delete_object("a/3")
    dry = revert(world, dry_run=True)
    report = revert(world)
    assert dry.counts == report.counts
    after = documents.read()
    first, second = before["anna"]["gallery"][0], before["anna"]["gallery"][2]
    assert after["anna"] == {"theme": "light", "gallery": [mine, second, {**first, "caption": "new"}]}
    assert {name: after[name] for name in ("bert", "carl", "emil", "fred")} == {
        name: before[name] for name in ("bert", "carl", "emil", "fred")
    }
    # The application wrote into the metadata of dora's file: that file is its own now.
    assert after["dora"] == now["dora"]
    assert [str(ref) for outcome in report.problems for ref in outcome.refs] == ["settings.data[dora]"]
    assert report.counts[OutcomeKind.MODIFIED] == 1


def test_what_the_application_writes_during_the_run_stands(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = documents.world
    fill(documents)
    late = {"theme": "written meanwhile", "gallery": [documents.file("late")]}
    original: Callable[..., Any] = RowUpdate.__init__
    left = [late]

    def prepared(self: RowUpdate, *args: Any) -> None:
        """Another process commits after the row was read and before it is updated."""
        original(self, *args)
        if left:
            documents.write({"anna": left.pop()})

    monkeypatch.setattr(RowUpdate, "__init__", prepared)
    report = world.run()
    assert (report.rows_remaining, {outcome.kind for outcome in report.problems}) == (0, {OutcomeKind.MODIFIED})
    after = documents.read()["anna"]
    assert (after["theme"], [file["backend"] for file in after["gallery"]]) == ("written meanwhile", ["new"])
    assert world.new.get_content("late") == world.contents["late"]


def test_a_document_that_cannot_be_written_back_is_listed(worlds: World) -> None:
    documents = Documents(worlds, "TEXT")
    file = json.dumps(documents.file("a"))
    broken = {
        "same key twice": f'{{"x": {file}, "n": 1, "n": 2}}',
        "cannot be kept exactly": f'{{"x": {file}, "n": 1e999}}',
        "not JSON": f'{{"x": {file}',
    }
    for owner, value in {**broken, "not ours": 'old "old" prose', "empty": ""}.items():
        worlds.sql("INSERT INTO settings VALUES (:o, :v)", o=owner, v=value)
    before = worlds.sql("SELECT * FROM settings ORDER BY owner")
    report = worlds.run()
    assert (report.exit_code, report.rows_repointed) == (1, 0)
    assert {str(ref): outcome.reason for outcome in report.problems for ref in outcome.refs}.keys() == {
        f"settings.data[{owner}]" for owner in broken
    }
    assert all(any(owner in outcome.reason for owner in broken) for outcome in report.problems)
    assert worlds.sql("SELECT * FROM settings ORDER BY owner") == before


@pytest.mark.parametrize("mode", ["", "ANSI", "STRICT_TRANS_TABLES"])
def test_a_document_that_gets_too_long_for_its_column_is_listed_and_never_cut(
    request: pytest.FixtureRequest, mode: str
) -> None:
    """A server may be set up to cut it: the application's own connections say so here."""
    world = open_world(request, "mariadb")
    documents = Documents(world, "VARCHAR(150)")
    bare = {"backend": "old", "filename": world.file("a").path, "metadata": {"name": "a"}}
    documents.write({"long": {"file": bare, "fill": "x" * 60}, "short": None})
    world.other_engine = sa.create_engine(
        world.url, connect_args={"init_command": f"SET SESSION sql_mode = '{mode}', SESSION lock_wait_timeout = 20"}
    )
    before = world.sql("SELECT * FROM settings ORDER BY owner")
    report = world.run()
    assert (report.exit_code, report.rows_repointed) == (1, 0)
    assert ["Data too long" in outcome.reason for outcome in report.problems] == [True]
    assert world.sql("SELECT * FROM settings ORDER BY owner") == before
    world.other_engine.dispose()
    world.close()


def test_documents_of_one_storage_are_rekeyed_with_their_inner_files(all_worlds: World, tmp_path: Path) -> None:
    """A row whose value is one file, and which contains others, is one row all the same."""
    new = places.new_local(tmp_path / "old").build()
    world = World(all_worlds.url, all_worlds.old, new)
    documents = Documents(world, {"postgresql": "JSONB"}.get(world.engine.dialect.name, "JSON"))
    before = fill(documents)
    report = world.run()
    assert (report.strategy.value, report.exit_code, report.rows_remaining) == ("rekey", 0, 0)
    check_opens(world, documents.read(), "new", NAMES)
    assert revert(world).exit_code == 0
    assert documents.read() == before
    world.close()


def test_a_row_of_a_long_document_is_found_by_its_key(worlds: World) -> None:
    """Many windows, most of which have no row that may name the key."""
    documents = Documents(worlds, {"postgresql": "JSONB"}.get(worlds.engine.dialect.name, "JSON"))
    documents.write({f"n{i:03}": {"text": "x" * i} for i in range(60)})
    documents.write({f"n{i:03}f": {"deep": [{"er": documents.file(f"{i}")}]} for i in range(0, 60, 7)})
    report = worlds.run(batch_size=3)
    assert (report.exit_code, report.rows_repointed) == (0, 9)
    check_opens(worlds, documents.read(), "new", {str(i) for i in range(0, 60, 7)})


def test_an_array_with_a_numbering_of_its_own_is_listed_and_not_changed(request: pytest.FixtureRequest) -> None:
    world = open_world(request, "postgres")
    documents = Documents(world, "JSONB[]")
    file = json.dumps(documents.file("a"))
    quoted = '"' + file.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for owner, literal in {"from zero": "[0:0]={%s}", "two dimensions": "{{%s}}"}.items():
        world.sql("INSERT INTO settings VALUES (:o, CAST(:v AS jsonb[]))", o=owner, v=literal % quoted)
    before = world.sql("SELECT owner, data::text FROM settings ORDER BY owner")
    report = world.run()
    assert report.exit_code == 1
    assert {str(ref) for outcome in report.problems for ref in outcome.refs} == {
        "settings.data[from zero][0]", "settings.data[two dimensions][0][0]",
    }  # fmt: skip
    assert world.sql("SELECT owner, data::text FROM settings ORDER BY owner") == before
    world.close()


def test_the_application_that_has_models_too_gets_both(worlds: World) -> None:
    world = worlds
    world.fill(3, 2, 3)
    models = world.columns
    documents = Documents(world, "TEXT")
    world.columns = (*models, *world.columns)
    fill(documents)
    report = world.run()
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    world.check(backend="new")
    check_opens(world, documents.read(), "new", NAMES)
    assert sa.inspect(world.engine).has_table("settings")
