"""Shell completion of backend keys, columns, runs, and the words of ``control``.

Keys and columns are read from the application, and runs from its journal. Where these cannot be opened, nothing is proposed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.standard_output import reserved_stdout

if TYPE_CHECKING:
    from migrate_storage.cli.application_options import JournaledApplication

__all__ = ("CONTROL_ACTIONS", "complete_columns", "complete_control", "complete_keys", "complete_runs")

CONTROL_ACTIONS = ("pause", "resume", "set", "stop")


def complete_keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the keys of backends that begin with what is typed."""
    del parameter
    return _propose(context, incomplete, _list_keys)


def complete_columns(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the columns that begin with what is typed."""
    del parameter
    return _propose(context, incomplete, _list_columns)


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the runs of the journal that begin with what is typed, the latest first."""
    del parameter
    return _propose(context, incomplete, _list_runs)


def complete_control(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return what may follow ``control``: a run or an action, and after a run an action."""
    given = tuple(context.params.get(parameter.name or "") or ())
    actions = [action for action in CONTROL_ACTIONS if action.startswith(incomplete)]
    if not given:
        return [*actions, *_propose(context, incomplete, _list_runs)]
    return actions if len(given) == 1 and given[0] not in CONTROL_ACTIONS else []


def _propose(
    context: click.Context, incomplete: str, list_names: Callable[[JournaledApplication], Iterable[str]]
) -> list[str]:
    """Return names that begin with the last of the names that are typed, separated by commas. Print nothing."""
    from migrate_storage.cli.application_options import JournaledApplication

    typed = incomplete[: incomplete.rfind(",") + 1]
    with (
        contextlib.suppress(Exception, SystemExit),  # whatever the application raises
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
        reserved_stdout(),
        context.scope(cleanup=False),
    ):
        known = {each.name for each in fields(JournaledApplication)}
        given = {name: value for name, value in context.params.items() if name in known}
        application = JournaledApplication(**{"journal": None, "journal_schema": None, **given})
        return [f"{typed}{name}" for name in list_names(application) if name.startswith(incomplete[len(typed) :])]
    return []


def _list_keys(options: JournaledApplication) -> list[str]:
    with options.registered() as (backends, _):
        return sorted(backends)


def _list_columns(options: JournaledApplication) -> list[str]:
    with replace(options, columns=()).opened() as application:
        return sorted(map(str, application.known_columns))


def _list_runs(options: JournaledApplication) -> list[str]:
    with options.opened_journal() as journal:
        return [record.id for record in journal.runs.latest()]
