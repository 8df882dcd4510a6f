"""One row's whole story, at every stage of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.explain import explain
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from tests.support.engine.world import World

D0 = "docs/0/d0.bin"


def story(world: World, *pk: str, column: str = "documents.file", **options: Any) -> str:
    return "\n".join(explain(world.application, column, pk, **options))


def test_the_stages_of_a_row(world: World) -> None:
    world.fill(2)
    size = len(world.contents[D0])
    before = world.dump()
    told = story(world, "1")
    assert told.splitlines()[0] == "documents.file 1"
    assert f"names old:{D0}" in told
    assert f"{size} bytes" in told
    assert "the journal knows nothing of it: a run from this key would copy it" in told
    assert world.dump() == before, "a look makes no tables"
    run = world.run()
    told = story(world, "1")
    assert f"names new:{D0}" in told
    assert f"run {run.run} copied it from old:{D0} (repointed, proved by local source, reading the copy back" in told
    assert told.count("as journaled") == 2
    assert f"run {run.run}: repointed, from old:{D0} to new:{D0}" in told
    assert f"now: a revert would name old:{D0} again" in told
    world.new.fs.put(D0, b"other")
    told = story(world, "1")
    assert "the copy is at" in told
    assert "not as journaled any more" in told
    world.old.delete_object(D0)
    assert "the source is missing" in story(world, "1")
    assert RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0)).run().exit_code == 0
    told = story(world, "1")
    assert f"run {run.run}: reverted" in told
    assert f"run {run.run} to new: unreferenced, repointed" in told
    assert "now: a run uses the copy while both sides are as journaled" in told


def test_a_purged_row_and_one_that_is_in_conflict(world: World) -> None:
    world.fill(2)
    world.run()
    world.old.fs.pipe(world.old._prepare_path("docs/1/d1.bin"), b"written since")
    assert "now: a revert would leave it: conflict" in story(world, "2")
    PurgeJob(world.application, PurgeOptions(older_than=0, yes=True, lease_ttl=1.0)).run()
    told = story(world, "1")
    assert "the source is missing" in told
    assert "now: a revert refuses, because a source object was purged" in told


def test_what_was_listed_says_why(world: World) -> None:
    world.fill(1)
    world.old.delete_object(D0)
    world.run()
    told = story(world, "1")
    assert "it is missing at" in told
    assert "unresolved, missing (" in told
    assert "now: a run checks it again" in told


def test_rows_of_all_kinds_are_found(world: World) -> None:
    world.fill(1, 3, 4)
    album = world.sql("SELECT id FROM albums WHERE pictures LIKE '%albums/2/1%'")[0][0]
    told = story(world, album.hex() if isinstance(album, bytes) else str(album), column="albums.pictures")
    assert "[0] names old:albums/2/0.png" in told
    assert "[1] names old:albums/2/1.png" in told
    assert "names old:notes/shared.wav" in story(world, "o1", "1", column="notes.voice")
    world.sql("UPDATE documents SET file = NULL WHERE id = 1")
    assert "has no file (NULL)" in story(world, "1")
    world.sql("UPDATE documents SET file = '[1' WHERE id = 1")
    assert "cannot be read as files" in story(world, "1")
    world.sql("UPDATE documents SET file = :value WHERE id = 1", value=json.dumps({"backend": "who", "filename": "x"}))
    assert "'who' is not registered" in story(world, "1")
    for pk, column, message in (
        (("9",), "documents.file", "no row with key 9"),
        (("1", "2"), "documents.file", "a key of 1 parts"),
        (("1",), "nothing.file", "nothing.file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            story(world, *pk, column=column)
