"""FROM and TO of ``sync`` and ``check``, and the stores that they name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import argument, group, option
from migrate_storage.cli.shared_options import PatternOptions
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters, names_in

if TYPE_CHECKING:
    from migrate_storage.application.application import Application

__all__ = ("Assignment", "StoreArguments")

_PUBLIC_OPTIONS = frozenset(
    {"account_name", "allow_http", "anon", "bucket", "container", "endpoint", "endpoint_url", "host", "project"}
    | {"region", "username", "virtual_hosted_style_request"}
)
"""Options of stores whose values are never secret. A password in a URL is masked nevertheless."""


class Assignment(click.ParamType):  # type: ignore[type-arg]
    """An option of a store, typed as ``NAME=VALUE``.

    ``true``, ``false``, and a value that begins as a JSON object or list does, are read as JSON.
    """

    name = "assignment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Return the name and the value."""
        name, sign, given = str(value).partition("=")
        if not sign or not name.strip():
            self.fail("write an option of a store as NAME=VALUE", param, ctx)
        if given in ("true", "false") or given.startswith(("{", "[")):
            try:
                return name.strip(), json.loads(given)
            except ValueError:
                self.fail(f"the value of {name.strip()!r} begins as JSON and is none", param, ctx)
        return name.strip(), given

    @staticmethod
    def typed(given: tuple[str, Any]) -> str | None:
        """Return the option as typed, or ``None`` if its value may be a secret."""
        name, value = given
        if name.lower().removeprefix("aws_").removeprefix("azure_").removeprefix("google_") not in _PUBLIC_OPTIONS:
            return None
        return f"{name}={json.dumps(value) if isinstance(value, bool) else value}"

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split an environment variable into its lines, one option each."""
        return [line for line in rv.splitlines() if line.strip()]


def _declare_store_option(side: str) -> Any:
    return option(
        in_file=False, multiple=True, type=Assignment(), metavar="NAME=VALUE",
        help=f"What the store takes besides, where {side} is a URL: obstore's names, or fsspec's.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StoreArguments:
    """Two stores as the user typed them, and the filters of their objects."""

    from_: str = argument(metavar="FROM", shell_complete=complete_keys)
    to: str = argument(metavar="TO", shell_complete=complete_keys)
    from_option: tuple[tuple[str, Any], ...] = _declare_store_option("FROM")
    to_option: tuple[tuple[str, Any], ...] = _declare_store_option("TO")
    patterns: PatternOptions = group(PatternOptions)
    files_from: Path | None = option(
        type=click.Path(path_type=Path), metavar="FILE", help="Only the objects that a file names, one a line."
    )

    def filters(self) -> Filters:
        """Return the filters of the objects.

        Raises:
            ConfigurationError: ``--files-from`` cannot be read, or patterns are given too.
        """
        include, exclude = self.patterns.include, self.patterns.exclude
        if self.files_from is None:
            return Filters(include, exclude, None)
        if include or exclude:
            raise ConfigurationError("--files-from names exactly what is meant: leave --include and --exclude out")
        return Filters(include, exclude, names_in(self.files_from))

    @contextlib.contextmanager
    def opened(self, options: ApplicationOptions) -> Iterator[tuple[Any, Any, Application | None]]:
        """Open the storage backends of the two stores, and the application.

        Yields:
            The two backends, and the application if the command line or the configuration file names one.

        Raises:
            ConfigurationError: one of the stores cannot be opened.
        """
        from migrate_storage.application.endpoints import backend_at

        with options.opened() if options.is_named else contextlib.nullcontext() as application:
            backends = application.backends if application else options.settings.backends()
            source = backend_at(self.from_, backends, dict(self.from_option), "FROM")
            yield source, backend_at(self.to, backends, dict(self.to_option), "TO"), application
