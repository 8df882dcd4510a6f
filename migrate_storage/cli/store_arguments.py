"""FROM and TO of ``sync`` and ``check``: as they are typed, and the stores that they become."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions
from migrate_storage.cli.option import decorated, option
from migrate_storage.cli.param_types import Patterns
from migrate_storage.cli.shared_options import EXCLUDE, INCLUDE
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters, names_in

if TYPE_CHECKING:
    from migrate_storage.application.application import Application

__all__ = ("Assignment", "StoreArguments", "opened_stores", "store_arguments")


_OPEN = frozenset(
    [
        "account_name",
        "allow_http",
        "anon",
        "bucket",
        "container",
        "endpoint",
        "endpoint_url",
        "host",
        "project",
        "region",
        "username",
        "virtual_hosted_style_request",
    ]
)
"""Options of stores that hold no secret, whatever their value. A URL with a password is masked besides."""


class Assignment(click.ParamType):  # type: ignore[type-arg]
    """An option of a store: ``NAME=VALUE``; a value that is a JSON object, a list, ``true`` or ``false`` is read as one."""

    name = "assignment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Its name and value."""
        name, sign, given = str(value).partition("=")
        if not sign or not name.strip():
            self.fail("write an option of a store as NAME=VALUE", param, ctx)
        if given in ("true", "false") or given.startswith(("{", "[")):
            try:
                return name.strip(), json.loads(given)
            except ValueError:
                self.fail(f"the value of {name.strip()!r} looks like JSON and is none", param, ctx)
        return name.strip(), given

    @staticmethod
    def typed(given: tuple[str, Any]) -> str | None:
        """The option as it can be typed again; ``None`` for one that may hold a secret."""
        name, value = given
        if name.lower().removeprefix("aws_").removeprefix("azure_").removeprefix("google_") not in _OPEN:
            return None
        return f"{name}={json.dumps(value) if isinstance(value, bool) else value}"

    def split_envvar_value(self, rv: str) -> list[str]:
        """One on each line of an environment variable."""
        return [line for line in rv.splitlines() if line.strip()]


@dataclass(frozen=True, kw_only=True)
class StoreArguments:
    """Two stores, as a person named them, and the application that may have registered them."""

    source: Any
    destination: Any
    #: ``None`` where neither the command line nor the configuration file names one.
    application: Application | None


@contextlib.contextmanager
def opened_stores(
    door: ApplicationOptions, texts: tuple[str, str], options: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> Iterator[StoreArguments]:
    """The two stores that a command works on.

    Raises:
        ConfigurationError: one of them is nothing that could be opened.
    """
    from migrate_storage.application.endpoints import backend_at

    application = door.open() if door.app or door.database or door.mounted() else None
    try:
        backends = application.backends if application else door.settings.backends()
        source, destination = (
            backend_at(text, backends, given, what)
            for text, given, what in zip(texts, options, ("FROM", "TO"), strict=True)
        )
        yield StoreArguments(source=source, destination=destination, application=application)
    finally:
        if application is not None:
            application.close()


def store_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its two stores, as ``texts`` and ``store_options``, and ``filters``; ``door_options`` goes above."""

    @functools.wraps(command)
    def with_ends(
        *args: Any, from_: str, to: str, from_option: Any, to_option: Any, include: tuple[str, ...],
        exclude: tuple[str, ...], files_from: Path | None, **others: Any,
    ) -> Any:  # fmt: skip
        if files_from is not None and (include or exclude):
            raise ConfigurationError("--files-from says exactly what is meant: leave --include and --exclude out")
        only = names_in(files_from) if files_from is not None else None
        options = (dict(from_option), dict(to_option))
        filters = Filters(include, exclude, only)
        return command(*args, texts=(from_, to), store_options=options, filters=filters, **others)

    return decorated(
        with_ends,
        click.argument("from_", metavar="FROM"),
        click.argument("to", metavar="TO"),
        *(
            option(
                f"--{side}-option", in_file=False, multiple=True, type=Assignment(), metavar="NAME=VALUE",
                help=f"What the store takes besides, where {side.upper()} is a URL: obstore's names, or fsspec's.",
            )
            for side in ("from", "to")
        ),
        option("--include", metavar="PATTERNS", type=Patterns(), default=(), help=INCLUDE),
        option("--exclude", metavar="PATTERNS", type=Patterns(), default=(), help=EXCLUDE),
        option(
            "--files-from", type=click.Path(path_type=Path), metavar="FILE",
            help="Only the objects that a file names, one a line.",
        ),
    )  # fmt: skip
