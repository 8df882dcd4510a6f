"""Storage class and tags of copies: set, preserved, refused where a side has none, and said where they are not preserved."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from advanced_alchemy.types.file_object import storages

from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.sync.job import SyncJob
from migrate_storage.jobs.sync.options import SyncOptions
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.servers import AzureServer, S3Server

TAGS = {"department": "legal tax-1", "kept until": "2031", "empty": ""}
LARGE = 9 * 1024 * 1024


@dataclass(frozen=True)
class Site:
    """Six objects in one bucket of moto, for the other."""

    world: World
    server: S3Server
    source: str
    destination: str

    def mark(self) -> list[str]:
        """Give the first two objects a storage class and tags, the first in parts; return their keys."""
        keys = sorted(self.world.contents)[:2]
        self.world.contents[keys[0]] = self.world.random.randbytes(LARGE)
        tags = [{"Key": name, "Value": value} for name, value in TAGS.items()]
        for key in keys:
            self.server.client.put_object(
                Bucket=self.source, Key=key, Body=self.world.contents[key], StorageClass="STANDARD_IA", Metadata={"by": "test"},
            )  # fmt: skip
            self.server.client.put_object_tagging(Bucket=self.source, Key=key, Tagging={"TagSet": tags})
        return keys

    def shown(self, key: str) -> tuple[str | None, dict[str, str]]:
        """Return the storage class and the tags of a copy."""
        found = self.server.client.head_object(Bucket=self.destination, Key=key).get("StorageClass")
        tags = self.server.client.get_object_tagging(Bucket=self.destination, Key=key)["TagSet"]
        return found, {tag["Key"]: tag["Value"] for tag in tags}


@pytest.fixture
def site(moto_s3: S3Server, sqlite_url: str) -> Iterator[Site]:
    source, destination = moto_s3.new_bucket(), moto_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(moto_s3, source).build(), places.new_s3(moto_s3, destination).build())
    world.fill(6)
    yield Site(world, moto_s3, source, destination)
    world.close()


def test_a_run_preserves_both(site: Site) -> None:
    marked = site.mark()
    report = site.world.run(preserve=("storage-class", "tags"), settle_time=0)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 6})
    assert site.world.check(backend="new") == 6
    for key in site.world.contents:
        assert site.shown(key) == (("STANDARD_IA", TAGS) if key in marked else (None, {})), key
    found = site.server.client.head_object(Bucket=site.destination, Key=marked[0])
    assert found["Metadata"] == {"by": "test"}
    (lost,) = [note.message for note in report.not_preserved]
    assert "tags" not in lost
    assert "storage class" not in lost
    assert "copy.preserve" in {note.code for note in report.notes}, "one service could have copied by itself"


def test_a_run_sets_one_class_and_no_tags(site: Site) -> None:
    marked = site.mark()
    report = site.world.run(storage_class="ONEZONE_IA", settle_time=0)
    assert report.exit_code == 0
    assert {site.shown(key)[0] for key in site.world.contents} == {"ONEZONE_IA"}
    assert site.shown(marked[1])[1] == {}
    (lost,) = [note.message for note in report.not_preserved]
    assert "tags" in lost


def test_without_the_options_neither_is_carried_and_both_are_named(site: Site) -> None:
    marked = site.mark()
    report = site.world.run(settle_time=0)
    assert report.exit_code == 0
    assert site.shown(marked[0]) == (None, {})
    (lost,) = [note.message for note in report.not_preserved]
    assert "object tags" in lost
    assert "storage class" in lost


@pytest.mark.parametrize("preserve", [(), ("storage-class", "tags")])
def test_a_sync_preserves_or_says_what_it_does_not(site: Site, preserve: tuple[str, ...], tmp_path: Path) -> None:
    marked = site.mark()
    options = SyncOptions(preserve=preserve, journal=f"sqlite:///{tmp_path}/journal.db")
    report = SyncJob(site.world.old, site.world.new, options).run()
    assert report.exit_code == 0
    if preserve:
        assert [site.shown(key) for key in marked] == [("STANDARD_IA", TAGS)] * 2
    (lost,) = [note.message for note in report.not_preserved]
    assert ("object tags" in lost) is not bool(preserve)
    assert ("storage class" in lost) is not bool(preserve)


def _azure(server: AzureServer) -> tuple[Any, Callable[[str], str | None]]:
    container = server.new_container()

    def tier(key: str) -> str | None:
        url = obstore.sign(server.store(container), "GET", key, timedelta(minutes=5))
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
            return str(answer.headers["x-ms-access-tier"])

    return places.new_azure(server, container).build(), tier


def test_azure_gets_the_access_tier(azurite: AzureServer, sqlite_url: str, tmp_path: Path) -> None:
    new, tier = _azure(azurite)
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), new)
    world.fill(3)
    report = world.run(storage_class="Cool", settle_time=0)
    assert report.exit_code == 0
    assert {tier(key) for key in world.contents} == {"Cool"}
    world.close()


def refused(world: World, message: str, error: type[Exception] = ConfigurationError, **options: Any) -> None:
    """Check that a run ends with this line, and changed nothing."""
    with pytest.raises(error, match=message):
        world.run(settle_time=0, **options)
    assert {value["backend"] for value in world.raw()} == {"old"}


def test_what_a_side_does_not_have_is_refused_before_the_first_byte(
    azurite: AzureServer, rclone_s3: S3Server, moto_s3: S3Server, sqlite_url: str, tmp_path: Path
) -> None:
    def make(old: Any, new: Any) -> World:
        (tmp_path / "rows.db").unlink(missing_ok=True)
        made = World(f"sqlite:///{tmp_path}/rows.db", old.build(), new.build())
        made.fill(2)
        return made

    disk = places.old_local(tmp_path / "old")
    world = make(disk, places.new_local(tmp_path / "new"))
    refused(world, "neither storage classes nor tags", storage_class="COLD")
    world.close()
    world = make(disk, places.new_s3(moto_s3, moto_s3.new_bucket()))
    refused(world, "classes of different names", preserve=("storage-class",))
    refused(world, "between S3 services", preserve=("tags",))
    refused(world, "storage class FROZEN", PreflightError, storage_class="FROZEN")
    world.close()
    world = make(places.old_s3(moto_s3, moto_s3.new_bucket()), places.new_s3(rclone_s3, rclone_s3.new_bucket()))
    refused(world, "does not show that a probe object has a tag", PreflightError, preserve=("tags",))
    world.close()
    bucket = moto_s3.new_bucket()
    world = make(places.old_s3(moto_s3, bucket), places.new_s3(moto_s3, moto_s3.new_bucket()))
    world.old = places.new_s3(moto_s3, bucket, key="old").build()
    storages.register_backend(world.old)
    refused(world, "no FSSpecBackend of s3fs", preserve=("tags",))
    world.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preserve": ("acl",)}, "takes storage-class and tags"),
        ({"preserve": ("storage-class",), "storage_class": "GLACIER"}, "leave 'storage-class' out"),
        ({"storage_class": "a b\r\nx"}, "no name of a storage class"),
        ({"storage_class": ""}, "no name of a storage class"),
        ({"storage_class": "GLACIER", "destination": None}, "in-place run makes none"),
    ],
)
def test_options_that_contradict_each_other_are_refused(site: Site, options: dict[str, Any], message: str) -> None:
    refused(site.world, message, **options)
