"""``inspect``: show registrations, columns, row counts and problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.option import command, fill, group, option
from migrate_storage.cli.output import next_command
from migrate_storage.cli.shared_options import CensusFlags, Output
from migrate_storage.core.model import Note, Severity
from migrate_storage.cutover.decisions import Side
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.reporting import note_to_dict
from migrate_storage.reporting.census import census_lines
from migrate_storage.translate.codegen import entries

if TYPE_CHECKING:
    from migrate_storage.application.inspection import BackendUse, Inspection
    from migrate_storage.core.census import Census
    from migrate_storage.cutover.state import CutoverState
    from migrate_storage.translate.registration import Registration

__all__ = ("inspect",)


SHOWN_ODD_KEYS = 20
"""Odd filenames that are shown for one backend."""
SHOWN_UNSIZED = 3
"""Files without a size that are shown for one backend."""


@dataclass(frozen=True, kw_only=True)
class _InspectRequest:
    application: JournaledApplication = group(JournaledApplication)
    registrations: bool = option(
        in_file=False, is_flag=True, help="Only the registered backends: no database is needed, and no row is read."
    )
    census: CensusFlags = group(CensusFlags)
    output: Output = group(Output)


@command(
    _InspectRequest,
    "Show every backend, column and row count, and what needs attention.",
    "inspect --app myapp.storage",
)
def inspect(request: _InspectRequest) -> None:
    """Show what the application has: backends, columns, rows by backend key, and what each translates to.

    Reads every row once and asks no store for anything. Filenames that obstore cannot address are listed.
    """
    from migrate_storage.application.inspection import inspect as inspect_application
    from migrate_storage.application.inspection import inspect_registrations
    from migrate_storage.cutover.state import read_states
    from migrate_storage.jobs.census import find_censuses
    from migrate_storage.jobs.connections import connected

    named = request.application
    if request.registrations:
        with named.registered() as (backends, _):
            inspection, cutovers = inspect_registrations(backends), read_states(backends)
        lines = (
            *_render_backends(inspection, {}, cutovers),
            "Next command",
            f"  {next_command('migrate-storage translate')}",
        )
        request.output.print({**_encode_inspection(inspection, cutovers), "censuses": {}}, lines)
        return
    with named.opened() as application:
        inspection, cutovers = inspect_application(application), read_states(application.backends)
        keys, how = [use.key for use in inspection.backends], fill(CensusOptions, request)
        with connected(application, named.journal, named.journal_schema) as (database, journal):
            censuses = find_censuses(database, journal, application, keys, how)
    command = "migrate-storage cutover status" if cutovers else "migrate-storage translate"
    next_lines = ("", "Next command", f"  {next_command(command)}")
    value = {
        **_encode_inspection(inspection, cutovers),
        "censuses": {key: each and each.to_dict() for key, each in censuses.items()},
    }
    request.output.print(value, (*_render_lines(inspection, censuses, cutovers), *next_lines))


def _render_lines(
    inspection: Inspection, censuses: Mapping[str, Census | None], cutovers: Mapping[str, CutoverState]
) -> Iterator[str]:
    used = {column for use in inspection.backends for column in use.files}
    yield from _render_backends(inspection, censuses, cutovers)
    if missing := [key for key, census in censuses.items() if census is None]:
        of = "" if len(missing) == len(censuses) else f" of {', '.join(missing)}"
        yield f"no census{of} yet: 'migrate-storage run' takes one at its end, --census full takes one now"
    for column in inspection.columns:
        if column not in used:
            yield f"{column}: no row names a file"
    for column, count in inspection.broken.items():
        yield f"{column}: {count:,} values cannot be read as files"


def _render_backends(
    inspection: Inspection, censuses: Mapping[str, Census | None], cutovers: Mapping[str, CutoverState]
) -> Iterator[str]:
    for use in inspection.backends:
        if use.cutover:
            yield f"{use.key}: a cutover, {cutovers[use.key].describe()}"
            for side, registration in zip(Side, use.cutover, strict=True):
                described = _describe_registration(registration, registration.driver)
                yield f"  {side:<11} {registration.key}: {described}"
        else:
            yield f"{use.key}: {_describe_backend(use)}"
        yield from _render_counts(use)
        if (census := censuses.get(use.key)) is not None:
            yield from census_lines(census, use.key)
        yield from _render_notes(use)
        yield from _render_odd_keys(use)
        yield from _render_unsized(use)
        yield ""


def _render_counts(use: BackendUse) -> Iterator[str]:
    for column, count in sorted(use.files.items(), key=lambda item: str(item[0])):
        yield f"  {count:>9,} files in {column}"
    for root, count in sorted(use.roots.items()):
        yield f"  {count:>9,} of them in {root or '(no bucket)'}"


def _render_notes(use: BackendUse) -> Iterator[str]:
    for note in _list_notes(use):
        if note.severity is not Severity.INFO:
            yield f"  {note.severity.value}: {note.message} [{note.code}]"
            if note.todo:
                yield f"    {note.todo}"


def _list_notes(use: BackendUse) -> Sequence[Note]:
    registrations = use.cutover or ((use.registration,) if use.registration is not None else ())
    return [note for registration in registrations for note in registration.translation.notes]


def _render_odd_keys(use: BackendUse) -> Iterator[str]:
    if not use.odd_count:
        return
    yield f"  {use.odd_count:,} filenames that obstore cannot address, or that the new registration does not open:"
    for odd in use.odd[:SHOWN_ODD_KEYS]:
        yield f"    {odd.ref}: {odd.filename!r} {odd.reason}"
    if use.odd_count > SHOWN_ODD_KEYS:
        yield f"    and {use.odd_count - SHOWN_ODD_KEYS:,} more: --json lists them"


def _render_unsized(use: BackendUse) -> Iterator[str]:
    if not use.unsized_count:
        return
    yield f"  {use.unsized_count:,} files without a size in their rows, which were saved without their file, or before it:"
    for ref, filename in use.unsized[:SHOWN_UNSIZED]:
        yield f"    {ref}: {filename!r}"
    if use.unsized_count > SHOWN_UNSIZED:
        yield f"    and {use.unsized_count - SHOWN_UNSIZED:,} more: --json lists them"
    yield "    'migrate-storage verify' lists those whose file is missing; ObstoreBackend.confirm describes an upload in its row"


def _describe_backend(use: BackendUse) -> str:
    if use.registration is None:
        return "rows name it, but no backend is registered under it"
    return _describe_registration(use.registration, use.driver)


def _describe_registration(registration: Registration, driver: str) -> str:
    if registration.own_class:
        return f"{registration.own_class}, a class of the application, read through its own methods"
    (entry,) = entries([(registration.key, registration.translation)])
    if driver == "obstore":
        return f"obstore, {entry.fs or registration.protocol}"
    if entry.refused:
        return f"{driver} ({registration.protocol}), no counterpart in obstore"
    return f"{driver} ({registration.protocol}), translates to {entry.fs or 'a store for each row'}"


def _encode_inspection(inspection: Inspection, cutovers: Mapping[str, CutoverState]) -> dict[str, Any]:
    return {
        "backends": [_encode_backend(use, cutovers.get(use.key)) for use in inspection.backends],
        "columns": [str(column) for column in inspection.columns],
        "broken": {str(column): count for column, count in inspection.broken.items()},
    }


def _encode_backend(use: BackendUse, state: CutoverState | None) -> dict[str, Any]:
    registration = use.registration
    entry = entries([(use.key, registration.translation)])[0] if registration else None
    sides = {
        side.value: {"key": each.key, "place": _describe_registration(each, each.driver)}
        for side, each in zip(Side, use.cutover, strict=False)
    }
    return {
        "key": use.key,
        "registered": bool(use.driver),
        "driver": use.driver or None,
        "protocol": registration.protocol if registration else None,
        "translates_to": entry.fs or None if entry else None,
        "files": {str(column): count for column, count in use.files.items()},
        "roots": dict(use.roots),
        "odd_count": use.odd_count,
        "odd": [{"row": str(odd.ref), "filename": odd.filename, "reason": odd.reason} for odd in use.odd],
        "unsized_count": use.unsized_count,
        "unsized": [{"row": str(ref), "filename": filename} for ref, filename in use.unsized],
        "notes": [note_to_dict(note) for note in _list_notes(use)],
        "cutover": state and state.to_dict(),
        "sides": sides,
    }
