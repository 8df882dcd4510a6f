"""Each answer to a conditional PUT and to a conditional copy that services give: every row is right in the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migrate_storage.core.events import DiagnosticRaised
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.engine import existing_objects
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from tests.support.copy_shim import Answer, CopyShim, copy_shim
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.servers import S3Server

CONTRADICTED = "destination.contradicted"
ANSWERS = list(Answer)


class Site:
    """An application whose two buckets are behind a shim."""

    def __init__(self, url: str, server: S3Server, shim: CopyShim, *, by_service: bool = True) -> None:
        self.server, self.shim = server, shim
        there = server.behind(shim.endpoint)
        here = there if by_service else server
        self.source, self.bucket = server.new_bucket(), server.new_bucket()
        self.world = World(url, places.old_s3(here, self.source).build(), places.new_s3(there, self.bucket).build())
        self.world.fill(6)
        # Each way meets an equal object and another one's at the destination.
        server.client.put_object(Bucket=self.bucket, Key="docs/0/d0.bin", Body=b"somebody else's")
        server.client.put_object(Bucket=self.bucket, Key="docs/1/d1.bin", Body=self.world.contents["docs/1/d1.bin"])

    def check(self, report: Any) -> None:
        """Check the report, each row, and each object of the destination."""
        assert report.counts == {OutcomeKind.REPOINTED: 5, OutcomeKind.DESTINATION_EXISTS: 1}, report
        objects = self.server.client.list_objects_v2(Bucket=self.bucket)["Contents"]
        held = {
            each["Key"]: self.server.client.get_object(Bucket=self.bucket, Key=each["Key"])["Body"].read()
            for each in objects
        }
        assert held == {**self.world.contents, "docs/0/d0.bin": b"somebody else's"}
        assert sorted(value["backend"] for value in self.world.raw()) == ["new"] * 5 + ["old"]

    @property
    def contradictions(self) -> int:
        """How often it was said that a condition is given up."""
        return sum(
            isinstance(event, DiagnosticRaised) and event.note.code == CONTRADICTED for event in self.world.events
        )


@pytest.fixture
def shim(moto_s3: S3Server) -> Iterator[CopyShim]:
    with copy_shim(moto_s3.service.port) as running:
        yield running


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_put(
    answer: Answer, shim: CopyShim, moto_s3: S3Server, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim.put = answer
    # As after many destinations without an object: no HEAD precedes a conditional PUT.
    monkeypatch.setattr(existing_objects, "HEADS_WITHOUT_OBJECT", 0)
    site = Site(sqlite_url, moto_s3, shim, by_service=False)
    report = site.world.run()
    site.check(report)
    assert site.contradictions == 0
    # Conditional PUTs are sent only where the probe showed that they are honoured.
    asked = {path for is_copy, path in shim.seen if not is_copy and SCRATCH not in path}
    assert len(asked) == (6 if answer in (Answer.HONOURED, Answer.CONFLICT, Answer.RACE) else 0)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_copy_by_the_service(answer: Answer, shim: CopyShim, moto_s3: S3Server, sqlite_url: str) -> None:
    shim.copy = answer
    site = Site(sqlite_url, moto_s3, shim)
    report = site.world.run()
    site.check(report)
    once = answer in (Answer.CONFLICT, Answer.RACE)
    # The first object that is refused is the last one that the service is asked for, those under way besides.
    assert site.contradictions == once
    assert (SERVER_SIDE_COPY in report.verified_by) is (answer is Answer.HONOURED)


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.NOT_IMPLEMENTED, Answer.BAD_REQUEST])
@pytest.mark.parametrize("by_service", [True, False], ids=["copy", "put"])
def test_a_service_that_answers_the_probe_otherwise_than_the_run(
    by_service: bool, answer: Answer, shim: CopyShim, moto_s3: S3Server, sqlite_url: str
) -> None:
    shim.honest_to_probes, shim.put, shim.copy = True, answer, answer
    site = Site(sqlite_url, moto_s3, shim, by_service=by_service)
    report = site.world.run()
    site.check(report)
    # Said once for each: the copies and the PUTs.
    copies = by_service and answer is Answer.REFUSED
    assert site.contradictions == 1 + copies


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_undo(answer: Answer, shim: CopyShim, moto_s3: S3Server, sqlite_url: str) -> None:
    site = Site(sqlite_url, moto_s3, shim)
    site.world.run()
    moto_s3.client.delete_object(Bucket=site.source, Key="docs/3/d3.bin")
    shim.put = shim.copy = answer
    report = RevertJob(site.world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()
    assert report.exit_code == 0, report
    assert {value["backend"] for value in site.world.raw()} == {"old"}
    held = moto_s3.client.get_object(Bucket=site.source, Key="docs/3/d3.bin")
    assert held["Body"].read() == site.world.contents["docs/3/d3.bin"]
