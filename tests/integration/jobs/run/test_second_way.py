"""What obstore cannot read is read through fsspec, with its headers; each job has this way."""

from __future__ import annotations

import gzip
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.model import Attributes, OutcomeKind
from migrate_storage.engine.place_proof import prove_translation
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.reporting import render
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World

ATTRIBUTES = Attributes(
    content_type="application/json", content_encoding="gzip", cache_control="max-age=60", content_language="de",
    content_disposition='inline; filename="x.json"', metadata={"k": "v"},
)  # fmt: skip
BYTES = gzip.compress(b'{"a":1}', mtime=0)
HEADERS = {
    "ContentType": "application/json", "ContentEncoding": "gzip", "CacheControl": "max-age=60", "ContentLanguage": "de",
    "ContentDisposition": 'inline; filename="x.json"', "Metadata": {"k": "v"},
}  # fmt: skip


def name_in_row(world: World, number: int, name: str, content_type: str | None = None) -> None:
    """Insert a row for an object that is there already."""
    world.contents[name] = BYTES
    world.types[name] = content_type or "application/json"
    file = FileObject(backend="old", filename=name, content_type=world.types[name], metadata={"name": name})
    world.add(Document(id=number, title=name, file=file))


@pytest.fixture
def world(moto_s3, sqlite_url: str) -> World:
    """Objects with all headers: a plain key, a key that obstore cannot address, and values outside ASCII."""
    bucket = moto_s3.new_bucket()
    world = World(
        sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_s3(moto_s3, moto_s3.new_bucket()).build()
    )
    files: dict[str, dict[str, Any]] = {
        "plain.json": {},
        "x//double.json": {},
        "disposition.json": {"ContentDisposition": 'attachment; filename="résumé.pdf"'},
        "type.txt": {"ContentType": 'text/plain; name="é"'},
        "language.json": {"ContentLanguage": "é"},
    }
    for number, (name, headers) in enumerate(files.items(), 1):
        moto_s3.client.put_object(Bucket=bucket, Key=name, Body=BYTES, **{**HEADERS, **headers})
        name_in_row(world, number, name)
    return world


def test_headers_arrive_or_their_loss_is_said(world: World) -> None:
    report = world.run(invalid_keys="encode")
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 5}), report
    lost = {note.subject: note.message for note in report.not_preserved if note.code == "not-preserved.object"}
    assert lost.keys() == {"old:disposition.json", "old:type.txt", "old:language.json"}
    assert "Content-Disposition" in lost["old:disposition.json"]
    assert "old:type.txt" in render(report)
    for name, left_out in (
        ("plain.json", ()), ("x/%2Fdouble.json", ()), ("disposition.json", ("content_disposition",)),
        ("type.txt", ()), ("language.json", ("content_language",)),
    ):  # fmt: skip
        found = world.new.attributes(name)
        expected = {field: None if field in left_out else getattr(ATTRIBUTES, field) for field in Attributes.__slots__}
        assert {field: getattr(found, field) for field in expected} == expected, name
        assert world.new.get_content(name) == BYTES


def test_revert_and_verify_read_them_too(world: World) -> None:
    assert world.run(invalid_keys="encode").exit_code == 0
    assert VerifyJob(world.application, VerifyOptions(read_content=True)).run().exit_code == 0
    world.new.save_object(FileObject(backend="new", filename="x/%2Fdouble.json", content_type="text/x-new"), b"newer")
    world.new.save_object(FileObject(backend="new", filename="disposition.json", content_type="text/x-new"), b"newer")
    report = RevertJob(world.application, RevertOptions(settle_time=0.0)).run()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REVERTED: 5}), report
    world.contents.update({"x//double.json": b"newer", "disposition.json": b"newer"})
    assert world.check(backend="old") == 5
    report = VerifyJob(world.application, VerifyOptions(key="old")).run()
    assert OutcomeKind.FAILED not in report.counts, report


@pytest.mark.parametrize("service", ["moto_s3", "gcs", "azurite"])
def test_what_fsspec_writes_it_reads_with_all_headers(service: str, request: pytest.FixtureRequest) -> None:
    """A revert writes to a key that obstore cannot address, and the next run reads it."""
    server = request.getfixturevalue(service)
    bucket = server.new_container() if service == "azurite" else server.new_bucket()
    store = FsspecStore(server.fs(), "old")
    for number, content in enumerate((b"bytes", iter((b"by", b"tes")))):
        path = f"{bucket}/x//{number}"
        store.put(path, content, attributes=ATTRIBUTES, create=False, part_size=None)
        opened = store.open(path)
        assert opened.attributes == ATTRIBUTES
        assert opened.meta.size == 5


def test_headers_of_gcs_come_through_fsspec_to_azure(gcs, azurite, sqlite_url: str) -> None:
    bucket, container = gcs.new_bucket(), azurite.new_container()
    world = World(sqlite_url, places.old_gcs(gcs, bucket).build(), places.new_azure(azurite, container).build())
    # gcsfs decodes what is encoded: its length is then not the one of the object, and the copy is refused.
    attributes, name = replace(ATTRIBUTES, content_encoding=None), "x/a\x01b"
    FsspecStore(gcs.fs(), "old").put(f"{bucket}/{name}", BYTES, attributes=attributes, create=False, part_size=None)
    name_in_row(world, 1, name)
    report = world.run(invalid_keys="encode")
    assert report.exit_code == 0, report
    assert world.new.attributes("x/a%01b") == attributes
    assert VerifyJob(world.application, VerifyOptions(read_content=True)).run().exit_code == 0


def test_an_encoded_object_of_gcs_is_no_sign_of_other_storage(gcs, tmp_path: Path, sqlite_url: str) -> None:
    """Cloud Storage decodes it on the way to obstore, so that its size there is another one."""
    bucket = gcs.new_bucket()
    world = World(sqlite_url, places.old_gcs(gcs, bucket).build(), places.new_local(tmp_path / "new").build())
    FsspecStore(gcs.fs(), "old").put(f"{bucket}/a.json", BYTES, attributes=ATTRIBUTES, create=False, part_size=None)
    name_in_row(world, 1, "a.json")
    assert prove_translation(ResolvedBackend(world.old), ["a.json"], Retry(1, threading.Event())) == 0


def test_an_object_that_the_service_decodes_is_listed_with_the_reason(gcs, moto_s3, sqlite_url: str) -> None:
    """Its MD5 is of the stored bytes, and nothing proves what is read; the remedy that is named copies what the application reads."""
    bucket = gcs.new_bucket()
    world = World(sqlite_url, places.old_gcs(gcs, bucket).build(), places.new_s3(moto_s3, moto_s3.new_bucket()).build())
    FsspecStore(gcs.fs(), "old").put(f"{bucket}/a.json", BYTES, attributes=ATTRIBUTES, create=False, part_size=None)
    name_in_row(world, 1, "a.json")
    report = world.run()
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.UNVERIFIED: 1})
    assert "decodes a.json while it sends it (Content-Encoding: gzip)" in report.problems[0].reason
    assert "--opaque-etags" in report.problems[0].reason
    world.contents["a.json"] = gzip.decompress(BYTES)
    assert world.check(backend="old") == 1
    assert world.run(opaque_etags=("old",)).exit_code == 0
    assert world.check(backend="new") == 1
    assert world.new.attributes("a.json").content_encoding is None
