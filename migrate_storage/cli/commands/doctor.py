"""``doctor``: the pre-flight checks of a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.option import command, group
from migrate_storage.cli.output import next_command, render_note
from migrate_storage.cli.run_options import RunRequest
from migrate_storage.cli.shared_options import Output
from migrate_storage.reporting.census import census_lines
from migrate_storage.stores.retry import Retry

if TYPE_CHECKING:
    from migrate_storage.jobs.run.preflight import RunPreflight

__all__ = ("doctor",)

_CAPABILITIES = {
    "create_only": "the destination refuses to replace an object where that is asked",
    "etag_is_md5": "its ETag is the MD5 of the bytes, so it is evidence",
    "attributes": "it keeps content types and user metadata",
    "listing": "its listing shows at once what stands there, with all that a look tells",
    "large_etag_is_md5": "the ETag of an upload in parts is the MD5 of the bytes, so it is evidence",
    "large_etag_is_of_parts": "the ETag of an upload in parts is the MD5 of its parts' MD5s, so it is evidence",
}


_END = ("", "A run can begin.", "", "Next")


@dataclass(frozen=True, kw_only=True)
class _DoctorRequest(RunRequest):
    output: Output = group(Output)


@command(
    _DoctorRequest,
    "Probe the stores, the rights and the rows, as `run` does first.",
    "doctor --app myapp.storage --from old --to new",
)
def doctor(request: _DoctorRequest) -> None:
    """Probe what a run would need, and say what is found. Every run does the same before it touches anything.

    The destination gets a few small objects under a scratch prefix, which are removed again; the source is only read.
    """
    from migrate_storage.jobs.census import find_censuses
    from migrate_storage.jobs.connections import connected
    from migrate_storage.jobs.run.preflight import examine
    from migrate_storage.journal.version_tables import note_alembic

    with request.application.opened() as application:
        how = request.options(application)
        with connected(application, how.journal, how.journal_schema) as (database, journal):
            facts = examine(application, how, database, journal, Retry(how.attempts, threading.Event()))
            facts = replace(facts, notes=(*facts.notes, *note_alembic(journal.database)))
            census = find_censuses(database, journal, application, (how.source,), how)[how.source]
    if request.output.json:
        found = {"event": "census_found", "key": how.source, "census": census and census.to_dict()}
        for event in (*_encode_events(facts), found):
            click.echo(json.dumps(event))
    request.output.print_text(
        (*_render_facts(facts), *census_lines(census, how.source), *_END, f"  {next_command('migrate-storage plan')}")
    )


def _render_facts(facts: RunPreflight) -> Iterator[str]:
    yield f"{facts.route.way.value}: {facts.route.reason}"
    for name, can in asdict(facts.capabilities).items():
        yield f"  {'yes' if can else 'no':<4} {_CAPABILITIES[name]}"
    for note in (*facts.notes, *facts.not_carried):
        yield from render_note(note)


def _encode_events(facts: RunPreflight) -> Iterator[dict[str, Any]]:
    yield {"event": "way", "way": facts.route.way.value, "reason": facts.route.reason}
    yield {"event": "destination", **asdict(facts.capabilities)}
    for note in (*facts.notes, *facts.not_carried):
        yield {"event": "note", **asdict(note)}
