"""The commands inside of another program: an application's own command line has them as a group."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import click

from migrate_storage.cli.exit_codes import exit_code_of

__all__ = ("application_of", "home", "mounted")

_HOME = "migrate_storage.home"


def mounted(commands: Iterable[click.Command], group: click.Group) -> click.Group:
    """Add commands to a group of another program, where they end as they do at home: one line, and the exit code."""
    for command in commands:
        group.add_command(_at(command, depth=1))
    return group


def home(context: click.Context | None) -> click.Context | None:
    """Return the context of the group of another program that holds the command; ``None`` where it is in no other."""
    found: click.Context | None = context.meta.get(_HOME) if context is not None else None
    return found


def application_of(context: click.Context) -> object | None:
    """Return what the program around the command holds as its application; ``None`` where nothing does.

    That is ``configs`` of the context's object where it is a dictionary, as in advanced-alchemy's own groups, and what
    Litestar and Flask have put there.
    """
    found: Any = context.obj
    if isinstance(found, dict):
        return found.get("configs") or found.get("app")
    if callable(found):
        found = found()  # Litestar's environment is made when a command first needs it
    if hasattr(found, "load_app"):
        return found.load_app()  # type: ignore[no-any-return]
    return getattr(found, "app", None)


def _at(command: click.Command, depth: int) -> click.Command:
    """A copy of a command, with its own way out; ``depth`` is how far the group is above it."""
    other = copy.copy(command)
    if isinstance(other, click.Group):
        other.commands = {name: _at(each, depth + 1) for name, each in other.commands.items()}
    elif other.callback is not None:
        other.callback = _leaving(other.callback, depth)
    return other


def _leaving(callback: Callable[..., Any], depth: int) -> Callable[..., Any]:
    @functools.wraps(callback)
    def left(*args: Any, **kwargs: Any) -> None:
        context = click.get_current_context()
        above = context
        for _ in range(depth):
            above = above.parent or above
        context.meta[_HOME] = above
        context.exit(exit_code_of(lambda: callback(*args, **kwargs)))

    return left
