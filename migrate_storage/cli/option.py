"""Options of a command, declared as the fields of one frozen dataclass.

An option has one name: on the command line, in the environment and in the configuration file. A group is a dataclass
of options that several commands share::

    @dataclass(frozen=True, kw_only=True)
    class VerifyRequest:
        application: JournaledApplication = group(JournaledApplication)
        where: str | None = option(metavar="SQL", help="Only rows that meet this condition.")
        output: JobOutput = group(JobOutput)

    @click.command()
    @options(VerifyRequest)
    def verify(request: VerifyRequest) -> int: ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

import click

__all__ = ("PARAMETERS", "argument", "example", "fill", "group", "option", "options", "parameter_variable")

Request = TypeVar("Request")
Value = TypeVar("Value")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PARAMETERS: dict[str, str] = {}
"""Options of the configuration file, without the dashes, with the click parameter that each sets."""

_DECLARATION, _GROUP = "declaration", "group"
"""Keys of a field's metadata: the function that declares its click parameter, or the dataclass of its group."""


def option(*declarations: str, in_file: bool = True, **attributes: Any) -> Any:
    """Declare a field as an option.

    Args:
        declarations: The flags. Left out, the flag is the field's name.
        in_file: Whether the configuration file may set the option.
        attributes: Arguments of :func:`click.option`.
    """

    def declare(parameter: str) -> Decorator:
        flags = declarations or (f"--{parameter.replace('_', '-')}",)
        name = next(flag for flag in flags if flag.startswith("--")).partition("/")[0].removeprefix("--")
        if in_file:
            PARAMETERS[name] = parameter
        return click.option(parameter, *flags, envvar=f"MIGRATE_STORAGE_{parameter_variable(name)}", **attributes)

    return field(metadata={_DECLARATION: declare})


def argument(**attributes: Any) -> Any:
    """Declare a field as an argument with attributes of :func:`click.argument`."""
    return field(metadata={_DECLARATION: lambda parameter: click.argument(parameter, **attributes)})


def group(kind: type) -> Any:
    """Declare a field whose value is a dataclass of further options."""
    return field(metadata={_GROUP: kind})


def options(kind: type[Request]) -> Callable[[Callable[[Request], Any]], Callable[..., Any]]:
    """Give a command the options of a dataclass, and call it with one value.

    ``--help`` lists the options in the order of the fields.
    """

    def decorate(command: Callable[[Request], Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def call_with_request(**parameters: Any) -> Any:
            return command(_build_request(kind, parameters))

        declared: Callable[..., Any] = call_with_request
        for declare in reversed(list(_collect_declarations(kind))):
            declared = declare(declared)
        return declared

    return decorate


def fill(kind: type[Value], request: object, **others: Any) -> Value:
    """Return a job's options, filled from a request's fields of the same names.

    Args:
        kind: The dataclass of the job's options.
        request: The value that the command was called with. Fields of its groups count too.
        others: Fields that the request does not have, or has otherwise.
    """
    names = {attribute.name for attribute in fields(kind)}  # type: ignore[arg-type]
    known = {name: value for name, value in _collect_options(request) if name in names}
    return kind(**{**known, **others})


def example(*commands: str) -> str:
    """Return the example at the end of a command's help, which click does not wrap."""
    return "\n".join(("\b", "Example:", *(f"  {command}" for command in commands)))


def parameter_variable(name: str) -> str:
    """Return an option's part of the name of its environment variable."""
    return name.replace("-", "_").upper()


def _collect_declarations(kind: type) -> Iterator[Decorator]:
    for attribute in fields(kind):
        if _GROUP in attribute.metadata:
            yield from _collect_declarations(attribute.metadata[_GROUP])
        elif _DECLARATION in attribute.metadata:
            yield attribute.metadata[_DECLARATION](attribute.name)


def _build_request(kind: type[Value], parameters: Mapping[str, Any]) -> Value:
    values: dict[str, Any] = {}
    for attribute in fields(kind):  # type: ignore[arg-type]
        if _GROUP in attribute.metadata:
            values[attribute.name] = _build_request(attribute.metadata[_GROUP], parameters)
        elif _DECLARATION in attribute.metadata:
            values[attribute.name] = parameters[attribute.name]
    return kind(**values)


def _collect_options(request: object) -> Iterator[tuple[str, Any]]:
    for attribute in fields(request):  # type: ignore[arg-type]
        value = getattr(request, attribute.name)
        if _GROUP in attribute.metadata:
            yield from _collect_options(value)
        elif _DECLARATION in attribute.metadata:
            yield attribute.name, value
