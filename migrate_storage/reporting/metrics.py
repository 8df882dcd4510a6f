"""Counts and times for whoever watches: a plain object, a Prometheus text file, and OpenTelemetry where it is installed.

Cutovers and jobs count with the same class. ``docs/metrics.md`` lists every name.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from migrate_storage.core.errors import ConfigurationError

__all__ = ("BOUNDS", "Counters")

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes of times, in seconds: those that Prometheus's client libraries have by default."""

_Key = tuple[str, str]


class _Times:
    """How long what has one name and label took."""

    __slots__ = ("classes", "seconds")

    def __init__(self) -> None:
        self.classes = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Counters:
    """What is counted of one subject, safe to use from several threads.

    Args:
        subject: what is counted, a part of each name: ``cutover`` or ``job``.
        by: the label that tells apart what has one name, such as ``side``.
        labels: further labels, the same for everything.
    """

    def __init__(self, subject: str, by: str, **labels: str) -> None:
        self.subject = subject
        self._by, self._labels = by, labels
        self._lock = threading.Lock()
        self._counts: Counter[_Key] = Counter()
        self._values: dict[_Key, float] = {}
        self._times: defaultdict[_Key, _Times] = defaultdict(_Times)
        self._timed: Callable[[float, Mapping[str, str]], None] | None = None

    def add(self, kind: str, where: str = "", amount: int = 1) -> None:
        """Count ``amount`` more of a kind.

        Args:
            kind: a lower-case word.
            where: value of the label; empty for what has none.
            amount: not negative.
        """
        with self._lock:
            self._counts[kind, where] += amount

    def took(self, kind: str, where: str, seconds: float) -> None:
        """Count one more of a kind, which took so long."""
        key = kind, where
        place = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._counts[key] += 1
            times = self._times[key]
            times.classes[place] += 1
            times.seconds += seconds
            timed = self._timed
        if timed is not None:
            timed(seconds, self._attributes(kind, where))

    def set(self, kind: str, where: str, value: float) -> None:
        """Say how much there is of something now."""
        with self._lock:
            self._values[kind, where] = value

    def get(self, kind: str, where: str = "") -> int:
        """How many were counted so far."""
        with self._lock:
            return self._counts[kind, where]

    def all(self) -> Mapping[tuple[str, str], int]:
        """All counts so far, by kind and label."""
        with self._lock:
            return dict(self._counts)

    def times(self) -> Mapping[tuple[str, str], tuple[int, float]]:
        """How many were timed, and the seconds that they took in sum, by kind and label."""
        with self._lock:
            return {key: (sum(times.classes), times.seconds) for key, times in self._times.items()}

    def prometheus(self) -> str:
        """All of it in Prometheus's text format, version 0.0.4."""
        with self._lock:
            counts, values = sorted(self._counts.items()), sorted(self._values.items())
            classes = sorted((key, tuple(times.classes), times.seconds) for key, times in self._times.items())
        lines: list[str] = []
        told: set[str] = set()

        def describe(kind: str, unit: str, type_: str) -> str:
            name = f"migrate_storage_{self.subject}_{kind}{unit}"
            if name not in told:
                told.add(name)
                lines.append(f"# TYPE {name} {type_}")
            return name

        for (kind, where), count in counts:
            lines.append(f"{describe(kind, '_total', 'counter')}{self._written(where)} {count}")
        for (kind, where), value in values:
            lines.append(f"{describe(kind, '', 'gauge')}{self._written(where)} {value}")
        for (kind, where), each, seconds in classes:
            name, below = describe(kind, "_seconds", "histogram"), 0
            for bound, count in zip((*BOUNDS, math.inf), each, strict=True):
                below += count
                upper = "+Inf" if bound == math.inf else f"{bound:g}"
                lines.append(f"{name}_bucket{self._written(where, le=upper)} {below}")
            lines += [f"{name}_sum{self._written(where)} {seconds!r}", f"{name}_count{self._written(where)} {below}"]
        return "".join(f"{line}\n" for line in lines)

    def write(self, path: Path) -> None:
        """Write :meth:`prometheus` to a file, whole or not at all: for the node exporter's textfile collector.

        Args:
            path: replaced in one step. Its name should end in ``.prom``.

        Raises:
            ConfigurationError: it cannot be written.
        """
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(self.prometheus())
                # Whoever collects is another user.
                Path(name).chmod(0o644)
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise ConfigurationError(f"the metrics file {path} cannot be written: {error.strerror or error}") from error

    def telemetry(self, meter: Any = None) -> None:
        """Tell OpenTelemetry too; ``pip install 'migrate-storage[otel]'``.

        Counts are read when they are collected, so an operation costs no more; times are recorded as they come.

        Args:
            meter: an OpenTelemetry meter; that of the global provider, named ``migrate_storage``, if ``None``.

        Raises:
            ConfigurationError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.metrics import Observation, get_meter
        except ImportError as error:
            raise ConfigurationError("OpenTelemetry is not installed: pip install 'migrate-storage[otel]'") from error
        meter = meter or get_meter("migrate_storage")
        name = f"migrate_storage.{self.subject}"

        def counted(_: Any) -> Iterable[Observation]:
            return [Observation(count, self._attributes(*key)) for key, count in self.all().items()]

        def valued(_: Any) -> Iterable[Observation]:
            with self._lock:
                values = dict(self._values)
            return [Observation(value, self._attributes(*key)) for key, value in values.items()]

        meter.create_observable_counter(f"{name}.count", callbacks=[counted], description="Counts, by kind.")
        meter.create_observable_gauge(f"{name}.value", callbacks=[valued], description="How much there is, by kind.")
        histogram = meter.create_histogram(f"{name}.duration", unit="s", description="Times, by kind.")
        self._timed = lambda seconds, attributes: histogram.record(seconds, attributes=attributes)

    def _attributes(self, kind: str, where: str) -> dict[str, str]:
        return {"kind": kind, **({self._by: where} if where else {}), **self._labels}

    def _written(self, where: str, **more: str) -> str:
        labels = {**({self._by: where} if where else {}), **self._labels, **more}
        return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    """A label's value as the format wants it."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
