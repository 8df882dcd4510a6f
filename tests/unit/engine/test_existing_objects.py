"""When digests count, and which headers are a difference."""

from __future__ import annotations

import threading

import pytest

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import Attributes
from migrate_storage.engine import existing_objects
from migrate_storage.engine.existing_objects import SAMPLED_OBJECTS, _Samples, describe_difference


def _no_checkpoint() -> None:
    """Go on."""


def test_an_object_after_the_samples_waits_for_them() -> None:
    samples = _Samples(_no_checkpoint)
    assert all(samples.needs_read() for _ in range(SAMPLED_OBJECTS))
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(samples.needs_read()))
    waiting.start()
    for number in range(SAMPLED_OBJECTS):
        assert not answers
        samples.end(confirmed=number == 3)
    waiting.join()
    assert answers == [False]
    assert samples.refute()
    assert not samples.refute(), "it is said once"
    assert samples.needs_read()


def test_samples_that_all_failed_prove_nothing() -> None:
    samples = _Samples(_no_checkpoint)
    for _ in range(SAMPLED_OBJECTS):
        samples.needs_read()
        samples.end(confirmed=False)
    assert samples.needs_read()


def test_a_job_that_is_to_stop_waits_for_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise StoppedError

    monkeypatch.setattr(existing_objects, "_POLL_SECONDS", 0.0)
    samples = _Samples(stop)
    for _ in range(SAMPLED_OBJECTS):
        samples.needs_read()
    with pytest.raises(StoppedError):
        samples.needs_read()


@pytest.mark.parametrize(
    ("wanted", "found", "difference"),
    [
        (Attributes(), Attributes(content_type="image/png", metadata={"mtime": "1"}), ""),
        (Attributes(content_type="A/b; c=d"), Attributes(content_type="a/b;c=d"), ""),
        (Attributes(content_type="a/b"), Attributes(), "Content-Type is not set, and a/b at the source"),
        (Attributes(), Attributes(content_encoding="gzip"), "Content-Encoding is gzip, and not set at the source"),
        (Attributes(metadata={"a": "b", "c": "d"}), Attributes(metadata={"c": "d"}), "metadata 'a' is not set"),
        # A copy of ours would not have it either.
        (Attributes(metadata={"a": "\N{SNOWMAN}"}), Attributes(), ""),
    ],
)
def test_what_is_a_difference(wanted: Attributes, found: Attributes, difference: str) -> None:
    assert describe_difference(wanted, found) == difference
