"""A Dask cluster, running already or made of processes on this machine, and the workers of it that answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import masked, one_line

if TYPE_CHECKING:
    from distributed import Client

__all__ = ("WorkerHealth", "connected_to", "local", "workers_of")


@contextmanager
def connected_to(address: str) -> Iterator[Client]:
    """Connect to a cluster that runs already.

    Raises:
        ConfigurationError: Dask is not installed, or no scheduler answers.
    """
    distributed = _dask()
    try:
        client = distributed.Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigurationError(f"--dask {masked(address)}: no scheduler answers: {one_line(error)}") from error
    with client:
        yield client


@contextmanager
def local(workers: int) -> Iterator[Client]:
    """Run a cluster of processes on this machine for the block. It uses TLS with a key of its own, against other users.

    Raises:
        ConfigurationError: Dask is not installed, or the processes do not start.
    """
    import logging

    distributed = _dask()
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
                    dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0", memory_limit=0,
                    silence_logs=logging.CRITICAL, security=True,
                )
            )  # fmt: skip
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        except (OSError, RuntimeError, TimeoutError) as error:
            raise ConfigurationError(f"{workers} processes do not start: {one_line(error)}") from error
        yield client


def _dask() -> Any:
    try:
        import cryptography  # noqa: F401 - makes the keys of a local cluster
        import distributed
    except ImportError as error:
        raise ConfigurationError("Dask is not installed: pip install 'migrate-storage[dask]'") from error
    return distributed


@dataclass
class WorkerHealth:
    """Finds the workers that answer, by changes of what the scheduler knows: no clocks are compared."""

    silent: float
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    def live_threads(self, workers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Return the threads of the workers with a recent heartbeat, by address."""
        now = time.monotonic()
        self._seen = {
            address: before if (before := self._seen.get(address)) and before[0] == worker["last_seen"] else (worker["last_seen"], now)
            for address, worker in workers.items()
        }  # fmt: skip
        return {
            address: int(worker["nthreads"])
            for address, worker in workers.items()
            if now - self._seen[address][1] < self.silent
        }


def workers_of(client: Client) -> Mapping[str, Mapping[str, Any]]:
    """Return what the scheduler knows of its workers, by address."""
    found: Mapping[str, Mapping[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return found
