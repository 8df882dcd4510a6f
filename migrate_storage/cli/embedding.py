"""The commands as a group in the command line of another program."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import click

from migrate_storage.cli.exit_codes import exit_code_of

__all__ = ("application_of", "mount", "surrounding_context")

_SURROUNDING = "migrate_storage.surrounding"
"""Key of the surrounding group's context in the metadata of click's context."""


def mount(commands: Iterable[click.Command], group: click.Group) -> click.Group:
    """Add commands to a group of another program, with the same exit codes."""
    for command in commands:
        group.add_command(_copy_command(command, depth=1))
    return group


def surrounding_context(context: click.Context | None) -> click.Context | None:
    """Return the context of another program's group, or ``None`` without one."""
    surrounding: click.Context | None = context.meta.get(_SURROUNDING) if context is not None else None
    return surrounding


def application_of(context: click.Context) -> object | None:
    """Return the application of the program around the command, or ``None``.

    advanced-alchemy's own groups have ``configs`` in a dictionary. Litestar and Flask have an object of their own.
    """
    given: Any = context.obj
    if isinstance(given, dict):
        return given.get("configs") or given.get("app")
    if callable(given):
        given = given()  # Litestar makes its environment when a command first needs it
    if hasattr(given, "load_app"):
        return given.load_app()  # type: ignore[no-any-return]
    return getattr(given, "app", None)


def _copy_command(command: click.Command, depth: int) -> click.Command:
    """Copy a command that is ``depth`` levels below the group."""
    other = copy.copy(command)
    if isinstance(other, click.Group):
        other.commands = {name: _copy_command(inner, depth + 1) for name, inner in other.commands.items()}
    elif other.callback is not None:
        other.callback = _wrap_callback(other.callback, depth)
    return other


def _wrap_callback(callback: Callable[..., Any], depth: int) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run_and_exit(*args: Any, **kwargs: Any) -> None:
        context = click.get_current_context()
        above = context
        for _ in range(depth):
            above = above.parent or above
        context.meta[_SURROUNDING] = above
        context.exit(exit_code_of(lambda: callback(*args, **kwargs)))

    return run_and_exit
