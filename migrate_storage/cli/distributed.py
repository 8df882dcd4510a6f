"""``--shard``, ``--dask`` and ``--workers``: one job by several processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from migrate_storage.cli.option import option, parameter_variable
from migrate_storage.cli.output import as_typed, has_one_flag_each
from migrate_storage.cli.param_types import AUTO_WORKERS, WORKERS
from migrate_storage.cli.run_job import Job, run_and_report
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.errors import ConfigurationError, LeaseHeldError, RunError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.text import amount, masked

if TYPE_CHECKING:
    from distributed import Client

    from migrate_storage.jobs.distributed.shards import ShardRef
    from migrate_storage.jobs.distributed.worker_count import Workload
    from migrate_storage.journal import Journal
    from migrate_storage.reporting import Report

__all__ = ("Distribution",)

_KEPT_OUT_OF_TASKS = frozenset({"database", "journal", "replicas", "throttle_query", "from_option", "to_option"})
"""Parameters that may contain a secret, or whose value differs between machines. Workers read them from variables."""
_DRIVER_ONLY = frozenset(
    {"shard", "dask", "workers", "config", "json", "quiet", "metrics_file", "dry_run", "combined", "match", "differ"}
    | {"missing_on_dst", "missing_on_src", "error"}
)
"""Parameters that only the process which the user started obeys."""
_MEMORY = "max_memory"
"""The parameter of the bytes that a job keeps in memory."""


class ShardableJob(Job, Protocol):
    """A job of which this process can do all, or one shard."""

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the running job or begin one. Return its run and its lease's name."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The processes that do a job."""

    shard: str | None = option(
        metavar="I/N", in_file=False,
        help="Do range I of N, counted from 0: each of N processes, anywhere, one after the other or at once.",
    )  # fmt: skip
    dask: str | None = option(metavar="ADDRESS", help="Do it on a Dask cluster: tcp://scheduler:8786.")
    workers: int = option(
        metavar="N", type=WORKERS, default="auto", show_default=True,
        help="Do it with N processes on this machine. With auto a large `run` uses the idle cores, all else one process.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        given = (self.shard is not None, self.dask is not None, self.workers != AUTO_WORKERS)
        if sum(given) > 1 and _get_assigned_shard() is None:
            raise ConfigurationError("--shard, --dask and --workers exclude each other: each decides who does the job")
        self._parse_shard()

    def _parse_shard(self) -> ShardRef | None:
        if self.shard is None:
            return None
        from migrate_storage.jobs.distributed.shards import ShardRef

        return ShardRef.read(self.shard)

    def refuse_several(self) -> None:
        """Refuse several runs by several processes.

        Raises:
            ConfigurationError: one of the options is given.
        """
        if not self.alone:
            raise ConfigurationError(
                "several pairs of keys are done one after the other by this process: leave --shard, --dask and --workers out, or give "
                "each pair a command of its own"
            )

    @property
    def alone(self) -> bool:
        """Whether this process does the whole job, unless it decides otherwise."""
        return self.shard is None and self.dask is None and self.workers in (AUTO_WORKERS, 1)

    def run(
        self,
        make: Callable[[Listener, ShardRef | None], ShardableJob],
        output: Output,
        *,
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
        lease: float,
        grace: float = 20.0,
        workload: Callable[[], Workload | None] = lambda: None,
    ) -> int | Report:
        """Run the job, or this process's shard of it, and print its report.

        Args:
            make: Makes the job with a listener and, if only a shard is to be done, that shard.
            output: What the command prints.
            journal: Opens the journal of the job.
            lease: Seconds for which a lease is valid.
            grace: Seconds that objects in flight get after an interrupt.
            workload: Measures what is left to do; ``None`` where one process has to do it.

        Returns:
            The exit code; on a Dask worker, which prints nothing, the report.
        """
        if (assigned := _get_assigned_shard()) is not None:
            return make(silent, assigned).run()
        if (part := self._parse_shard()) is not None:
            return run_and_report(
                lambda listener: _ShardAndEnd(functools.partial(make, listener), part, journal), output, grace
            )
        command = self._compose_requested() if not self.alone else self._choose_command(workload, output)
        if command is None:
            return run_and_report(lambda listener: make(listener, None), output, grace)

        from migrate_storage.cli.dask_worker import work
        from migrate_storage.jobs.distributed.dask_driver import DaskDriver, DriverTimes

        def make_driver(listener: Listener) -> Job:
            driver = DaskDriver(
                make(listener, None), command.arguments, work=work, cluster=command.cluster, journal=journal,
                times=DriverTimes(lease=lease, grace=grace), listener=listener,
            )  # fmt: skip
            return driver if not self.alone else _DriverOrOne(driver, make(listener, None))

        return run_and_report(make_driver, output, grace)

    def _compose_requested(self) -> _DrivenCommand:
        """Return the command for the workers that the user asked for."""
        from migrate_storage.jobs.distributed.dask_cluster import connected_to

        context = click.get_current_context()
        if self.dask is None:
            return _compose_local(context, self.workers)
        arguments, _ = _compose_command(context, travels=True)
        return _DrivenCommand(arguments=arguments, cluster=functools.partial(connected_to, self.dask))

    def _choose_command(self, workload: Callable[[], Workload | None], output: Output) -> _DrivenCommand | None:
        """Return the command for as many processes as have enough to do; ``None`` where one process does the job."""
        from migrate_storage.jobs.distributed.worker_count import choose_workers, count_idle_cores

        if self.workers != AUTO_WORKERS or output.json:
            return None
        # Where the application cannot travel, one process does the job, and reports what is wrong with it.
        with contextlib.suppress(ConfigurationError, RunError):
            if find_spec("distributed") is None or (work := workload()) is None:
                return None
            if (workers := choose_workers(work, idle := count_idle_cores())) < 2:
                return None
            command = _compose_local(click.get_current_context(), workers)
            if not output.quiet:
                click.echo(
                    f"{workers} processes: {amount(work.rows, 'row')} left, {amount(idle, 'idle core')};"
                    " --workers 1 uses one process",
                    err=True,
                )
            return command
        return None


@dataclass(frozen=True, kw_only=True)
class _DrivenCommand:
    """A command that workers do."""

    #: What each of them gets, as a user types it.
    arguments: list[str]
    #: Reaches the workers.
    cluster: Callable[[], AbstractContextManager[Client]]


def _get_assigned_shard() -> ShardRef | None:
    """Return the shard that this process does as a worker of a Dask cluster; ``None`` elsewhere."""
    from migrate_storage.jobs.distributed.dask_task import assigned_shard

    return assigned_shard.get()


class _DriverOrOne:
    """A job by several processes that the user did not ask for: where they cannot do it, this process does.

    Args:
        driver: of the processes.
        one: the same job by this process.
    """

    def __init__(self, driver: Job, one: Job) -> None:
        self._driver, self._one = driver, one

    def stop(self) -> None:
        """Stop soon."""
        self._driver.stop()
        self._one.stop()

    def run(self) -> Report:
        """Run the job."""
        try:
            return self._driver.run()
        except ConfigurationError as error:
            click.echo(f"one process: {error}", err=True)
            return self._one.run()


class _ShardAndEnd:
    """One shard of a job, and the final pass of the job if this shard was the last."""

    def __init__(
        self,
        make: Callable[[ShardRef | None], ShardableJob],
        part: ShardRef,
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
    ) -> None:
        self._make, self._open_journal = make, journal
        self._job = make(part)
        self._stopped = False

    def stop(self) -> None:
        """Stop soon."""
        self._stopped = True
        self._job.stop()

    def run(self) -> Report:
        """Run the shard, then the final pass if no shard is left."""
        from migrate_storage.jobs.distributed.shards import ShardRef

        report = self._job.run()
        if report.state != "completed" or self._stopped:
            return report
        with self._open_journal() as (_, journal):
            *shards, end = journal.shards.of_run(report.run)
        if end.number < end.total or end.done or not all(shard.done for shard in shards):
            return report
        self._job = self._make(ShardRef(number=end.number, run=end.run))
        try:
            return self._job.run()
        except LeaseHeldError:
            return report  # another process runs the final pass


def _compose_local(context: click.Context, workers: int) -> _DrivenCommand:
    """Return the command of each of so many processes on this machine. Together they have the memory of one."""
    from migrate_storage.jobs.distributed.dask_cluster import local

    memory = context.params.get(_MEMORY)
    divided = {} if memory is None else {_MEMORY: memory // workers}
    arguments, variables = _compose_command(context, travels=False, divided=divided)

    @contextlib.contextmanager
    def open_cluster() -> Iterator[Client]:
        # The workers inherit the environment of this process, so no secret is sent over a socket.
        os.environ.update(variables)
        with local(workers) as client:
            yield client

    return _DrivenCommand(arguments=arguments, cluster=open_cluster)


def _compose_command(
    context: click.Context, *, travels: bool, divided: Mapping[str, Any] = MappingProxyType({})
) -> tuple[list[str], dict[str, str]]:
    """Return the command of a worker, and the environment variables it needs.

    Args:
        context: Of the command that the user typed.
        travels: Whether the worker may be on another machine.
        divided: The worker's share of options that apply to all of them together.
    """
    words, variables = [context.info_name or ""], {}
    for parameter, value in _collect_given_options(context, divided):
        text = _format_value(parameter, value)
        flag = next(word for word in parameter.opts if word.startswith("--"))
        if parameter.name in _KEPT_OUT_OF_TASKS:
            variable = f"MIGRATE_STORAGE_{parameter_variable(flag.removeprefix('--'))}"
            if travels and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
                raise ConfigurationError(
                    f"{flag} may contain a secret, and stays out of tasks: set {variable}, here and for the workers"
                )
            variables[variable] = text
        elif masked(text) != text:
            raise ConfigurationError(f"{flag} appears to contain a secret: it cannot be sent to workers")
        elif parameter.is_flag:
            words.append(flag if value else (parameter.secondary_opts or [flag])[0])
        else:
            words += [flag, text]
    if context.params.get("app") is None and context.obj is not None:
        raise ConfigurationError("workers find the application by its name: give --app module[:name]")
    return [*words, *_compose_arguments(context)], variables


def _collect_given_options(context: click.Context, divided: Mapping[str, Any]) -> Iterator[tuple[click.Option, Any]]:
    """Yield the options that were set anywhere or are divided, but not those of the driver."""
    for parameter in context.command.params:
        name = parameter.name or ""
        value, source = divided.get(name, context.params.get(name)), context.get_parameter_source(name)
        given = value is not None and (name in divided or source not in (None, ParameterSource.DEFAULT))
        if given and isinstance(parameter, click.Option) and name not in _DRIVER_ONLY:
            yield parameter, value


def _compose_arguments(context: click.Context) -> list[str]:
    """Return the arguments of the command, which follow its options."""
    arguments = (parameter for parameter in context.command.params if isinstance(parameter, click.Argument))
    given = [str(context.params[argument.name or ""]) for argument in arguments]
    if any(masked(text) != text or "?" in text for text in given):
        raise ConfigurationError("a store that contains a secret cannot be sent to workers: register it under a key")
    return ["--", *given] if given else []


def _format_one(value: Any) -> str:
    """Return one of several values of an option: a text, or a name with its value."""
    if isinstance(value, str):
        return value
    name, each = value
    return f"{name}={each if isinstance(each, str) else json.dumps(each)}"


def _format_value(parameter: click.Parameter, value: Any) -> str:
    """Return a value as a user types it, or sets it in the environment."""
    if has_one_flag_each(parameter):
        return "\n".join(map(_format_one, value))
    return as_typed(parameter.type, value) or ""
