"""What stands at the destination is not ours to overwrite: equal it is used, different it is left and listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.model import OutcomeKind
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@pytest.fixture(params=["rclone", "moto", "azurite", "local"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> places.Registration:
    """With and without create-only puts, with and without tags that are hashes."""
    if request.param == "local":
        return places.new_local(tmp_path / "new")
    if request.param == "azurite":
        azurite = request.getfixturevalue("azurite")
        return places.new_azure(azurite, azurite.new_container())
    server = request.getfixturevalue(f"{request.param}_s3")
    return places.new_s3(server, server.new_bucket())


def test_what_stands_there_already(destination: places.Registration, tmp_path: Path, sqlite_url: str) -> None:
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), destination.build())
    world.fill(5)
    same, other = "docs/0/d0.bin", "docs/1/d1.bin"
    for name, content in ((same, world.contents[same]), (other, b"somebody else's")):
        world.new.save_object(FileObject(backend="new", filename=name), content)
    before = world.new.head(same)
    report = world.run()
    assert (report.state, report.exit_code, report.rows_remaining) == ("completed", 1, 1), report
    assert report.counts == {OutcomeKind.REPOINTED: 4, OutcomeKind.DESTINATION_EXISTS: 1}
    [occupied] = report.problems
    assert (occupied.kind, occupied.source.path) == (OutcomeKind.DESTINATION_EXISTS, other)
    assert [str(ref) for ref in occupied.refs] == ["documents.file[2]"]
    assert world.new.get_content(other) == b"somebody else's"
    assert world.new.head(same) == before, "what is equal is used as it is"
    assert world.check() == 5
    ours = {name: (entry.state, entry.written_by_us) for name, entry in world.journal.items()}
    assert ours[same] == ("verified", False), "never removed by us"
    assert ours[other] == ("unresolved", None)
    assert ours["docs/2/d2.bin"] == ("verified", True)
    assert world.check() == 5
    assert [value["backend"] for value in world.raw()] == ["new", "old", "new", "new", "new"]
    world.new.delete_object(other)
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 5


def test_a_larger_object_that_stands_there_is_left_too(moto_s3, tmp_path: Path, sqlite_url: str) -> None:
    """Uploads in parts cannot be create-only: the place is looked at before."""
    world = World(
        sqlite_url, places.old_local(tmp_path / "old").build(), places.new_s3(moto_s3, moto_s3.new_bucket()).build()
    )
    from tests.support.engine.world import Document

    world.add(Document(id=1, title="large", file=world.file("large", bytes(9 * 1024 * 1024), "text/plain")))
    world.new.save_object(FileObject(backend="new", filename="large"), b"somebody else's")
    report = world.run()
    assert report.counts == {OutcomeKind.DESTINATION_EXISTS: 1}, report.problems[0].reason
    assert world.new.get_content("large") == b"somebody else's"
