"""Counts and times of jobs and cutovers; docs/metrics.md lists every name."""

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
"""Upper bounds of the histogram's classes in seconds, the defaults of Prometheus's client libraries."""

_Key = tuple[str, str]


class _Times:
    """The times of one kind with one label."""

    __slots__ = ("classes", "seconds")

    def __init__(self) -> None:
        self.classes = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Counters:
    """The counts, gauges and times of one subject. Threads may share it.

    Args:
        subject: A part of each metric's name: ``cutover`` or ``job``.
        by: The label that the metrics of one kind differ by, such as ``side``.
        labels: Further labels, the same for all metrics.
    """

    def __init__(self, subject: str, by: str, **labels: str) -> None:
        self.subject = subject
        self._by, self._labels = by, labels
        self._lock = threading.Lock()
        self._counts: Counter[_Key] = Counter()
        self._values: dict[_Key, float] = {}
        self._times: defaultdict[_Key, _Times] = defaultdict(_Times)
        self._timed: Callable[[float, Mapping[str, str]], None] | None = None

    def add(self, kind: str, label: str = "", amount: int = 1) -> None:
        """Add ``amount`` to the count of a kind.

        Args:
            kind: A lower-case word.
            label: The value of the label; empty for a metric without it.
            amount: Zero or more.
        """
        with self._lock:
            self._counts[kind, label] += amount

    def observe(self, kind: str, label: str, seconds: float) -> None:
        """Add one to the count of a kind, and record its time."""
        key = kind, label
        place = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._counts[key] += 1
            times = self._times[key]
            times.classes[place] += 1
            times.seconds += seconds
            timed = self._timed
        if timed is not None:
            timed(seconds, self._format_attributes(kind, label))

    def set(self, kind: str, label: str, value: float) -> None:
        """Set the gauge of a kind."""
        with self._lock:
            self._values[kind, label] = value

    def get(self, kind: str, label: str = "") -> int:
        """Return the count of a kind."""
        with self._lock:
            return self._counts[kind, label]

    def all(self) -> Mapping[tuple[str, str], int]:
        """Return all counts by kind and label."""
        with self._lock:
            return dict(self._counts)

    def times(self) -> Mapping[tuple[str, str], tuple[int, float]]:
        """Return the number of times and their sum in seconds, by kind and label."""
        with self._lock:
            return {key: (sum(times.classes), times.seconds) for key, times in self._times.items()}

    def prometheus(self) -> str:
        """Return all metrics in Prometheus's text format, version 0.0.4."""
        with self._lock:
            counts, values = sorted(self._counts.items()), sorted(self._values.items())
            classes = sorted((key, tuple(times.classes), times.seconds) for key, times in self._times.items())
        lines: list[str] = []
        described: set[str] = set()

        def describe(kind: str, unit: str, type_: str) -> str:
            name = f"migrate_storage_{self.subject}_{kind}{unit}"
            if name not in described:
                described.add(name)
                lines.append(f"# TYPE {name} {type_}")
            return name

        for (kind, label), count in counts:
            lines.append(f"{describe(kind, '_total', 'counter')}{self._format_labels(label)} {count}")
        for (kind, label), value in values:
            lines.append(f"{describe(kind, '', 'gauge')}{self._format_labels(label)} {value}")
        for (kind, label), counts_of_class, seconds in classes:
            name, below = describe(kind, "_seconds", "histogram"), 0
            for bound, count in zip((*BOUNDS, math.inf), counts_of_class, strict=True):
                below += count
                upper = "+Inf" if bound == math.inf else f"{bound:g}"
                lines.append(f"{name}_bucket{self._format_labels(label, le=upper)} {below}")
            lines.append(f"{name}_sum{self._format_labels(label)} {seconds!r}")
            lines.append(f"{name}_count{self._format_labels(label)} {below}")
        return "".join(f"{line}\n" for line in lines)

    def write(self, path: Path) -> None:
        """Write :meth:`prometheus` to a file atomically, for the node exporter.

        Args:
            path: The file, whose name should end in ``.prom``.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(self.prometheus())
                # The collector runs as another user.
                Path(name).chmod(0o644)
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise ConfigurationError(f"the metrics file {path} cannot be written: {error.strerror or error}") from error

    def telemetry(self, meter: Any = None) -> None:
        """Report to OpenTelemetry too. It needs ``pip install 'migrate-storage[otel]'``.

        OpenTelemetry reads the counts when it collects them. Times are recorded one by one.

        Args:
            meter: An OpenTelemetry meter; ``None`` means the global provider's meter ``migrate_storage``.

        Raises:
            ConfigurationError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.metrics import Observation, get_meter
        except ImportError as error:
            raise ConfigurationError("OpenTelemetry is not installed: pip install 'migrate-storage[otel]'") from error
        meter = meter or get_meter("migrate_storage")
        name = f"migrate_storage.{self.subject}"

        def read_counts(_: Any) -> Iterable[Observation]:
            return [Observation(count, self._format_attributes(*key)) for key, count in self.all().items()]

        def read_gauges(_: Any) -> Iterable[Observation]:
            with self._lock:
                values = dict(self._values)
            return [Observation(value, self._format_attributes(*key)) for key, value in values.items()]

        meter.create_observable_counter(f"{name}.count", callbacks=[read_counts], description="Counts, by kind.")
        meter.create_observable_gauge(
            f"{name}.value", callbacks=[read_gauges], description="How much there is, by kind."
        )
        histogram = meter.create_histogram(f"{name}.duration", unit="s", description="Times, by kind.")
        self._timed = lambda seconds, attributes: histogram.record(seconds, attributes=attributes)

    def _format_attributes(self, kind: str, label: str) -> dict[str, str]:
        return {"kind": kind, **({self._by: label} if label else {}), **self._labels}

    def _format_labels(self, label: str, **more: str) -> str:
        labels = {**({self._by: label} if label else {}), **self._labels, **more}
        return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escape(value: str) -> str:
    """Escape the value of a label."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
