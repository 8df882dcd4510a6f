"""One range of a job on a worker of a cluster: what travels there, what runs, and what comes back."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import click

from migrate_storage.errors import ConfigurationError, LeaseHeldError, StoppedError
from migrate_storage.report import Report
from migrate_storage.shards import Part
from migrate_storage.text import masked, one_line

__all__ = (
    "Ended",
    "Errand",
    "Task",
    "errand",
    "work",
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What travels to a worker."""

    #: A command and its arguments, without anything that opens a database or a store.
    arguments: tuple[str, ...]
    run: str
    number: int

    def key(self, command: str, total: int, attempt: int) -> str:
        """Its name on the cluster's pages: everybody there may read it."""
        which = f"{self.number}-of-{total}" if self.number < total else "end"
        return f"migrate-storage-{command}-{self.run}-range-{which}-try-{attempt}"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What comes back: the state of the range, or ``refused`` (it cannot be done like that) or ``held`` (by another)."""

    state: str
    error: str = ""


@dataclass(kw_only=True)
class Errand:
    """The one range that the command which runs now is to do, without a word."""

    part: Part
    report: Report | None = None


errand: ContextVar[Errand | None] = ContextVar("errand", default=None)
"""Set while a worker runs a command for a task."""


def work(task: Task) -> Ended:
    """Do one range, on a worker: its command runs here as it would anywhere, for this range alone."""
    from migrate_storage.cli import cli

    mine = Errand(part=Part(number=task.number, run=task.run))
    before = errand.set(mine)
    try:
        cli.main(args=list(task.arguments), prog_name="migrate-storage", standalone_mode=False)
    except LeaseHeldError as error:
        return Ended(state="held", error=masked(str(error)))
    except (ConfigurationError, click.ClickException) as error:
        return Ended(state="refused", error=masked(str(error) or one_line(error)))
    except StoppedError:
        return Ended(state="stopped")
    except Exception as error:  # noqa: BLE001 - an exception would travel with its traceback, and who knows what is in it
        return Ended(state="failed", error=masked(one_line(error)))
    finally:
        errand.reset(before)
    assert mine.report is not None
    return Ended(state=mine.report.state, error=masked(mine.report.error))
