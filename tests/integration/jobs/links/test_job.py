"""Addresses of moved objects are counted by column, wherever the role sees a text."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.core.links import LinkColumn
from migrate_storage.database.connection import Database
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.reporting import Report, render
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.jobs.links import NEW, OLD, add_posts, links

D0, D1 = f"{OLD}docs/0/d0.bin", f"{OLD}docs/1/d1.bin"


@pytest.fixture
def moved(worlds: World) -> World:
    """Three documents that a run moved."""
    worlds.fill(3)
    assert worlds.run(census=("none",)).exit_code == 0
    return worlds


def column(report: Report, name: str = "post.body") -> LinkColumn:
    assert report.links is not None
    return next(each for each in report.links.columns if str(each) == name)


def test_each_kind_is_counted_by_column_and_nothing_is_changed(moved: World) -> None:
    add_posts(
        moved, f'<img src="{D0}"> and <a href="{D1}?v=1">', f"{OLD}docs/0/other.bin", f"{D0}?X-Amz-Signature=1", "nothing",
        f"{D0.replace('https', 'http')} {D0}.bak",
    )  # fmt: skip
    before = moved.dump()
    report = links(moved)
    assert moved.dump() == before
    found = column(report)
    assert (found.rows, found.addresses, found.moved, found.unmoved) == (4, 6, 2, 2)
    assert found.unchanged == {"signed": 1, "http in place of https": 1}
    assert (report.exit_code, report.state, report.links.objects, report.links.moved) == (1, "completed", 3, 2)
    text = render(report)
    assert text.startswith("Finished: 4 addresses name a moved object.")
    assert "post.body: 6 addresses in 4 rows: 2 of moved objects, " in text
    assert f"from {OLD} to {NEW}" in text
    assert any(isinstance(event, CensusAdvanced) for event in moved.events)
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))).links == report.links


def test_columns_of_files_and_the_journal_are_left_out_and_all_others_are_searched(moved: World) -> None:
    moved.sql("UPDATE documents SET title = :text WHERE id = 1", text=D0)
    # A column of files and the journal have the address too.
    file = json.dumps({"backend": "new", "filename": "docs/0/d0.bin", "metadata": {"url": D0}})
    moved.sql("UPDATE documents SET file = :file WHERE id = 1", file=file)
    moved.sql("UPDATE migrate_storage_run SET report = :text", text=D0)
    report = links(moved)
    assert [(str(each), each.moved) for each in report.links.columns] == [("documents.title", 1)]


def test_json_text_and_other_types(moved: World) -> None:
    escaped = json.dumps({"html": f'<img src="{D0}">', "list": [D1, {"ü": D1}]})
    add_posts(moved, escaped, json.dumps([D0]), type_="JSON")
    assert column(links(moved)).moved == 4


def test_without_a_moved_object_the_exit_code_is_0(moved: World) -> None:
    add_posts(moved, f"{OLD}docs/0/never.bin", "https://elsewhere.example/docs/0/d0.bin")
    report = links(moved)
    assert (report.exit_code, column(report).unmoved) == (0, 1)
    assert render(report).startswith("Finished: no address that was found names a moved object.")


def test_an_excused_column_is_reported_and_does_not_count(moved: World) -> None:
    add_posts(moved, D0)
    report = links(moved, excused=("post.*",))
    assert (report.exit_code, column(report).moved, column(report).excused) == (0, 1, True)


def test_a_table_without_a_primary_key_is_reported(moved: World) -> None:
    moved.sql("CREATE TABLE note (body TEXT)")
    moved.sql("INSERT INTO note VALUES (:body), (:body)", body=D0)
    report = links(moved)
    found = column(report, "note.body")
    assert (found.moved, found.obstacle, report.exit_code) == (2, "its table has no primary key", 1)
    assert (
        "note.body: 2 addresses in 2 rows: 2 of moved objects; cannot be changed: its table has no primary key"
        in render(report)
    )


def test_narrowed_and_refused_options(moved: World) -> None:
    add_posts(moved, D0)
    report = links(moved, census=("documents",))
    assert (report.links.columns, report.links.narrowed) == ((), ("documents",))
    assert "(only documents was searched)" in render(report)
    with pytest.raises(ConfigurationError, match="no such table"):
        links(moved, census=("nowhere",))
    with pytest.raises(ConfigurationError, match="--census none leaves nothing to search"):
        links(moved, census=("none",))
    with pytest.raises(ConfigurationError, match="write https://HOST/PATH/"):
        links(moved, from_address=("nowhere",))
    with pytest.raises(
        ConfigurationError, match=r"the public address of 'old' is not known \(its files have no public address"
    ):
        links(moved, from_address=())
    assert links(moved, to_address=None).links.new is None


def test_what_was_reverted_or_moved_on_is_no_moved_object(world: World, tmp_path: Path) -> None:
    world.fill(3)
    world.run(census=("none",))
    add_posts(world, D0, D1)
    assert column(links(world)).moved == 2
    # One file goes on to a third place, and back to the first.
    third = places.new_local(tmp_path / "third").build()
    third.key = "third"
    application = replace(world.application, backends={**world.application.backends, "third": third})
    options = RunOptions(
        source="new",
        destination="third",
        settle_time=0.0,
        where="id = 1",
        columns=("documents.file",),
        census=("none",),
    )
    assert RunJob(application, options).run().rows_repointed == 1
    found = column(links(world, run=next(run.id for run in runs(world) if run.source == "old")))
    assert (found.moved, found.unmoved) == (1, 1)


def test_after_a_revert_no_object_is_moved(world: World) -> None:
    world.fill(3)
    world.run(census=("none",))
    add_posts(world, D0)
    RevertJob(world.application, RevertOptions(settle_time=0.0)).run()
    report = links(world)
    assert (report.links.objects, column(report).unmoved, report.exit_code) == (0, 1, 0)
    world.run(census=("none",))
    assert column(links(world)).moved == 1


def test_a_run_must_be_there(world: World) -> None:
    world.fill(1)
    with pytest.raises(ConfigurationError, match="no run from one key to another is journaled"):
        links(world)


def test_keys_of_any_characters(moved: World) -> None:
    names = ["ünï/ö ä.bin", "a&b/c+d.bin", "q?x#y.bin", "50%/100%25.bin"]
    files = moved.files_at_once(names)
    moved.add(*(Document(id=100 + number, title="t", file=file) for number, file in enumerate(files)))
    moved.run(census=("none",))
    add_posts(moved, *(f'<img src="{OLD}{quote(name)}">' for name in names))
    report = links(moved)
    assert (column(report).moved, column(report).unmoved) == (len(names), 0)


def runs(world: World) -> list[RunRecord]:
    with closing(Database(world.url)) as database:
        return Journal(database).runs.latest()
