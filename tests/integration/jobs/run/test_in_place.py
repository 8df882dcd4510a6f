"""In place means: through the registration that will be deployed, with the key as that one is given it."""

from __future__ import annotations

from pathlib import Path

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.translate.registration import read
from tests.support.engine.world import Album, Document, World

NAMES = ("photos/2024/001.pdf", "/photos/2024/002.pdf")


@pytest.mark.parametrize("service", ["rclone_s3", "moto_s3", "azurite", "gcs", "disk"])
def test_a_filename_that_the_new_registration_refuses_is_listed(
    service: str, request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str
) -> None:
    if service == "disk":
        old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "up"), auto_mkdir=True)
    else:
        server = request.getfixturevalue(service)
        bucket = server.new_container() if service == "azurite" else server.new_bucket()
        old = FSSpecBackend(key="old", fs=server.fs(), prefix=f"{bucket}/up")
    world = World(sqlite_url, old, ObstoreBackend(key="unused", fs="memory://"))
    world.add(*(Document(id=number, title=name, file=world.file(name)) for number, name in enumerate(NAMES)))
    report = world.run(destination=None)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.UNCHANGED: 1, OutcomeKind.FAILED: 1}), report
    [listed] = report.problems
    assert listed.source.path == NAMES[1]
    assert "starts with a slash; ObstoreBackend.from_fsspec takes it" in listed.reason
    config = read(old).translation.config
    deployed, translated = ObstoreBackend("old", config), ObstoreBackend.from_fsspec(old)
    assert deployed.get_content(NAMES[0]) == world.contents[NAMES[0]]
    with pytest.raises(KeyRefusedError):
        deployed.get_content(NAMES[1])
    assert translated.get_content(NAMES[1]) == world.contents[NAMES[1]]


def test_a_filename_that_would_mean_another_object_is_listed(moto_s3, sqlite_url: str) -> None:
    """s3fs drops ``?versionId=``; obstore takes it for a part of the key, under which another object stands."""
    bucket = moto_s3.new_bucket()
    old = FSSpecBackend(key="old", fs=moto_s3.fs(), prefix=f"{bucket}/up")
    world = World(sqlite_url, old, ObstoreBackend(key="unused", fs="memory://"))
    world.add(Document(id=1, title="t", file=world.file("a?versionId=1")))
    moto_s3.client.put_object(Bucket=bucket, Key="up/a?versionId=1", Body=world.contents["a?versionId=1"])
    report = world.run(destination=None)
    assert report.counts == {OutcomeKind.FAILED: 1}
    assert "would mean 'up/a?versionId=1' in place of 'up/a'" in report.problems[0].reason


@pytest.mark.parametrize("names", [("a", "/a", "//a"), ("//a", "a"), ("b/c", "b/c?versionId=1")])
@pytest.mark.parametrize("rows", ["of one window", "of one list"])
def test_one_object_of_several_names_is_opened_by_each_of_them(
    moto_s3, sqlite_url: str, names: tuple[str, ...], rows: str
) -> None:
    """Rows name one object in several ways, and the new registration opens the first way only."""
    old = FSSpecBackend(key="old", fs=moto_s3.fs(), prefix=f"{moto_s3.new_bucket()}/up")
    world = World(sqlite_url, old, ObstoreBackend(key="unused", fs="memory://"))
    files = [world.file(name, b"the same") for name in names]
    if rows == "of one list":
        world.add(Album(pictures=files))
    else:
        world.add(*(Document(id=number, title="t", file=file) for number, file in enumerate(files)))
    report = world.run(destination=None)
    deployed = ObstoreBackend("old", read(old).translation.config)
    refused = {name for name in names if not _opens(deployed, name)}
    assert 0 < len(refused) < len(names)
    assert (report.exit_code, {outcome.source.path for outcome in report.problems}) == (1, refused), report
    assert report.counts == {OutcomeKind.UNCHANGED: 1, OutcomeKind.FAILED: len(refused)}


def _opens(backend: ObstoreBackend, name: str) -> bool:
    try:
        return backend.get_content(name) == b"the same"
    except (KeyRefusedError, FileNotFoundError):
        return False
