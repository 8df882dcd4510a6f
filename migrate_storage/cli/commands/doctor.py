"""``doctor``: the pre-flight checks of a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from migrate_storage.cli.option import command, group
from migrate_storage.cli.output import next_command, render_note
from migrate_storage.cli.run_options import RunRequest
from migrate_storage.cli.shared_options import Output
from migrate_storage.cli.standard_output import echo
from migrate_storage.core.model import Strategy
from migrate_storage.cutover.decisions import Side
from migrate_storage.reporting.census import census_lines
from migrate_storage.stores.retry import Retry

if TYPE_CHECKING:
    from migrate_storage.engine.plan import MigrationPlan
    from migrate_storage.jobs.cutovers import CutoverPreflight
    from migrate_storage.jobs.run.preflight import RunPreflight

__all__ = ("doctor",)

_CAPABILITIES = {
    "create_only": "the destination refuses to replace an object where that is asked",
    "etag_is_md5": "its ETag is the MD5 of the bytes, so it is evidence",
    "attributes": "it keeps content types and user metadata",
    "listing": "its listing shows at once what is there, with all that a HEAD shows",
    "large_etag_is_md5": "the ETag of an upload in parts is the MD5 of the bytes, so it is evidence",
    "large_etag_is_of_parts": "the ETag of an upload in parts is the MD5 of its parts' MD5s, so it is evidence",
}


_END = ("", "A run can begin.", "", "Next command")


@dataclass(frozen=True, kw_only=True)
class _DoctorRequest(RunRequest):
    output: Output = group(Output)


@command(
    _DoctorRequest,
    "Probe the stores, the rights and the rows, as `run` does first.",
    "doctor --app myapp.storage --from old --to new",
)
def doctor(request: _DoctorRequest) -> None:
    """Probe what a run would need, and report what is found. Every run does the same before it touches anything.

    The destination gets a few small objects under a scratch prefix, which are removed again; the source is only read.
    Of a CutoverBackend, --from KEY probes both sides and shows its phase.
    """
    from migrate_storage.application.inspection import note_unregistered_keys
    from migrate_storage.cutover.backend import CutoverBackend
    from migrate_storage.jobs.census import find_censuses
    from migrate_storage.jobs.connections import connected
    from migrate_storage.jobs.cutovers import examine_cutover
    from migrate_storage.jobs.run.job import RunJob
    from migrate_storage.journal.version_tables import note_alembic

    with request.application.opened() as application:
        how = request.options(application)
        backend = application.backends[how.source]
        if isinstance(backend, CutoverBackend) and how.destination is None:
            _print_cutover(examine_cutover(backend, Retry(how.max_attempts, threading.Event())), request.output)
            return
        with connected(application, how.journal, how.journal_schema) as (database, journal):
            facts = RunJob(application, how).examine(database, journal, probe_all=True)
            further = (*note_alembic(journal.database), *note_unregistered_keys(application))
            facts = replace(facts, notes=(*facts.notes, *further))
            census = find_censuses(database, journal, application, (how.source,), how)[how.source]
    if request.output.json:
        found = {"event": "census_found", "key": how.source, "census": census and census.to_dict()}
        for event in (*_encode_events(facts), found):
            echo(json.dumps(event))
    request.output.print_text(
        (*_render_facts(facts), *census_lines(census, how.source), *_END, f"  {next_command('migrate-storage plan')}")
    )


def _print_cutover(facts: CutoverPreflight, output: Output) -> None:
    state, capabilities = facts.cutover.state, asdict(facts.capabilities)
    if output.json:
        places = {side.value: str(facts.cutover.side(side).root) for side in Side}
        notes = ({"event": "diagnostic", **asdict(note)} for note in facts.notes)
        found = {"event": "cutover_found", "cutover": state.to_dict(), "places": places}
        for event in (found, {"event": "destination", **capabilities}, *notes):
            echo(json.dumps(event))
    lines = [f"cutover: {state.key}, {state.describe()}"]
    lines += [f"  {side:<11} {facts.cutover.side(side).root}" for side in Side]
    lines += _render_capabilities(capabilities)
    lines += [line for note in facts.notes for line in render_note(note)]
    next_lines = (
        "",
        "Both sides can be reached.",
        "",
        "Next command",
        f"  {next_command('migrate-storage cutover check')}",
    )
    output.print_text((*lines, *next_lines))


def _render_capabilities(capabilities: Mapping[str, bool]) -> Iterator[str]:
    for name, can in capabilities.items():
        yield f"  {'yes' if can else 'no':<4} {_CAPABILITIES[name]}"


def _render_facts(facts: RunPreflight) -> Iterator[str]:
    yield f"{facts.route.strategy.words}: {facts.route.reason}"
    yield f"  step by step: playbooks/{_choose_playbook(facts.route)}"
    yield from _render_capabilities(asdict(facts.capabilities))
    for note in (*facts.notes, *facts.not_preserved):
        yield from render_note(note)


def _choose_playbook(plan: MigrationPlan) -> str:
    """Return the page that shows a strategy step by step."""
    if plan.strategy is Strategy.IN_PLACE:
        return "swap.md"
    if plan.rename is not None:
        return "new-layout.md"
    if plan.strategy is Strategy.REKEY:
        return "rekey.md"
    return "local-to-s3.md" if plan.source.registration.protocol == "file" else "store-to-store.md"


def _encode_events(facts: RunPreflight) -> Iterator[dict[str, Any]]:
    yield {"event": "strategy", "strategy": facts.route.strategy.value, "reason": facts.route.reason}
    yield {"event": "destination", **asdict(facts.capabilities)}
    for note in (*facts.notes, *facts.not_preserved):
        yield {"event": "diagnostic", **asdict(note)}
