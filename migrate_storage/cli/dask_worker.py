"""The function of a Dask worker: it runs the command for one shard."""

from __future__ import annotations

import gc

import click

from migrate_storage.core.errors import ConfigurationError, LeaseHeldError, StoppedError
from migrate_storage.core.text import masked, one_line
from migrate_storage.jobs.distributed.dask_task import Task, TaskResult, assigned_shard
from migrate_storage.jobs.distributed.shards import ShardRef

__all__ = ("work",)


def work(task: Task) -> TaskResult:
    """Run the command of a task for its shard alone."""
    from migrate_storage.cli import cli

    before = assigned_shard.set(ShardRef(number=task.number, run=task.run))
    try:
        report = cli.main(args=list(task.arguments), prog_name="migrate-storage", standalone_mode=False)
    except LeaseHeldError as error:
        return TaskResult(state="held", error=masked(str(error)))
    except (ConfigurationError, click.ClickException) as error:
        return TaskResult(state="refused", error=masked(str(error) or one_line(error)))
    except StoppedError:
        return TaskResult(state="interrupted")
    except Exception as error:  # noqa: BLE001 - Dask would send the exception with its traceback, which may contain a secret
        return TaskResult(state="failed", error=masked(one_line(error)))
    finally:
        assigned_shard.reset(before)
        # The filesystems of the task before: collected by the thread of the worker's event loop, s3fs would close their
        # sessions on that loop, to which they do not belong.
        gc.collect()
    return TaskResult(state=report.state, error=masked(report.error))
