"""``runs``, ``status`` and ``report``: what the journal contains of each run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import JournaledApplication, JournalRequest
from migrate_storage.cli.completion import complete_keys, complete_runs
from migrate_storage.cli.option import argument, command, fill, group, option
from migrate_storage.cli.output import next_command, print_combined, print_report, program
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.shared_options import CensusFlags, Output
from migrate_storage.cli.standard_output import echo
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.exit_codes import EXIT_PROBLEMS
from migrate_storage.core.text import amount, duration, size, visible
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.reporting import Figures, Report, figures, page
from migrate_storage.reporting.census import census_lines
from migrate_storage.reporting.text import describe_bytes

if TYPE_CHECKING:
    from migrate_storage.core.census import Census
    from migrate_storage.cutover.state import CutoverState
    from migrate_storage.journal import Journal, RunRecord

__all__ = ("report", "runs", "status")


@command(JournalRequest, "List the runs.", "runs --app myapp.storage")
def runs(request: JournalRequest) -> None:
    """List the runs that the journal knows, the latest first."""
    with request.application.opened_journal() as journal:
        records = journal.runs.latest()
    for record in records:
        if request.output.json:
            echo(json.dumps(_record_to_dict(record, _decode_report(record))))
        else:
            when = datetime.fromtimestamp(record.started, UTC).strftime("%Y-%m-%d %H:%M")
            keys = _describe_keys(record)
            echo(visible(f"{record.id}  {when}  {record.kind:<6}  {record.state:<13}  {keys}"))
    if not records:
        request.output.print_text(["No run yet: `migrate-storage plan` shows what one would do."])


@dataclass(frozen=True, kw_only=True)
class _StatusRequest:
    run: str | None = argument(required=False, shell_complete=complete_runs)
    application: JournaledApplication = group(JournaledApplication)
    ready_to_unregister: bool = option(
        in_file=False, is_flag=True, help="Ask whether the old key may go; exit code 0 or 1."
    )
    source: str | None = option(
        "--from",
        metavar="KEY",
        shell_complete=complete_keys,
        help="The key that is to go.  [default: what the latest run went from]",
    )
    soak: float = option(
        type=Age(), in_file=False, default="7d", show_default=True, metavar="AGE",
        help="Time since the last row was re-pointed: longer than the longest signed URL.",
    )  # fmt: skip
    census: CensusFlags = group(CensusFlags)
    output: Output = group(Output)


@command(_StatusRequest, "Show the state of a run in a few lines.", "status --app myapp.storage")
def status(request: _StatusRequest) -> int:
    """Show the state of a run in a few lines, also while it works. RUN defaults to the latest. Each cutover is named with its phase.

    With --ready-to-unregister, check whether the old key is still needed. It is while a row names it, also in a column
    that no model has. It is while a job works, the latest run left something, or the soak is not over. So it is while a cutover has open
    entries, or processes act in its phase.
    """
    if request.ready_to_unregister:
        return _print_readiness(request)
    with request.application.opened_journal() as journal:
        cutovers = _find_cutovers(request.application, journal)
        if cutovers and request.run is None and not journal.runs.latest(limit=1):
            alone = {"cutovers": [state.to_dict() for state in cutovers]}
            request.output.print(alone, _render_cutovers(cutovers), important=True)
            return 0
        record = journal.runs.find(request.run)
        census, silent = _find_census(request, journal, record), max(0.0, journal.database.time() - record.updated)
    stored = _decode_report(record)
    progress = json.loads(record.progress) if record.progress and record.finished is None else None
    requested = json.loads(record.control) if record.control else None
    value = {**_record_to_dict(record, stored), "control": requested, "progress": progress,
        "census": census and census.to_dict(), "cutovers": [state.to_dict() for state in cutovers],
    }  # fmt: skip
    shown = census_lines(census, record.source) if record.kind == "run" else ()
    lines = (*_render_status(record, stored, progress, silent), *shown, *_render_cutovers(cutovers))
    request.output.print(value, lines, important=True)
    return 0


def _find_cutovers(named: JournaledApplication, journal: Journal) -> list[CutoverState]:
    """Return the state of each cutover that the databases record or the application registers."""
    from migrate_storage.cutover.state import find_recorded_states, read_states

    found = {state.key: state for state in find_recorded_states(journal.database)}
    if named.is_named and not named.database:
        with named.opened(all_columns=True) as application:
            found |= read_states(application.backends)
    return [found[key] for key in sorted(found)]


def _render_cutovers(cutovers: Sequence[CutoverState]) -> Iterator[str]:
    for state in cutovers:
        yield f"cutover of {state.key}: {state.describe()}"


def _render_status(
    record: RunRecord, stored: Report | None, progress: Mapping[str, Any] | None, silent: float
) -> Iterator[str]:
    age = f", last sign of life {duration(silent)} ago" if record.finished is None else ""
    yield f"{record.id}  {record.state}{age}  {_describe_keys(record)}"
    if progress is not None:
        yield from _render_progress(progress, rows=record.kind == "run")
    if stored is not None:
        rows = "" if stored.kind == "sync" else f"{amount(stored.rows_repointed, 'row')} re-pointed, "
        yield (
            f"{amount(stored.objects, 'object')}, {describe_bytes(stored)}, {rows}"
            f"{amount(stored.problem_count, 'problem')}, {duration(stored.seconds)}"
        )


def _find_census(request: _StatusRequest, journal: Journal, record: RunRecord) -> Census | None:
    """The census of the key that a run went from: the latest, or with ``--census`` a new one."""
    from migrate_storage.jobs.census import find_censuses, latest_census
    from migrate_storage.jobs.connections import connected

    named = request.application
    if not request.census.census:
        return latest_census(journal, record.source) if record.kind == "run" else None
    how = fill(CensusOptions, request)
    with (
        named.opened(all_columns=True) as application,
        connected(application, named.journal, named.journal_schema) as (database, book),
    ):
        return find_censuses(database, book, application, (record.source,), how)[record.source]


def _print_readiness(request: _StatusRequest) -> int:
    from migrate_storage.jobs.readiness import ready_to_unregister

    named = request.application
    with named.opened(all_columns=True) as application:
        key, checks = ready_to_unregister(
            application,
            request.source,
            soak=request.soak,
            journal=named.journal,
            schema=named.journal_schema,
            census=fill(CensusOptions, request),
        )
    ready = all(check.ready for check in checks)
    lines = [f"{key!r} may be unregistered." if ready else f"{key!r} must stay registered."]
    lines += [f"  {'+' if check.ready else 'x'} {check.name:<7} {check.message}" for check in checks]
    value = {"key": key, "ready": ready, "checks": [asdict(check) for check in checks]}
    request.output.print(value, lines, important=not ready)
    return 0 if ready else EXIT_PROBLEMS


def _render_progress(progress: Mapping[str, Any], *, rows: bool) -> Iterator[str]:
    if progress["paused"]:
        yield f"paused: {progress['paused']}"
    moved = f"{amount(progress.get('rows_repointed', 0), 'row')} re-pointed, " if rows else ""
    yield (
        f"{amount(progress['objects'], 'object')}, {size(progress['bytes'])}, {moved}{amount(progress.get('problems', 0), 'problem')}"
    )
    if "shards" in progress:
        yield f"{amount(progress['shards'], 'range')} under way"
    now, most = progress["concurrency"], progress["most_concurrency"]
    slowed = f" of {most:,}, because a service asked to slow down" if now < most else ""
    bandwidth = f", {size(progress['bandwidth'])}/s at most" if progress["bandwidth"] else ""
    requests = f", {progress['requests_per_second']:g} requests/s at most" if progress["requests_per_second"] else ""
    yield f"{now:,} at once{slowed}{bandwidth}{requests}"


def _describe_keys(record: RunRecord) -> str:
    strategy = "" if record.kind == "sync" else f" ({record.way.replace('_', ' ')})"
    return f"{record.source} -> {record.destination}{strategy}"


def _record_to_dict(record: RunRecord, stored: Report | None) -> dict[str, Any]:
    values = {**asdict(record), "strategy": record.way, "report": stored and stored.to_dict()}
    del values["way"]
    return values


def _decode_report(record: RunRecord) -> Report | None:
    return None if record.report is None else Report.from_dict(json.loads(record.report))


@dataclass(frozen=True, kw_only=True)
class _ReportRequest:
    run: tuple[str, ...] = argument(nargs=-1, shell_complete=complete_runs)
    application: JournaledApplication = group(JournaledApplication)
    page_path: Path | None = option(
        "--html", in_file=False, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
        help="Write it as one HTML file that needs no network; - is standard output.",
    )  # fmt: skip
    output: Output = group(Output)


@command(
    _ReportRequest,
    "Show a run's report: as text, JSON or a page.",
    "report --app myapp.storage",
    "report --app myapp.storage --html report.html",
    "report --app myapp.storage --json",
)
def report(request: _ReportRequest) -> int:
    """Show a run's report, and end with the exit code that the run ended with. RUN defaults to the latest. Of several, show all in one.

    To the figures of the run at its end it adds the sums of the journal's records. These are rows by column, throughput
    and failures over time, sizes, how equality was proved, and the slowest objects.
    """
    with request.application.opened_journal() as journal:
        found = [_find_report(journal, name) for name in request.run or (None,)]
    if len(found) > 1:
        return _show_several(request, found)
    [(stored, sums)] = found
    if request.page_path is not None:
        _write_page(request.page_path, page(stored, sums, next_command), request.output)
    elif request.output.json:
        echo(json.dumps({**stored.to_dict(), "figures": sums.to_dict()}))
    elif not request.output.quiet or stored.exit_code:
        print_report(stored, sums, brief=request.output.quiet)
    return stored.exit_code


def _find_report(journal: Journal, name: str | None) -> tuple[Report, Figures]:
    record = journal.runs.find(name)
    stored = _decode_report(record)
    if stored is None:
        raise ConfigurationError(f"run {record.id} has no report yet: `{program()} status` shows its state")
    return stored, figures(stored, journal)


def _show_several(request: _ReportRequest, found: Sequence[tuple[Report, Figures]]) -> int:
    """Show the reports of several runs in one, and return the worst exit code."""
    from migrate_storage.reporting.combined import CombinedReport
    from migrate_storage.reporting.html.page import page_of_several

    combined, sums = CombinedReport(reports=tuple(each for each, _ in found)), [sums for _, sums in found]
    if request.page_path is not None:
        _write_page(request.page_path, page_of_several(combined, sums, next_command), request.output)
    elif request.output.json:
        for stored, each in found:
            echo(json.dumps({**stored.to_dict(), "figures": each.to_dict()}))
    elif not request.output.quiet or combined.exit_code:
        print_combined(combined, sums, brief=request.output.quiet)
    return combined.exit_code


def _write_page(path: Path, text: str, output: Output) -> None:
    if str(path) == "-":
        echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--html {visible(str(path))}: cannot be written: {error.strerror}") from None
    output.print({"event": "written", "path": str(path)}, [f"Wrote {path}, {size(len(text))}: open it in a browser."])
