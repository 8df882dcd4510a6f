"""``--shard``, ``--dask`` and ``--workers``: one job by several processes."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from migrate_storage.cli.option import option, parameter_variable
from migrate_storage.cli.output import as_typed, has_one_flag_each
from migrate_storage.cli.run_job import Job, run_and_report
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.errors import ConfigurationError, LeaseHeldError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.text import masked

if TYPE_CHECKING:
    from distributed import Client

    from migrate_storage.jobs.distributed.shards import ShardRef
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
    workers: int | None = option(
        metavar="N", type=click.IntRange(1, 256), help="Do it with N processes on this machine."
    )

    def __post_init__(self) -> None:
        from migrate_storage.jobs.distributed.dask_task import assigned_shard

        given = sum(value is not None for value in (self.shard, self.dask, self.workers))
        if given > 1 and assigned_shard.get() is None:
            raise ConfigurationError("--shard, --dask and --workers exclude each other: each says who does the job")
        self._parse_shard()

    def _parse_shard(self) -> ShardRef | None:
        from migrate_storage.jobs.distributed.shards import ShardRef

        return ShardRef.read(self.shard) if self.shard is not None else None

    @property
    def alone(self) -> bool:
        """Whether this process does the whole job."""
        return self.shard is None and self.dask is None and self.workers is None

    def run(
        self,
        make: Callable[[Listener, ShardRef | None], ShardableJob],
        output: Output,
        *,
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
        lease: float,
        grace: float = 20.0,
    ) -> int | Report:
        """Run the job, or this process's shard of it, and print its report.

        Args:
            make: Makes the job with a listener and, if only a shard is to be done, that shard.
            output: What the command prints.
            journal: Opens the journal of the job.
            lease: Seconds for which a lease is valid.
            grace: Seconds that objects in flight get after an interrupt.

        Returns:
            The exit code; on a Dask worker, which prints nothing, the report.
        """
        from migrate_storage.cli.dask_worker import work
        from migrate_storage.jobs.distributed.dask_cluster import connected_to, local
        from migrate_storage.jobs.distributed.dask_driver import DaskDriver, DriverTimes
        from migrate_storage.jobs.distributed.dask_task import assigned_shard

        if (assigned := assigned_shard.get()) is not None:
            return make(silent, assigned).run()
        if (part := self._parse_shard()) is not None:
            return run_and_report(
                lambda listener: _ShardAndEnd(functools.partial(make, listener), part, journal), output, grace
            )
        if self.alone:
            return run_and_report(lambda listener: make(listener, None), output, grace)
        arguments, variables = _compose_command(click.get_current_context(), travels=self.workers is None)

        def open_cluster() -> AbstractContextManager[Client]:
            if self.dask is not None:
                return connected_to(self.dask)
            # Local workers inherit the environment of this process, so no secret is sent over a socket.
            os.environ.update(variables)
            return local(self.workers or 1)

        return run_and_report(
            lambda listener: DaskDriver(
                make(listener, None), arguments, work=work, cluster=open_cluster, journal=journal,
                times=DriverTimes(lease=lease, grace=grace), listener=listener,
            ),
            output,
            grace,
        )  # fmt: skip


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
        if report.state != "finished" or self._stopped:
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


def _compose_command(context: click.Context, *, travels: bool) -> tuple[list[str], dict[str, str]]:
    """Return the command of a worker, which may travel to another machine, and the environment variables it needs."""
    words, variables = [context.info_name or ""], {}
    for parameter, value in _collect_given_options(context):
        text = _format_value(parameter, value)
        flag = next(word for word in parameter.opts if word.startswith("--"))
        if parameter.name in _KEPT_OUT_OF_TASKS:
            variable = f"MIGRATE_STORAGE_{parameter_variable(flag.removeprefix('--'))}"
            if travels and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
                raise ConfigurationError(
                    f"{flag} may hold a secret, and stays out of tasks: set {variable}, here and for the workers"
                )
            variables[variable] = text
        elif masked(text) != text:
            raise ConfigurationError(f"{flag} holds what looks like a secret: it cannot be sent to workers")
        elif parameter.is_flag:
            words.append(flag if value else (parameter.secondary_opts or [flag])[0])
        else:
            words += [flag, text]
    if context.params.get("app") is None and context.obj is not None:
        raise ConfigurationError("workers find the application by its name: say --app module[:name]")
    return [*words, *_compose_arguments(context)], variables


def _collect_given_options(context: click.Context) -> Iterator[tuple[click.Option, Any]]:
    """Yield the options that were set anywhere, but not those of the driver."""
    for parameter in context.command.params:
        name = parameter.name or ""
        value, source = context.params.get(name), context.get_parameter_source(name)
        given = value is not None and source not in (None, ParameterSource.DEFAULT)
        if given and isinstance(parameter, click.Option) and name not in _DRIVER_ONLY:
            yield parameter, value


def _compose_arguments(context: click.Context) -> list[str]:
    """Return the arguments of the command, which follow its options."""
    arguments = (parameter for parameter in context.command.params if isinstance(parameter, click.Argument))
    given = [str(context.params[argument.name or ""]) for argument in arguments]
    if any(masked(text) != text or "?" in text for text in given):
        raise ConfigurationError("a store that holds a secret cannot be sent to workers: register it under a key")
    return ["--", *given] if given else []


def _format_value(parameter: click.Parameter, value: Any) -> str:
    """Return a value as a user types it, or sets it in the environment."""
    if has_one_flag_each(parameter):
        return "\n".join(f"{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in value)
    return as_typed(parameter.type, value) or ""
