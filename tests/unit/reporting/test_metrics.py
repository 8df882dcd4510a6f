"""What is counted is told alike by the object itself, by the Prometheus file and by OpenTelemetry."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.reporting.metrics import BOUNDS, Counters


@pytest.fixture
def counters() -> Counters:
    made = Counters("cutover", "side", backend='a "b"\\\n')
    made.add("repair_failure")
    made.set("open", "destination", 3)
    for seconds in (0.001, 0.3, 99):
        made.observe("read", "source", seconds)
    return made


def test_prometheus_text(counters: Counters) -> None:
    lines = counters.prometheus().splitlines()
    labels = r'backend="a \"b\"\\\n"'
    assert f'migrate_storage_cutover_read_total{{side="source",{labels}}} 3' in lines
    assert f"migrate_storage_cutover_repair_failure_total{{{labels}}} 1" in lines
    assert f'migrate_storage_cutover_open{{side="destination",{labels}}} 3' in lines
    classes = [line for line in lines if line.startswith("migrate_storage_cutover_read_seconds_bucket")]
    assert len(classes) == len(BOUNDS) + 1
    assert [int(line.split()[-1]) for line in classes] == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert f'migrate_storage_cutover_read_seconds_count{{side="source",{labels}}} 3' in lines
    # Each name is typed once, before its first line; every line is one that the format knows.
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == 4
    assert all(re.fullmatch(r'(# TYPE \w+ \w+|\w+\{(\w+="([^"\\\n]|\\.)*",?)+\} [\d.e+]+)', line) for line in lines)


def test_a_file_is_replaced_whole(counters: Counters, tmp_path: Path) -> None:
    file = tmp_path / "cutover.prom"
    file.write_text("old")
    with file.open() as old:
        counters.write(file)
        assert old.read() == "old"
    assert file.read_text() == counters.prometheus()
    assert [each.name for each in tmp_path.iterdir()] == ["cutover.prom"]
    with pytest.raises(ConfigurationError, match="cannot be written"):
        counters.write(tmp_path / "none" / "cutover.prom")


def test_opentelemetry(counters: Counters) -> None:
    reader = InMemoryMetricReader()
    counters.telemetry(MeterProvider([reader]).get_meter("test"))
    counters.add("read", "source")
    counters.observe("read", "source", 0.25)  # counts one more
    data = reader.get_metrics_data()
    assert data is not None
    found = {each.name: each for each in data.resource_metrics[0].scope_metrics[0].metrics}
    points = {point.attributes["kind"]: point for point in found["migrate_storage.cutover.count"].data.data_points}
    assert (points["read"].value, points["read"].attributes["side"]) == (5, "source")
    assert "side" not in points["repair_failure"].attributes
    (timed,) = found["migrate_storage.cutover.duration"].data.data_points
    assert (timed.count, timed.sum) == (1, 0.25)
    (value,) = found["migrate_storage.cutover.value"].data.data_points
    assert value.value == 3


def test_without_opentelemetry(counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    with pytest.raises(ConfigurationError, match=r"migrate-storage\[otel\]"):
        counters.telemetry()


def test_counting_from_several_threads() -> None:
    counters = Counters("job", "outcome")
    threads = [threading.Thread(target=lambda: [counters.add("objects") for _ in range(2000)]) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert counters.get("objects") == 8000
