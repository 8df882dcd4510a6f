"""``translate``: print the obstore registration for each fsspec registration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import command, group, option
from migrate_storage.cli.shared_options import Output
from migrate_storage.cli.standard_output import echo
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.exit_codes import EXIT_PROBLEMS
from migrate_storage.core.text import visible
from migrate_storage.translate.codegen import FORMATS, entries
from migrate_storage.translate.registration import Registration, backend_pair, read

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.jobs.translation_check import Agreement

__all__ = ("translate",)

COMPARED_OBJECTS = 5
"""Objects that ``--check`` compares for each backend."""


@dataclass(frozen=True, kw_only=True)
class _TranslateRequest:
    application: ApplicationOptions = group(ApplicationOptions)
    source: str | None = option(
        "--from",
        metavar="KEY",
        shell_complete=complete_keys,
        help="Only this backend.  [default: every fsspec backend]",
    )
    form: str = option(
        "--format", in_file=False, type=click.Choice(list(FORMATS)), default="python", show_default=True,
        help="Code to paste, a table for the configuration file, or JSON for programs.",
    )  # fmt: skip
    check: bool = option(
        in_file=False, is_flag=True, help="Connect, and compare a few existing objects through both sides."
    )
    output: Output = group(Output)


@command(
    _TranslateRequest,
    "Write the obstore registration for each fsspec one.",
    "translate --app myapp.storage",
    "translate --app myapp.storage --check",
)
def translate(request: _TranslateRequest) -> int:
    """Write what each fsspec registration is for obstore, with notes about all that differs.

    Secrets become references to environment variables, whose names are listed first. Nothing is sent unless --check
    is given. Exits with 1 when something was refused, or when the two sides do not agree.
    """
    output = request.output
    with request.application.registered(rows=request.check) as (backends, application):
        registrations = _select_registrations(backends, request.source)
        written = entries((registration.key, registration.translation) for registration in registrations)
        form = "json" if output.json else request.form
        refused = any(registration.translation.refused for registration in registrations)
        if not output.quiet or refused:
            echo(_make_visible(FORMATS[form](written)), nl=False)
        checked = registrations if request.check else ()
        compared = {registration.key: _compare(backends, application, registration) for registration in checked}
    failed = [result for results in compared.values() for result in results if not result.agreed]
    for key, results in compared.items():
        _print_comparison(key, results, output)
    return EXIT_PROBLEMS if refused or failed else 0


def _make_visible(text: str) -> str:
    return "".join(f"{visible(line)}\n" for line in text.splitlines())


def _select_registrations(backends: Mapping[str, Any], source: str | None) -> tuple[Registration, ...]:
    if source is not None and source not in backends:
        raise ConfigurationError(
            f"--from {visible(source)}: no backend has this key; there is {', '.join(sorted(backends))}"
        )
    keys = sorted(backends) if source is None else [source]
    sides = (side for key in keys for side in backend_pair(backends[key]) or (backends[key],))
    chosen = tuple(read(side) for side in sides if side.driver != "obstore")
    if not chosen:
        raise ConfigurationError("no fsspec backend is registered, so there is nothing to translate")
    return chosen


def _compare(
    backends: Mapping[str, Any], application: Application | None, registration: Registration
) -> tuple[Agreement, ...]:
    from migrate_storage.application.inspection import filenames, refused_filenames
    from migrate_storage.jobs.translation_check import Agreement, compare_files, list_filenames

    config = registration.translation.config
    if config is None or config.service == "memory":
        return ()
    key, backend = _find_backend(backends, registration)
    names = filenames(application, key, COMPARED_OBJECTS) if application else ()
    compared = compare_files(backend, names or list_filenames(backend, COMPARED_OBJECTS))
    if application is None:
        return compared
    reported = {each.filename for each in compared if not each.agreed}
    refused = (
        Agreement(filename=odd.filename, reason=f"{odd.ref}: the new registration does not open it: it {odd.reason}")
        for odd in refused_filenames(application, registration, key)
        if odd.filename not in reported
    )
    return (*compared, *refused)


def _find_backend(backends: Mapping[str, Any], registration: Registration) -> tuple[str, Any]:
    """Return the key under which rows name the files of a registration, and its backend; a cutover's side has none of its own."""
    for key, backend in backends.items():
        for side in backend_pair(backend) or (backend,):
            if side.key == registration.key and side.driver == registration.driver:
                return key, side
    raise AssertionError(registration.key)


def _print_comparison(key: str, results: tuple[Agreement, ...], output: Output) -> None:
    if output.json:
        for result in results:
            click.echo(json.dumps({"event": "compared", "key": key, **asdict(result)}), err=True)
        return
    failed = [result for result in results if not result.agreed]
    for result in failed:
        click.echo(visible(f"{key}: {result.filename}: {result.reason}"), err=True)
    if output.quiet:
        return
    if not results:
        click.echo(visible(f"{key}: nothing to compare: no row and no object was found"), err=True)
    elif not failed:
        click.echo(visible(f"{key}: {len(results)} objects, the same bytes through both sides"), err=True)
