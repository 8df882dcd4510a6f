"""How an option is declared: once, under one name on the command line, in the environment and in the configuration file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = (
    "PARAMETERS",
    "decorated",
    "example",
    "option",
    "parameter_variable",
)


Command = TypeVar("Command", bound=Callable[..., Any])


PARAMETERS: dict[str, str] = {}
"""Options of the configuration file, without the dashes, with the parameter of the function that each becomes."""


def option(*declarations: str, in_file: bool = True, **attributes: Any) -> Callable[[Command], Command]:
    """Declare an option that the environment, and the configuration file unless told otherwise, know by its name."""
    name = next(each for each in declarations if each.startswith("--")).partition("/")[0].removeprefix("--")
    parameter = next((each for each in declarations if not each.startswith("-")), name.replace("-", "_"))
    if in_file:
        PARAMETERS[name] = parameter
    return click.option(*declarations, envvar=f"MIGRATE_STORAGE_{parameter_variable(name)}", **attributes)


def example(*commands: str) -> str:
    """Return the end of a command's help: what to type, kept as it is when the text around it is wrapped."""
    return "\n".join(("\b", "Example:", *(f"  {command}" for command in commands)))


def parameter_variable(name: str) -> str:
    """Return the part of the environment variable's name that an option's name becomes."""
    return name.replace("-", "_").upper()


def decorated(command: Callable[..., Any], *decorators: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a command with decorators around it, the first of them outermost."""
    return functools.reduce(lambda decorated, decorate: decorate(decorated), reversed(decorators), command)
