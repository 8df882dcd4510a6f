"""Options of a command, declared as the fields of one frozen dataclass; and the words of an earlier version.

An option has one name: on the command line, in the environment and in the configuration file. A group is a dataclass
of options that several commands share::

    @dataclass(frozen=True, kw_only=True)
    class _VerifyRequest:
        application: JournaledApplication = group(JournaledApplication)
        where: str | None = option(metavar="SQL", help="Only rows that meet this condition.")
        output: JobOutput = group(JobOutput)

    @command(_VerifyRequest, "Look at what rows name.", "verify --app myapp.storage")
    def verify(request: _VerifyRequest) -> int: ...

Where a word has changed, ``renamed`` maps the earlier one to today's. The command line still takes the earlier one, prints
today's, and shows it nowhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeVar

import click

from migrate_storage.cli.param_types import Names
from migrate_storage.cli.standard_output import reserved_stdout

__all__ = (
    "PARAMETERS",
    "RENAMED",
    "EarlierWords",
    "argument",
    "command",
    "example",
    "fill",
    "group",
    "option",
    "parameter_variable",
    "taking_earlier_words",
)

Request = TypeVar("Request")
Value = TypeVar("Value")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PARAMETERS: dict[str, str] = {}
"""Options of the configuration file, without the dashes, with the click parameter that each sets."""

RENAMED: dict[str, str] = {}
"""Earlier names of the options in :data:`PARAMETERS`, with those of today."""

_DECLARATION, _GROUP, _RENAMED = "declaration", "group", "renamed"
"""Keys of a field's metadata: the function that declares its click parameter, the dataclass of its group, and its earlier
words."""


@dataclass(frozen=True)
class EarlierWords:
    """Words of an earlier version that a command line still takes.

    Args:
        renamed: The earlier words, options without their dashes, with those of today.
    """

    renamed: Mapping[str, str]

    def replace(self, word: str) -> str:
        """Return today's word for an earlier one, which standard error names; any other word as it is."""
        if word not in self.renamed:
            return word
        click.echo(f"migrate-storage: {word!r} is now called {self.renamed[word]!r}", err=True)
        return self.renamed[word]


def taking_earlier_words(renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return the context settings of a command or group that takes earlier words of its options, values or commands."""
    return {"token_normalize_func": EarlierWords(renamed).replace}


def option(
    *declarations: str, in_file: bool = True, renamed: Mapping[str, str] = MappingProxyType({}), **attributes: Any
) -> Any:
    """Declare a field as an option.

    Args:
        declarations: The flags. Left out, the flag is the field's name.
        in_file: Whether the configuration file may set the option.
        renamed: Earlier words of the option, without dashes, and of its choices, with those of today.
        attributes: Arguments of :func:`click.option`.
    """

    def declare(parameter: str) -> Decorator:
        flags = declarations or (f"--{parameter.replace('_', '-')}",)
        name = next(flag for flag in flags if flag.startswith("--")).partition("/")[0].removeprefix("--")
        earlier = [word for word, today in renamed.items() if today == name]
        if in_file:
            PARAMETERS[name] = parameter
            RENAMED.update(dict.fromkeys(earlier, name))
        given = _collect_repeated(attributes) if isinstance(attributes.get("type"), Names) else attributes
        variables = [f"MIGRATE_STORAGE_{parameter_variable(each)}" for each in (name, *earlier)]
        return click.option(parameter, *flags, envvar=variables, **given)

    return field(metadata={_DECLARATION: declare, _RENAMED: renamed})


def _collect_repeated(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with which an option of names may be repeated; its value has the names of all."""
    check: Callable[..., Any] = attributes.get("callback") or (lambda _context, _parameter, names: names)

    def join_names(context: click.Context, parameter: click.Parameter, given: Iterable[Iterable[str]]) -> Any:
        return check(context, parameter, tuple(name for names in given for name in names))

    return {**attributes, "multiple": True, "callback": join_names}


def argument(**attributes: Any) -> Any:
    """Declare a field as an argument with attributes of :func:`click.argument`."""
    return field(metadata={_DECLARATION: lambda parameter: click.argument(parameter, **attributes)})


def group(kind: type) -> Any:
    """Declare a field whose value is a dataclass of further options."""
    return field(metadata={_GROUP: kind})


def command(
    kind: type[Request], summary: str, *examples: str, parent: click.Group | None = None
) -> Callable[[Callable[[Request], Any]], click.Command]:
    """Make a function a command, which is called with one value of its options.

    ``--help`` lists the options in the order of the fields.

    Args:
        kind: The dataclass of the options.
        summary: The command's line in the list of commands.
        examples: What a user types, without the program's name.
        parent: The group that the command belongs to, if it is not the program itself.
    """

    def decorate(function: Callable[[Request], Any]) -> click.Command:
        @functools.wraps(function)
        def call_with_request(**parameters: Any) -> Any:
            with reserved_stdout():
                return function(_build_request(kind, parameters))

        declared: Callable[..., Any] = call_with_request
        for declare in reversed(list(_collect_declarations(kind))):
            declared = declare(declared)
        make = click.command if parent is None else parent.command
        settings = taking_earlier_words(dict(_collect_renamed(kind)))
        return make(short_help=summary, epilog=example(*examples), context_settings=settings)(declared)

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
    return "\n".join(("\b", "Example:", *(f"  migrate-storage {command}" for command in commands)))


def parameter_variable(name: str) -> str:
    """Return an option's part of the name of its environment variable."""
    return name.replace("-", "_").upper()


def _collect_declarations(kind: type) -> Iterator[Decorator]:
    for attribute in fields(kind):
        if _GROUP in attribute.metadata:
            yield from _collect_declarations(attribute.metadata[_GROUP])
        elif _DECLARATION in attribute.metadata:
            yield attribute.metadata[_DECLARATION](attribute.name)


def _collect_renamed(kind: type) -> Iterator[tuple[str, str]]:
    for attribute in fields(kind):
        if _GROUP in attribute.metadata:
            yield from _collect_renamed(attribute.metadata[_GROUP])
        else:
            yield from attribute.metadata.get(_RENAMED, {}).items()


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
