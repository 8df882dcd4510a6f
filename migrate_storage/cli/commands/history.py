"""``runs``, ``status`` and ``report``: what the journal knows."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.output import next_command, program, show
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration, size, visible
from migrate_storage.reporting import Report, figures, page

if TYPE_CHECKING:
    from migrate_storage.journal import Journal, RunRecord

__all__ = ("opened_journal", "report", "runs", "status")


@contextlib.contextmanager
def opened_journal(door: ApplicationOptions, url: str | None, schema: str | None) -> Iterator[Journal]:
    """The journal of an application, connected; without one, that of the syncs of this user."""
    from migrate_storage.database.connection import Database
    from migrate_storage.jobs.connections import own_journal
    from migrate_storage.journal import Journal

    if not (url or door.app or door.database or door.mounted()) and own_journal().is_file():
        url = f"sqlite:///{own_journal()}"
    database = Database(url or door.engine())
    try:
        database.connect()
        yield Journal(database, schema)
    finally:
        database.close()


@click.command(short_help="List the runs.", epilog=example("migrate-storage runs --app myapp.storage"))
@application_options
@journal_options
@output_options
def runs(door: ApplicationOptions, journal: str | None, journal_schema: str | None, output: Output) -> None:
    """List the runs that the journal knows, the latest first."""
    with opened_journal(door, journal, journal_schema) as opened:
        found = opened.runs.latest()
    for each in found:
        if output.json:
            click.echo(json.dumps({**asdict(each), "report": None if each.report is None else json.loads(each.report)}))
        else:
            when = datetime.fromtimestamp(each.started, UTC).strftime("%Y-%m-%d %H:%M")
            way = _between(each)
            click.echo(visible(f"{each.id}  {when}  {each.kind:<6}  {each.state:<8}  {way}"))
    if not found and not output.json and not output.quiet:
        click.echo("No run yet: `migrate-storage plan` says what one would do.")


@click.command(
    short_help="Say in a few lines where a run stands.", epilog=example("migrate-storage status --app myapp.storage")
)
@click.argument("run", required=False)
@application_options
@journal_options
@option("--ready-to-unregister", in_file=False, is_flag=True, help="Ask whether the old key may go; exit code 0 or 1.")
@option("--from", "source", metavar="KEY", help="The key that is to go.  [default: what the latest run went from]")
@option(
    "--soak", type=Age(), in_file=False, default="7d", show_default=True, metavar="AGE",
    help="Time since the last row was re-pointed: longer than the longest signed URL.",
)  # fmt: skip
@output_options
def status(
    run: str | None, door: ApplicationOptions, journal: str | None, journal_schema: str | None, ready_to_unregister: bool,
    source: str | None, soak: float, output: Output,
) -> int:  # fmt: skip
    """Say in a few lines where a run stands, while it goes on too. RUN defaults to the latest.

    With --ready-to-unregister: whether any row still names the old key, somebody is at work, the latest run left
    something, a cutover has keys that are not settled or processes that act in its phase, and the soak is over.
    """
    if ready_to_unregister:
        return _ready(door, journal, journal_schema, source, soak, output)
    with opened_journal(door, journal, journal_schema) as opened:
        line = opened.runs.find(run)
    found = _report(line)
    doing = json.loads(line.doing) if line.doing and line.finished is None else None
    if output.json:
        wanted = json.loads(line.wanted) if line.wanted else None
        more = {"report": found and found.to_dict(), "wanted": wanted, "doing": doing}
        click.echo(json.dumps({**asdict(line), **more}))
        return 0
    since = duration(max(0.0, time.time() - line.updated))
    where = f", last sign of life {since} ago" if line.finished is None else ""
    click.echo(visible(f"{line.id}  {line.state}{where}  {_between(line)}"))
    if doing is not None:
        for each in _doing_lines(doing, rows=line.kind == "run"):
            click.echo(visible(each))
    if found is not None:
        click.echo(
            f"{amount(found.objects, 'object')}, {size(found.bytes_moved)}, {_repointed(found)}"
            f"{amount(found.listed_total, 'object')} to look at, {duration(found.seconds)}"
        )
    return 0


def _ready(
    door: ApplicationOptions, url: str | None, schema: str | None, source: str | None, soak: float, output: Output
) -> int:
    from migrate_storage.jobs import readiness

    # With --app, --columns would leave out rows that may name it; without it, it is what tells the columns.
    application = replace(door, columns=()).open() if door.app else door.open()
    try:
        key, checks = readiness.ready_to_unregister(application, source, soak=soak, journal=url, schema=schema)
    finally:
        application.close()
    ready = all(check.ready for check in checks)
    if output.json:
        click.echo(json.dumps({"key": key, "ready": ready, "checks": [asdict(check) for check in checks]}))
    elif not output.quiet or not ready:
        click.echo(visible(f"{key!r} may be unregistered." if ready else f"{key!r} must stay registered."))
        for check in checks:
            click.echo(visible(f"  {'+' if check.ready else 'x'} {check.name:<7} {check.message}"))
    return 0 if ready else 1


def _doing_lines(doing: Mapping[str, Any], *, rows: bool) -> Iterator[str]:
    if doing["paused"]:
        yield f"paused: {doing['paused']}"
    moved = f"{amount(doing['rows_moved'], 'row')} re-pointed, " if rows else ""
    yield (
        f"{amount(doing['objects'], 'object')}, {size(doing['bytes'])}, {moved}{amount(doing['listed'], 'object')} to look at"
    )
    if "ranges" in doing:
        yield f"{amount(doing['ranges'], 'range')} under way"
    now, most = doing["concurrency"], doing["most_concurrency"]
    slowed = f" of {most:,}, because a service asked to slow down" if now < most else ""
    bandwidth = f", {size(doing['bandwidth'])}/s at most" if doing["bandwidth"] else ""
    requests = f", {doing['requests_per_second']:g} requests/s at most" if doing["requests_per_second"] else ""
    yield f"{now:,} at once{slowed}{bandwidth}{requests}"


def _between(line: RunRecord) -> str:
    return f"{line.source} -> {line.destination}{f' ({line.way})' if line.kind != 'sync' else ''}"


def _repointed(found: Report) -> str:
    return "" if found.kind == "sync" else f"{amount(found.rows_moved, 'row')} re-pointed, "


def _report(line: RunRecord) -> Report | None:
    return None if line.report is None else Report.from_dict(json.loads(line.report))


@click.command(
    short_help="Show a run's report: as text, JSON or a page.",
    epilog=example(
        "migrate-storage report --app myapp.storage",
        "migrate-storage report --app myapp.storage --html report.html",
        "migrate-storage report --app myapp.storage --json",
    ),
)
@click.argument("run", required=False)
@application_options
@journal_options
@option(
    "--html", "page_path", in_file=False, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write it as one HTML file that needs no network; - is standard output.",
)  # fmt: skip
@output_options
def report(
    run: str | None,
    door: ApplicationOptions,
    journal: str | None,
    journal_schema: str | None,
    page_path: Path | None,
    output: Output,
) -> int:
    """Show a run's report, and end with the exit code that the run ended with. RUN defaults to the latest.

    To what the run said at its end it adds what the journal's lines sum up to: rows by column, throughput and failures over
    time, sizes, how equality was proved, and the slowest objects.
    """
    with opened_journal(door, journal, journal_schema) as opened:
        line = opened.runs.find(run)
        found = _report(line)
        if found is None:
            raise ConfigurationError(f"run {line.id} has no report yet: `{program()} status` says where it stands")
        sums = figures(found, opened)
    if page_path is not None:
        _write_page(page_path, page(found, sums, next_command), output)
    elif output.json:
        click.echo(json.dumps({**found.to_dict(), "figures": sums.to_dict()}))
    elif not output.quiet or found.exit_code:
        show(found, sums)
    return found.exit_code


def _write_page(path: Path, text: str, output: Output) -> None:
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--html {visible(str(path))}: cannot be written: {error.strerror}") from None
    if output.json:
        click.echo(json.dumps({"event": "written", "path": str(path)}))
    elif not output.quiet:
        click.echo(f"Wrote {visible(str(path))}, {size(len(text))}: open it in a browser.")
