"""The function that a Dask worker runs for one task: the command line, for one shard."""

from __future__ import annotations

import click

from migrate_storage.core.errors import ConfigurationError, LeaseHeldError, StoppedError
from migrate_storage.core.text import masked, one_line
from migrate_storage.jobs.distributed.dask_task import Task, TaskResult, WorkerAssignment, worker_assignment
from migrate_storage.jobs.distributed.shards import ShardRef

__all__ = ("work",)


def work(task: Task) -> TaskResult:
    """Do one range, on a worker: its command runs here as it would anywhere, for this range alone."""
    from migrate_storage.cli import cli

    mine = WorkerAssignment(part=ShardRef(number=task.number, run=task.run))
    before = worker_assignment.set(mine)
    try:
        cli.main(args=list(task.arguments), prog_name="migrate-storage", standalone_mode=False)
    except LeaseHeldError as error:
        return TaskResult(state="held", error=masked(str(error)))
    except (ConfigurationError, click.ClickException) as error:
        return TaskResult(state="refused", error=masked(str(error) or one_line(error)))
    except StoppedError:
        return TaskResult(state="stopped")
    except Exception as error:  # noqa: BLE001 - an exception would travel with its traceback, and who knows what is in it
        return TaskResult(state="failed", error=masked(one_line(error)))
    finally:
        worker_assignment.reset(before)
    assert mine.report is not None
    return TaskResult(state=mine.report.state, error=masked(mine.report.error))
