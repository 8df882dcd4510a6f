"""``--shard``, ``--dask`` and ``--workers``: one job by several processes, on one machine or many."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from migrate_storage.cli.option import decorated, option, parameter_variable
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.run_job import Job, finished
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.errors import ConfigurationError, LeaseHeldError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.text import masked

if TYPE_CHECKING:
    from distributed import Client

    from migrate_storage.jobs.distributed.shards import ShardRef
    from migrate_storage.journal import Journal
    from migrate_storage.reporting import Report

__all__ = ("Distribution", "distribution_options")

_STAY = frozenset({"database", "journal", "replicas", "throttle_query", "from_option", "to_option"})
"""What may hold a secret, or opens something that is reached otherwise from elsewhere: never in a task."""
_OWN = frozenset(
    {"shard", "dask", "workers", "json", "quiet", "metrics_file", "dry_run", "combined", "match", "differ"}
    | {"missing_on_dst", "missing_on_src", "error"}
)
"""What is the driver's own."""


class Divisible(Job, Protocol):
    """A job of which this process can do all, or a part."""

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the one that is under way or begin one; its id and the name of its lease."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Who does a job."""

    part: ShardRef | None
    dask: str | None
    workers: int | None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.part, self.dask, self.workers)) > 1:
            raise ConfigurationError("--shard, --dask and --workers exclude each other: each says who does the job")

    @property
    def alone(self) -> bool:
        """Whether this process does all of it."""
        return self.part is None and self.dask is None and self.workers is None

    def finished(
        self,
        make: Callable[[Listener, ShardRef | None], Divisible],
        output: Output,
        *,
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
        lease: float,
        grace: float = 20.0,
    ) -> int:
        """Do the job, or this process's part of it, show its report, and return the exit code.

        Args:
            make: makes the job that tells its news to a listener, of which only a part is done where one is given.
            output: how the command speaks.
            journal: opens the journal of the job.
            lease: seconds for which leases are good.
            grace: seconds that objects in flight are given once interrupted.
        """
        from migrate_storage.cli.dask_worker import work
        from migrate_storage.jobs.distributed.dask_cluster import connected_to, local
        from migrate_storage.jobs.distributed.dask_driver import DaskDriver
        from migrate_storage.jobs.distributed.dask_task import worker_assignment

        if (mine := worker_assignment.get()) is not None:
            mine.report = make(silent, mine.part).run()
            return mine.report.exit_code
        part = self.part
        if part is not None:
            return finished(lambda listener: _Sharded(functools.partial(make, listener), part, journal), output, grace)
        if self.alone:
            return finished(lambda listener: make(listener, None), output, grace)
        arguments, stay = _typed(click.get_current_context(), travels=self.workers is None)
        dask, workers = self.dask, self.workers

        @contextmanager
        def cluster() -> Iterator[Client]:
            if dask is not None:
                with connected_to(dask) as client:
                    yield client
                return
            # Processes of our own begin with what we have; it is not sent anywhere.
            os.environ.update(stay)
            with local(workers or 1) as client:
                yield client

        return finished(
            lambda listener: DaskDriver(
                make(listener, None), arguments, work=work, cluster=cluster, journal=journal, lease=lease, grace=grace,
                listener=listener,
            ),
            output,
            grace,
        )  # fmt: skip


def distribution_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``machines``."""

    @functools.wraps(command)
    def with_machines(*args: Any, shard: str | None, dask: str | None, workers: int | None, **others: Any) -> Any:
        from migrate_storage.jobs.distributed.dask_task import worker_assignment
        from migrate_storage.jobs.distributed.shards import ShardRef

        if worker_assignment.get() is not None:
            return command(*args, machines=Distribution(part=None, dask=None, workers=None), **others)
        part = ShardRef.read(shard) if shard is not None else None
        return command(*args, machines=Distribution(part=part, dask=dask, workers=workers), **others)

    return decorated(
        with_machines,
        option(
            "--shard", metavar="I/N", in_file=False,
            help="Do range I of N, counted from 0: each of N processes, anywhere, one after the other or at once.",
        ),
        option("--dask", metavar="ADDRESS", help="Do it on a Dask cluster: tcp://scheduler:8786."),
        option(
            "--workers", metavar="N", type=click.IntRange(1, 256),
            help="Do it with N processes on this machine.",
        ),
    )  # fmt: skip


class _Sharded:
    """One shard of a job; and the job's end, where it was the last."""

    def __init__(
        self,
        make: Callable[[ShardRef | None], Divisible],
        part: ShardRef,
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
    ) -> None:
        self._make, self._part, self._opened = make, part, journal
        self._job = make(part)
        self._stopped = False

    def stop(self) -> None:
        """End soon."""
        self._stopped = True
        self._job.stop()

    def run(self) -> Report:
        """Do it."""
        from migrate_storage.jobs.distributed.shards import ShardRef

        report = self._job.run()
        if report.state != "finished" or self._stopped:
            return report
        with self._opened() as (_, journal):
            *ranges, end = journal.shards.of_run(report.run)
        if end.number < end.total or end.done or not all(each.done for each in ranges):
            return report
        self._job = self._make(ShardRef(number=end.number, run=end.run))
        try:
            return self._job.run()
        except LeaseHeldError:
            return report  # another one brings it to its end


def _typed(context: click.Context, *, travels: bool) -> tuple[list[str], dict[str, str]]:
    """The command as a worker is to run it.

    Args:
        context: of the command.
        travels: whether it leaves this machine.

    Returns:
        Its words, with all that was set anywhere; and what stays out of them, by its variable.

    Raises:
        ConfigurationError: something was said that a worker must find for itself.
    """
    words, stay = [context.info_name or ""], {}
    for parameter in context.command.params:
        assert parameter.name is not None
        source, value = context.get_parameter_source(parameter.name), context.params.get(parameter.name)
        if parameter.name in _OWN or value is None or source in (None, ParameterSource.DEFAULT):
            continue
        said = _said(parameter, value)
        if not isinstance(parameter, click.Option):
            continue
        flag = next(each for each in parameter.opts if each.startswith("--"))
        if parameter.name in _STAY:
            variable = f"MIGRATE_STORAGE_{parameter_variable(flag.removeprefix('--'))}"
            if travels and source is ParameterSource.COMMANDLINE:
                raise ConfigurationError(
                    f"{flag} may hold a secret, and stays out of tasks: set {variable}, here and for the workers"
                )
            stay[variable] = said
        elif masked(said) != said:
            raise ConfigurationError(f"{flag} holds what looks like a secret: it cannot be sent to workers")
        elif parameter.is_flag:
            words.append(flag if value else (parameter.secondary_opts or [flag])[0])
        else:
            words += [flag, said]
    if context.params.get("app") is None and context.obj is not None:
        raise ConfigurationError("workers find the application by its name: say --app module[:name]")
    return [*words, *_arguments(context)], stay


def _arguments(context: click.Context) -> Iterator[str]:
    """The arguments of a command, behind its options."""
    given = [
        str(context.params[parameter.name or ""])
        for parameter in context.command.params
        if isinstance(parameter, click.Argument)
    ]
    for each in given:
        if masked(each) != each or "?" in each:
            raise ConfigurationError("a store that holds a secret cannot be sent to workers: register it under a key")
    return iter(["--", *given] if given else [])


def _said(parameter: click.Parameter, value: Any) -> str:
    """A value as it is typed, or stands in the environment."""
    if parameter.multiple:
        return "\n".join(f"{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return Age.typed(value) if isinstance(parameter.type, Age) else str(value)
