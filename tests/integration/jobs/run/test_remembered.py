"""What one run probed of its destination, the next one within the hour does not ask again; a wrong memory does no harm."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from migrate_storage.core.events import DiagnosticRaised
from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.preflight import RunPreflight, check, examine
from migrate_storage.stores.retry import Retry
from tests.support.copy_shim import Answer, copy_shim
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.servers import S3Server

ALL_REQUESTS, REMEMBERED_REQUESTS = 17, 7
"""Requests that probe a destination of S3, where no PUT is repeated: all of them, and those of a run within the hour."""
LARGE_BYTES = 9 * 1024 * 1024
"""Bytes of an object that is written in parts."""


@pytest.fixture
def proxy(moto_s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(moto_s3.service.port, seed=0) as running:
        yield running


def make_world(url: str, server: S3Server, endpoint: str, **more: Any) -> World:
    """A world whose destination, and nothing else, is behind an endpoint."""
    there = server.behind(endpoint)
    new = places.new_s3(there, server.new_bucket())
    return World(url, places.old_s3(server, server.new_bucket()).build(), new.build(), **more)


def examine_world(world: World) -> RunPreflight:
    options = RunOptions(source="old", destination="new")
    with connected(world.application, None, None) as (database, journal):
        return examine(world.application, options, database, journal, Retry(1, threading.Event()))


def count(proxy: FaultProxy, world: World) -> int:
    """The requests to the destination that a pre-flight sends."""
    before = proxy.requests
    examine_world(world)
    return proxy.requests - before


def notes_of(world: World) -> list[str]:
    return [event.note.code for event in world.events if isinstance(event, DiagnosticRaised)]


def test_the_second_run_within_the_hour_sends_fewer_requests(
    proxy: FaultProxy, moto_s3: S3Server, database_url: str
) -> None:
    world = make_world(database_url, moto_s3, proxy.endpoint)
    world.fill(3)
    first = count(proxy, world)
    assert count(proxy, world) == first, "a pre-flight alone remembers nothing"
    assert world.run().exit_code == 0
    second = count(proxy, world)
    assert first - second == ALL_REQUESTS - REMEMBERED_REQUESTS
    facts = examine_world(world)
    assert facts.remembered
    assert facts.capabilities.create_only
    assert facts.capabilities.large_etag_is_of_parts
    assert facts.capabilities.listing
    # The hour is over.
    world.sql("UPDATE migrate_storage_capability SET at = at - 3601")
    assert count(proxy, world) == first
    # doctor asks everything.
    assert world.run().exit_code == 0
    before = proxy.requests
    check(world.application, RunOptions(source="old", destination="new"))
    assert proxy.requests - before == first
    world.close()


def test_the_journal_has_no_secret_and_nothing_that_follows_from_one(moto_s3: S3Server, sqlite_url: str) -> None:
    """The same key with another secret finds the record, so the secret is no part of what the journal has."""
    world = make_world(sqlite_url, moto_s3, moto_s3.endpoint)
    world.fill(1)
    assert world.run().exit_code == 0
    [(store_id, found)] = world.sql("SELECT id, found FROM migrate_storage_capability")
    assert moto_s3.secret not in f"{store_id}{found}"
    # moto checks no signature.
    other = replace(moto_s3, secret="a secret that nobody else has")
    with_other_secret = World(sqlite_url, world.old, places.new_s3(other, world.new.config.root).build())
    assert examine_world(with_other_secret).remembered
    with_other_key = World(
        sqlite_url, world.old, places.new_s3(replace(moto_s3, key="another"), world.new.config.root).build()
    )
    assert not examine_world(with_other_key).remembered


def test_a_destination_that_refuses_to_replace_no_more_is_probed_anew(moto_s3: S3Server, sqlite_url: str) -> None:
    with copy_shim(moto_s3.service.port) as shim:
        world = make_world(sqlite_url, moto_s3, shim.endpoint)
        world.fill(2)
        assert world.run().exit_code == 0
        assert examine_world(world).capabilities.create_only
        shim.put = Answer.IGNORED
        facts = examine_world(world)
        assert not facts.remembered
        assert not facts.capabilities.create_only


def test_a_condition_that_a_run_gives_up_is_forgotten(moto_s3: S3Server, sqlite_url: str) -> None:
    """The probe is answered rightly, and each PUT of the run is refused although nothing is there."""
    with copy_shim(moto_s3.service.port) as shim:
        world = make_world(sqlite_url, moto_s3, shim.endpoint)
        world.fill(2)
        assert world.run().exit_code == 0
        assert examine_world(world).remembered
        shim.honest_to_probes, shim.put = True, Answer.REFUSED
        world.sql("DELETE FROM documents")
        world.fill(2, prefix="more/")
        report = world.run()
        assert report.counts == {OutcomeKind.REPOINTED: 2}
        assert "destination.contradicted" in notes_of(world)
        assert not examine_world(world).remembered


def test_a_large_copy_without_the_digest_that_was_remembered_is_read_back(moto_s3: S3Server, sqlite_url: str) -> None:
    """Its ETag is one of parts, and the record says that it is the MD5 of the whole: neither proof nor contradiction."""
    world = make_world(sqlite_url, moto_s3, moto_s3.endpoint)
    world.fill(1)
    assert world.run().exit_code == 0
    [(found,)] = world.sql("SELECT found FROM migrate_storage_capability")
    wrong = {**json.loads(found), "large_etag_is_md5": True, "large_etag_is_of_parts": False}
    world.sql("UPDATE migrate_storage_capability SET found = :found", found=json.dumps(wrong))
    world.add(Document(id=2, title="large", file=world.file("large.bin", bytes(LARGE_BYTES))))
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 1}
    assert [proof for proof in report.verified_by if "destination_readback" in proof]
    assert "destination.contradicted" in notes_of(world)
    assert not examine_world(world).remembered
