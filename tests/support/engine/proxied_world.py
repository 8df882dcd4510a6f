"""A world whose two stores are reached through proxies that fail requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.servers import S3Server


@dataclass(frozen=True, kw_only=True)
class ProxiedWorld:
    """A world whose two sides are each reached through a proxy, and a client that goes past it."""

    world: World
    server: S3Server
    source: FaultProxy
    destination: FaultProxy
    bucket: str

    def harm(self, sides: str, **rates: float) -> None:
        for proxy, name in ((self.source, "source"), (self.destination, "destination")):
            proxy.set(**(rates if sides in (name, "both") else {}))

    def done(self) -> dict[str, int]:
        """Count the faults of both proxies by kind."""
        both = [proxy.counts for proxy in {id(each): each for each in (self.source, self.destination)}.values()]
        return {
            str(fault): sum(counts.get(fault, 0) for counts in both) for fault in Fault if any(fault in c for c in both)
        }

    def held(self, name: str) -> bytes | None:
        """Return the bytes of an object of the destination, by another client than the tool's and past the proxy."""
        try:
            return bytes(self.server.client.get_object(Bucket=self.bucket, Key=name)["Body"].read())
        except self.server.client.exceptions.NoSuchKey:
            return None

    def judge(self, report: Report, rows: int) -> dict[str, int]:
        """Check each row: it names an object with the right bytes, or is listed with a reason."""
        self.harm("both")
        journal = self.world.journal
        listed = {outcome.source.path: outcome for outcome in report.problems}
        moved = stayed = 0
        for value in self.world.raw():
            name, right = value["metadata"]["name"], self.world.contents[value["metadata"]["name"]]
            if value["backend"] == "new":
                assert self.held(value["filename"]) == right, f"{name} was re-pointed to wrong bytes"
                moved += 1
            else:
                assert self.world.old.get_content(value["filename"]) == right, name
                assert name in listed, f"{name} stayed and is not listed"
                assert listed[name].reason
                assert journal[name].reason
                stayed += 1
        assert (moved, stayed, moved + stayed) == (report.rows_repointed, report.rows_remaining, rows)
        assert report.exit_code == (1 if stayed else 0), report
        return {"moved": moved, "listed": stayed}


@pytest.fixture
def proxied_world(request: pytest.FixtureRequest, sqlite_url: str, seed: int) -> Iterator[Any]:
    """Return a function that makes a :class:`ProxiedWorld`."""
    with ExitStack() as stack:

        def make(server: S3Server, rows: int, *, one: bool = False, **options: Any) -> ProxiedWorld:
            bucket, origin = server.new_bucket(), server.new_bucket()
            source, destination = (
                stack.enter_context(fault_proxy(server.service.port, seed=seed + side, **options)) for side in (0, 1)
            )
            # Behind one proxy both buckets are of one server, which then copies by itself.
            source = destination if one else source
            world = World(
                sqlite_url,
                places.old_s3(server.behind(source.endpoint), origin).build(),
                places.new_s3(server.behind(destination.endpoint), bucket).build(),
                seed,
            )
            stack.callback(world.close)
            world.fill(rows)
            return ProxiedWorld(world=world, server=server, source=source, destination=destination, bucket=bucket)

        yield make
