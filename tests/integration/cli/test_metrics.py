"""What a job counts for Prometheus."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pytest

from migrate_storage.cli.run_job import MetricsFile
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import BytesTransferred, Event, ObjectFinished
from migrate_storage.core.model import Location, Outcome, OutcomeKind


def test_a_job_is_counted_and_the_file_kept_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, heard = tmp_path / "run.prom", list[Event]()
    with click.Context(click.Command("run"), info_name="run"):
        counted = MetricsFile(path)
        assert 'migrate_storage_job_running{command="run"} 1' in path.read_text()
        tell = counted.beside(heard.append)
    place = Location(backend="new", path="k")
    tell(ObjectFinished(outcome=Outcome(source=place, destination=place, kind=OutcomeKind.COPIED, refs=())))
    tell(BytesTransferred(count=10))
    assert "objects" not in path.read_text()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    tell(BytesTransferred(count=5))
    assert 'migrate_storage_job_objects_total{outcome="copied",command="run"} 1' in path.read_text()
    assert 'migrate_storage_job_bytes_total{command="run"} 15' in path.read_text()
    assert len(heard) == 3
    counted.finished(1)
    assert 'migrate_storage_job_running{command="run"} 0' in path.read_text()
    assert 'migrate_storage_job_exit_code{command="run"} 1' in path.read_text()
    # A file that can no more be written is no reason to end the job; one that cannot be at first is.
    path.unlink()
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    monkeypatch.setattr(time, "monotonic", lambda: now + 120)
    tell(BytesTransferred(count=5))
    with (
        click.Context(click.Command("run"), info_name="run"),
        pytest.raises(ConfigurationError, match="cannot be written"),
    ):
        MetricsFile(path)
