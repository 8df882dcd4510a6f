"""A put took effect and its answer was lost: nothing that a store tells says whose object stands there now.

So it is used, as every equal object is, and taken for another's ever after: never overwritten, never deleted.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.stores.retry import Retry
from tests.support.engine import registrations as places
from tests.support.engine.hooks import before_call
from tests.support.engine.world import World
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.jobs.purge import purge
from tests.support.servers import S3Server

NAME = "docs/0/d0.bin"


def test_our_copy_and_another_s_of_the_same_bytes_cannot_be_told_apart(
    moto_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no rule takes the one for ours and never the other: both are treated as another's."""
    told: dict[str, Any] = {}
    client = moto_s3.client
    for whose, fault in (("ours", Fault.LOST_ANSWER), ("another's", Fault.RESET)):
        bucket = moto_s3.new_bucket()
        with fault_proxy(moto_s3.service.port, seed=1, in_a_row=1, only="^PUT .*/docs/", **{fault: 1.0}) as proxy:
            old = places.old_local(tmp_path / whose).build()
            new = places.new_s3(moto_s3.behind(proxy.endpoint), bucket).build()
            world = World(f"sqlite:///{tmp_path}/{whose}.db", old, new)
            world.fill(1)
            content = world.contents[NAME]
            began = math.floor(time.time())

            def put(*_: Any, bucket: str = bucket, world: World = world, content: bytes = content, **__: Any) -> None:
                client.put_object(Bucket=bucket, Key=NAME, Body=content, ContentType=world.types[NAME])

            def replace(*_: Any, world: World = world) -> None:
                world.file(NAME, b"saved by a process that knows nothing", world.types[NAME])

            with monkeypatch.context() as patch:
                if whose != "ours":
                    # Another creates the object after our put began, and before it is tried again.
                    before_call(patch, Retry, "pause", put)
                before_call(patch, ObjectCopier, "source_changed", replace)
                report = world.run()
            assert proxy.counts == {fault: 1}, "once harmed, once refused: something stands there"
            found = client.head_object(Bucket=bucket, Key=NAME)
            assert found["LastModified"].timestamp() >= began, "after the intent, either way"
            told[whose] = {key: found[key] for key in ("ContentLength", "ETag", "ContentType", "Metadata")}

            # The row moved; the source was replaced after that, and what stands at the destination is not overwritten.
            assert [value["backend"] for value in world.raw()] == ["new"]
            [listed] = report.problems
            assert (listed.kind, "both are kept" in listed.reason) == (OutcomeKind.CONFLICT, True), listed.reason
            assert client.get_object(Bucket=bucket, Key=NAME)["Body"].read() == content
            assert world.journal[NAME].written_by_us is False

            # Nor is it deleted when no row names it any more.
            world.sql("DELETE FROM documents")
            assert purge(world, unreferenced_copies=True).counts.get(OutcomeKind.DELETED) is None
            assert client.get_object(Bucket=bucket, Key=NAME)["Body"].read() == content
            world.close()
    assert told["ours"] == told["another's"]
