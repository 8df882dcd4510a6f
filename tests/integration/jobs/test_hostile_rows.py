"""Rows with names that no store or database can hold: each is listed, and no job ends because of one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import RunError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.jobs.purge import purge

NAMES = (
    "a\0b", "\0", "x" * 300, "f/" + "y" * 5000, "d/" * 600 + "e", "\ud800z", "\x01\n", "..", "../../etc/passwd", "/", "a//b",
    "name#1", " ", "\u202e", "a\\b",
)  # fmt: skip


def insert(world: World, names: tuple[str, ...]) -> int:
    """Insert two rows for each name, one a key; return how many the database took."""
    count = 0
    for number, (name, key) in enumerate(((name, key) for name in names for key in ("old", "new")), 100):
        value = json.dumps({"backend": key, "filename": name, "content_type": "a/b", "metadata": {}})
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            world.sql(
                "INSERT INTO documents (id, title, updated_at, file) VALUES (:id, 't', CURRENT_TIMESTAMP, :value)",
                id=number, value=value,
            )  # fmt: skip
            count += 1
    return count


@pytest.fixture(params=["to a disk", "to a bucket"])
def world(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> World:
    if request.param == "to a disk":
        new = places.new_local(tmp_path / "new").build()
    else:
        server = request.getfixturevalue("moto_s3")
        new = places.new_s3(server, server.new_bucket()).build()
    world = World(database_url, places.old_local(tmp_path / "old").build(), new)
    world.fill(3)
    if world.engine.dialect.name == "postgresql":
        # JSONB refuses a NUL; this type keeps the text.
        world.sql("ALTER TABLE documents ALTER COLUMN file TYPE json")
    return world


def test_no_job_ends(world: World) -> None:
    count = insert(world, NAMES)
    assert count >= 2 * len(NAMES) - 2
    report = world.run()
    assert (report.state, report.counts[OutcomeKind.REPOINTED]) == ("completed", 3), report.error
    jobs: tuple[Any, ...] = (
        VerifyJob(world.application, VerifyOptions()),
        OrphansJob(world.application, OrphansOptions(min_age=0.0, lease_ttl=1.0)),
        OrphansJob(world.application, OrphansOptions(min_age=0.0, lease_ttl=1.0, acknowledge_missing="lost", yes=True)),
    )
    for job in jobs:
        assert job.run().state == "completed"
    # The role of MariaDB may not SELECT everything, so that its server may hide tables.
    assert purge(world, visible_tables_only=True).counts == {OutcomeKind.DELETED: 3}


def test_a_row_that_names_nothing_is_named_with_its_key(world: World) -> None:
    insert(world, ("",))
    report = OrphansJob(world.application, OrphansOptions(min_age=0.0)).run()
    assert (report.state, report.exit_code) == ("failed", 3)
    assert "documents.file[100]" in report.error


def test_a_text_that_is_no_utf_8_is_one_failed_row(sqlite_url: str, tmp_path: Path) -> None:
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(3)
    value = json.dumps({"backend": "old", "filename": "a", "metadata": {"note": "?"}}).encode().replace(b"?", b"\xff")
    world.sql(
        "INSERT INTO documents (id, title, updated_at, file) VALUES (9, 't', CURRENT_TIMESTAMP, CAST(:value AS TEXT))",
        value=value,
    )
    for repointed in (3, 0):
        report = world.run()
        assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (1, repointed, 1)
        found = {str(ref): outcome.reason for outcome in report.problems for ref in outcome.refs}
        assert found == {"documents.file[9]": "its text is not valid UTF-8"}
    assert VerifyJob(world.application, VerifyOptions()).run().state == "completed"
    with pytest.raises(RunError, match=r"documents.file\[9\] cannot be read \(its text is not valid UTF-8\)"):
        purge(world)
    assert world.sql("SELECT CAST(file AS BLOB) FROM documents WHERE id = 9") == [(value,)]
