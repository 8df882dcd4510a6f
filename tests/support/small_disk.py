"""A disk that runs full."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def small_disk() -> Iterator[Callable[[int | None], None]]:
    """Return a function that limits the size of a file, in bytes: a larger write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, before if limit is None else (limit, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
