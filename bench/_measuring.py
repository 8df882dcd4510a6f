"""Measures operations of contenders in turns, so that load affects all alike."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from advanced_alchemy.types.file_object import FileObject

Operation = Callable[[str, bytes], Awaitable[Any]]
#: By operation and contender: requests per second and CPU of each round.
Measurements = dict[str, dict[str, list[tuple[float, float]]]]


class Backend:
    """A storage backend, as FileObject calls it."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def save(self, path: str, content: bytes) -> None:
        file = FileObject(backend=self._backend, filename=path, content_type="application/octet-stream")
        await self._backend.save_object_async(file, content)

    async def get(self, path: str, _: bytes) -> bytes:
        content: bytes = await self._backend.get_content_async(path)
        return content


async def _measure(work: Operation, names: list[str], content: bytes, workers: int) -> tuple[float, float]:
    """Return requests per second, and milliseconds of CPU per request."""
    queue = iter(names)

    async def worker() -> None:
        for name in queue:
            await work(name, content)

    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(workers)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return len(names) / wall, cpu * 1000 / len(names)


async def run_rounds(
    contenders: Mapping[str, Any], options: argparse.Namespace, workers: int, slow: Collection[str] = ()
) -> Measurements:
    """Measure save and get of all contenders in each round.

    Slow ones do a quarter of the operations.
    """
    content = os.urandom(options.size)
    found: Measurements = {operation: {name: [] for name in contenders} for operation in ("save", "get")}
    names = {
        name: [f"{name}/{index:05}" for index in range(options.count // 4 if name in slow else options.count)]
        for name in contenders
    }
    # Turns are short and alternate between operations, so that a disturbance affects few of them.
    order, chance = list(contenders), random.Random(options.rounds)
    for number in range(-1, options.rounds):
        for operation in ("save", "get"):
            # Shuffled: each contender is first, last and next to each other one equally often.
            chance.shuffle(order)
            for name in order:
                work = getattr(contenders[name], operation)
                measured = await _measure(work, names[name], content, workers)
                # Round -1 warms up connections, credentials and code.
                if number >= 0:
                    found[operation][name].append(measured)
    print(f"{options.rounds} rounds", file=sys.stderr)
    return found


def summarize(found: Measurements) -> dict[str, Any]:
    return {
        operation: {
            name: {
                "requests_per_second": round(statistics.median(rate for rate, _ in rounds)),
                "cpu_ms_per_operation": round(statistics.median(cpu for _, cpu in rounds), 4),
            }
            for name, rounds in by_name.items()
        }
        for operation, by_name in found.items()
    }


def ratio(found: Measurements, operation: str, one: str, others: Sequence[str], figure: str) -> float:
    """Return the median ratio of one contender to the others, by ``rate`` or ``cpu``."""
    place = ("rate", "cpu").index(figure)
    by_name = found[operation]
    return statistics.median(
        ours[place] / theirs[place]
        for other in others
        for ours, theirs in zip(by_name[one], by_name[other], strict=True)
    )


def parse_options(name: str, what: str | None, args: list[str] | None, rounds: int = 60) -> argparse.Namespace:
    """Parse the command line of a benchmark of operations."""
    parser = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=what)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--count", type=int, default=128, help="operations in a round")
    parser.add_argument("--workers", type=int, default=32, help="operations at once")
    parser.add_argument("--size", type=int, default=8192, help="bytes of an object")
    parser.add_argument("--no-write", action="store_true", help="leave the file with the results as it is")
    return parser.parse_args(args)


def publish_report(report: dict[str, Any], results: Path, options: argparse.Namespace, busy: float) -> int:
    """Print a report, and write it. Return 1 if a goal was missed.

    The report contains the load before the benchmark: figures of a busy machine are unreliable.
    """
    report["machine"]["load_before"] = round(busy, 1)
    text = json.dumps(report, indent=2) + "\n"
    if not options.no_write:
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(text)
    print(text)
    return 0 if all(goal["met"] for goal in report["goals"]) else 1
