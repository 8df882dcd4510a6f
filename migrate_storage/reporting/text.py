"""The report as lines of text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from migrate_storage.core.model import Note, Outcome, OutcomeKind, Severity
from migrate_storage.core.proofs import describe_proof
from migrate_storage.core.text import amount, duration, size, visible
from migrate_storage.reporting.census import census_lines, describe_census, name_counts
from migrate_storage.reporting.estimate import lines
from migrate_storage.reporting.links import describe_links_end, link_lines
from migrate_storage.reporting.move import describe_move_run, sum_move
from migrate_storage.reporting.report import MAX_PROBLEMS, Report
from migrate_storage.reporting.statistics import Figures

__all__ = ("ADVICE", "describe_bytes", "headline", "next_steps", "noun", "render", "render_brief", "word", "wrap_line")

ADVICE = {
    OutcomeKind.ORPHAN: "No row names it: `orphans --quarantine` moves it to quarantine, from where it can be brought back.",
    OutcomeKind.MODIFIED: "Another program wrote it meanwhile, and that write stays: the same command checks it again.",
    OutcomeKind.MISSING: "The row names a file that is not there: search for it in a backup, or repair the row.",
    OutcomeKind.DESTINATION_EXISTS: "Another object is at the destination: check both, move one away, then run again.",
    OutcomeKind.CONFLICT: "Both sides were changed since the copy: keep the right one, then run again.",
    OutcomeKind.ARCHIVED: "Restore it from its archive class, then run again.",
    OutcomeKind.UNVERIFIED: "Nothing proved the copy equal: fix what the reason names, then run again.",
    OutcomeKind.MISMATCH: "The copy is not what was read: check the destination and any proxy before it.",
    OutcomeKind.FAILED: "Fix what the reason names, then run again.",
}
"""Advice for a problem, by its outcome."""


SLOWEST_IN_TEXT = 5
REASONS_IN_TEXT = 5
RUNS_IN_TEXT = 8
"""Runs of one move in text, the latest ones."""
OBJECTS_IN_TEXT = 3
"""Objects in text for each reason."""
_KEEPS_REPORT = frozenset({"run", "revert", "purge", "orphans", "links", "links-revert"})
"""Kinds of jobs whose reports the journal keeps, except those of dry runs."""
_WRITES_FILES = frozenset({"check", "verify"})
"""Kinds of jobs that write report files."""
_LABEL = re.compile(r"  (?:\S+(?: \S+){0,2} {2,}|\S{10} | {11,})|  ")


def render(report: Report, figures: Figures | None = None, width: int | None = None) -> str:
    """Return the report as text, with control characters of keys escaped.

    Args:
        report: the report.
        figures: what the journal's records sum up to.
        width: columns of the terminal, where lines are wrapped except for the next command; ``None`` wraps nothing.
    """
    lines = [part for line in _render_lines(report, figures) for part in wrap_line(visible(line), width)]
    if report.next_command:
        lines += ["", "Next command", f"  {visible(report.next_command)}"]
    return "\n".join(lines)


def render_brief(report: Report) -> str:
    """Return the report in at most four lines: the ending, the counts, the full report, and the next command."""
    problems = [f"{report.counts[kind]:,} {word(report, kind)}" for kind in OutcomeKind if _has_problems(report, kind)]
    lines = [headline(report)]
    lines += [f"  {', '.join(problems)}, first {outcome.source}: {outcome.reason}" for outcome in report.problems[:1]]
    lines += [f"  {_describe_rest(report)}"] if report.problem_count else []
    lines += [f"  Next command: {report.next_command}"] if report.next_command else []
    return "\n".join(map(visible, lines))


def _has_problems(report: Report, kind: OutcomeKind) -> bool:
    return not kind.done and bool(report.counts.get(kind))


def wrap_line(line: str, width: int | None) -> list[str]:
    """Return a line in parts that fit the width in columns, the later ones below the text of the first."""
    if width is None or len(line) <= width:
        return [line]
    label = _LABEL.match(line)
    indent = label.end() if label is not None else 0
    below = " " * (indent if indent > 2 else indent + 2)
    return textwrap.wrap(
        line[indent:], max(width, 40), initial_indent=line[:indent], subsequent_indent=below,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _render_lines(report: Report, figures: Figures | None) -> Iterator[str]:
    yield from (headline(report), "")
    yield from _render_facts(report)
    if report.estimate is not None:
        reckoned = ", as reckoned from the sample" if report.sample else ""
        yield from ("", f"The run would take{reckoned}")
        yield from lines(report.estimate)
    if figures is not None:
        yield from _render_figures(figures)
    for title, notes in (("Not preserved", report.not_preserved), ("Notes", report.notes)):
        if notes:
            yield from ("", title)
            for note in notes:
                yield from _render_note(note)
    if report.problem_count:
        yield from ("", f"Problems ({report.problem_count:,})")
        yield from _render_problems(report)


def headline(report: Report) -> str:
    """Return the first line: the ending, and the rows that name the old key, as far as they were searched."""
    unseen = report.kind == "run" and report.rows_should_leave and _found_nothing(report)
    return _describe_end(report) + (" `run --recheck` checks again what earlier runs copied." if unseen else "")


def _found_nothing(report: Report) -> bool:
    """Whether a finished job that continues earlier ones had no object to handle."""
    return report.state == "completed" and report.resumed and not report.objects and not report.rechecked


def _describe_end(report: Report) -> str:
    head, left = _describe_ending(report), report.rows_remaining
    if left is None or (left == 0 and not report.rows_should_leave):
        return f"{head}.{_describe_elsewhere(report)}"
    if report.narrowed:
        return f"{head}{_describe_narrowed(report, left)}"
    if left == 0:
        return f"{head}{_describe_none_left(report)}"
    still = "" if report.state == "planned" or report.dry_run else "still "
    known = f" ({report.rows_known_missing:,} known to be lost)" if report.rows_known_missing else ""
    named = f"{amount(left, 'row')} {still}{'names' if left == 1 else 'name'} {report.source!r}{known}"
    return f"{head}. {named}.{_describe_elsewhere(report)}"


def _describe_none_left(report: Report) -> str:
    """Return what is known where no row of the known columns names the old key, and of which rows."""
    census, key = report.own_census, report.source
    notes = [f"row level security hides rows of {', '.join(report.hidden_rows)}"] if report.hidden_rows else []
    notes += [f"not searched: {', '.join(report.elsewhere)}"] if report.elsewhere else []
    whole = census is not None and not census.narrowed and not census.unknown(key)
    blind = report.hidden_rows or (census is not None and (census.hidden or census.unseen))
    row = f"row{' that this role can see' if blind else ''}{'' if whole else ' of the columns that are known'}"
    if census is None or census.narrowed:
        what = f"only {', '.join(census.narrowed)}" if census else "nothing else"
        notes.append(f"{what} was searched: --census full")
    elif excused := census.excused(key):
        notes.append(f"excused: {name_counts(excused, key)}")
    here = " of this database" if report.elsewhere else ""
    said = f" ({'; '.join(notes)})" if notes else ""
    return f": no {row}{here} names {key!r} any more{said}.{_describe_elsewhere(report)}"


def _describe_narrowed(report: Report, left: int) -> str:
    """Return what is known where options restricted the rows."""
    census, key, options = report.own_census, report.source, " and ".join(report.narrowed)
    chosen = (
        f"{amount(left, 'row')} that {options} chose still {'names' if left == 1 else 'name'}"
        if left
        else f"no row that {options} chose names"
    )
    if census is None or census.narrowed:
        return f": {chosen} {key!r}{'' if left else ' any more'}; all other rows were not counted."
    total = census.known(key)
    if not total:
        return _describe_none_left(report)
    others = (
        f"{amount(total, 'row')} of all {'does' if total == 1 else 'do'}"
        if left
        else f"{amount(total, 'other row')} still {'does' if total == 1 else 'do'}"
    )
    return f": {chosen} {key!r}{'' if left else ' any more'}; {others}.{_describe_elsewhere(report)}"


def _describe_elsewhere(report: Report) -> str:
    """The columns that no model has and that name the key."""
    census = report.own_census
    unknown = census.unknown(report.source) if census is not None and report.kind == "run" else ()
    if not unknown:
        return ""
    count = sum(each.rows[report.source] for each in unknown)
    named = f"{amount(count, 'row')} in columns that no model has {'names' if count == 1 else 'name'} {report.source!r}"
    return f" {named}: {name_counts(unknown, report.source)}."


def _describe_ending(report: Report) -> str:
    if report.state == "failed":
        return f"Stopped by an error: {report.error}"
    if report.links is not None and report.state in ("completed", "planned"):
        return describe_links_end(report.links, report.problem_count, dry_run=report.dry_run)
    if report.state == "planned" or report.dry_run:
        return _describe_plan(report)
    if report.state == "limit_reached":
        return "Stopped at the limit that you set"
    if report.state == "interrupted":
        return "Stopped, as asked"
    if report.problem_count:
        return f"Finished, with {amount(report.problem_count, 'problem')}"
    if report.rechecked:
        return f"Finished, {_describe_recheck(report)}"
    if _found_nothing(report):
        return "Finished, nothing was left to do"
    copied, deleted = (report.counts.get(kind, 0) for kind in (OutcomeKind.COPIED, OutcomeKind.DELETED))
    return {
        "revert": f"Finished: {amount(report.rows_repointed, 'row')} put back",
        "links-revert": f"Finished: {amount(report.rows_repointed, 'row')} put back",
        "verify": f"Finished: {amount(report.objects, 'object')} checked, all as they should be",
        "check": f"Finished: {amount(report.objects, 'object')} compared, all equal",
        "sync": f"Finished: {copied:,} copied, {deleted:,} deleted",
        "purge": f"Finished: {amount(deleted, 'object')} deleted",
        "orphans": f"Finished: {amount(report.objects, 'object')} checked, no problems",
    }.get(report.kind, "Finished")


def _describe_recheck(report: Report) -> str:
    objects, copied, rows = (report.rechecked[name] for name in ("objects", "copied_again", "rows_repaired"))
    done = f"{copied:,} copied again, {amount(rows, 'row')} repaired"
    return f"{amount(objects, 'copy', 'copies')} of earlier runs checked again ({done})"


def _describe_plan(report: Report) -> str:
    acted = {"purge": (OutcomeKind.DELETED,), "orphans": (OutcomeKind.QUARANTINED, OutcomeKind.RESTORED)}
    count = sum(report.counts.get(kind, 0) for kind in acted.get(report.kind, OutcomeKind))
    aim = {"revert": "to check", "links-revert": "to check", "purge": "to delete", "orphans": "to move"}.get(
        report.kind, "to handle"
    )
    of = f", by a sample of {report.sample[0]:,} of {report.sample[1]:,} rows" if report.sample else ""
    return f"A plan, nothing was changed: {amount(count, noun(report))} {aim}{of}"


def _render_facts(report: Report) -> Iterator[str]:
    arrow = f"{report.source} -> {report.destination}"
    if report.kind == "run":
        yield f"  {'strategy':<10} {report.strategy.words}: {report.strategy_reason}"
    else:
        yield f"  {'job':<10} {report.strategy_reason}"
    between = arrow if report.source != report.destination else report.source
    yield f"  {'run':<10} {report.run}, {between}{', resumed' if report.resumed else ''}"
    counted = [f"{report.counts[kind]:,} {word(report, kind)}" for kind in OutcomeKind if report.counts.get(kind)]
    would = "would be " if report.dry_run and counted else ""
    if counted or report.links is None:
        yield f"  {noun(report) + 's':<10} {would}{', '.join(counted) or 'none'}"
    if report.links is not None:
        yield from link_lines(report.links)
    yield from _render_reasons("kept", report.kept)
    yield from _render_reasons("in use", report.in_use)
    if report.rechecked:
        yield f"  {'rechecked':<10} {_describe_recheck(report)}"
    if report.sample:
        seen, all_ = report.sample
        yield f"  {'sample':<10} {amount(seen, 'row')} of {all_:,}, spread evenly, were read, and the problems are only of these; --sample 0 reads each"
    if not report.dry_run:
        yield from _render_done(report)
    elif report.kind == "purge":
        yield f"  {'bytes':<10} {size(report.bytes_copied)} would be freed"
    if report.kind == "run" and report.dry_run:
        yield from census_lines(report.census, report.source)
    elif report.census is not None:
        for number, line in enumerate(describe_census(report.census, report.source)):
            yield f"  {'' if number else 'census':<10} {line}"
    when = datetime.fromtimestamp(report.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    passes = f", {amount(report.passes, 'pass', 'passes')}" if report.kind == "run" else ""
    yield f"  {'took':<10} {duration(report.seconds)}{passes}, from {when}"


def _render_done(report: Report) -> Iterator[str]:
    rate = _describe_rate(report)
    if report.kind == "run":
        left = f", {amount(report.rows_excluded, 'row')} left out by include and exclude patterns"
        yield f"  {'rows':<10} {amount(report.rows_repointed, 'row')} re-pointed{left if report.rows_excluded else ''}"
        yield f"  {'bytes':<10} {describe_bytes(report)}{rate}"
    elif report.kind == "sync" and report.bytes_copied_by_service:
        yield f"  {'bytes':<10} {describe_bytes(report)}{rate}"
    elif report.bytes_copied:
        done = {"purge": "freed", "orphans": "moved", "sync": f"read{rate}"}.get(report.kind, "copied back")
        yield f"  {'bytes':<10} {size(report.bytes_copied)} {done}"
    if report.verified_by:
        proofs = ", ".join(f"{count:,} by {describe_proof(how)}" for how, count in sorted(report.verified_by.items()))
        yield f"  {'verified':<10} {proofs}"


def _render_reasons(label: str, reasons: Mapping[str, int]) -> Iterator[str]:
    """Yield the number of objects for each reason, the most frequent first."""
    for number, (reason, count) in enumerate(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))):
        yield f"  {'' if number else label:<10} {count:,}: {reason}"


def next_steps(report: Report) -> tuple[tuple[str, str], ...]:
    """Return the commands that may come next, each with its purpose."""
    moved = report.kind == "run" and report.state == "completed" and report.exit_code == 0 and report.rows_should_leave
    if not moved:
        return ((report.next_command, ""),) if report.next_command else ()
    return (
        ("migrate-storage verify", "check every object that a row names, whenever you like"),
        ("migrate-storage status --ready-to-unregister", "whether the old key may go"),
        ("migrate-storage revert --dry-run", "what the way back would do, while the old objects are there"),
        ("migrate-storage purge --older-than 30d", "which old objects could be deleted; without --yes none is"),
    )


def noun(report: Report) -> str:
    """Return the noun for the objects that a job of this kind counts."""
    return "row" if report.kind in ("revert", "links", "links-revert") else "object"


def word(report: Report, kind: OutcomeKind) -> str:
    """Return the word for an outcome in a job of this kind."""
    compares = report.kind in ("verify", "check")
    return "equal" if compares and kind is OutcomeKind.UNCHANGED else kind.words


def describe_bytes(report: Report) -> str:
    """Return the bytes through this process, and those that the service copied, where it did."""
    if not report.bytes_copied_by_service:
        return size(report.bytes_copied)
    return f"{size(report.bytes_copied)} through this process, {size(report.bytes_copied_by_service)} copied by the service"


def _describe_rate(report: Report) -> str:
    if not report.bytes_copied or report.seconds < 0.001:
        return ""
    return f" ({size(report.bytes_copied / report.seconds)}/s, {report.objects / report.seconds:,.0f} objects/s)"


def _render_figures(figures: Figures) -> Iterator[str]:
    if figures.move:
        yield from ("", f"Runs of this move ({len(figures.move):,})")
        for each in figures.move[-RUNS_IN_TEXT:]:
            yield f"  {each.run}  {describe_move_run(each)}"
        yield f"  {'all of them':<24}  {describe_move_run(sum_move(figures.move))}"
    if figures.columns:
        yield from ("", "Rows by column")
        for column, counts in sorted(figures.columns.items()):
            shown = (f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
            yield f"  {column}: {', '.join(shown)}"
    if figures.slowest:
        yield from ("", "The slowest")
        for outcome in figures.slowest[:SLOWEST_IN_TEXT]:
            yield f"  {duration(outcome.seconds):<10} {size(outcome.size or 0):<10} {outcome.source}"


def _render_note(note: Note) -> Iterator[str]:
    subject = f"{note.subject}: " if note.subject else ""
    sign = {Severity.INFO: "-", Severity.WARNING: "!", Severity.REFUSED: "x"}[note.severity]
    yield f"  {sign} {subject}{note.message} [{note.code}]"
    if note.todo:
        yield f"    {note.todo}"


def _render_problems(report: Report) -> Iterator[str]:
    """Yield the problems, those of one reason together, the most frequent reason first."""
    groups: dict[tuple[OutcomeKind, str], list[Outcome]] = {}
    for outcome in report.problems:
        groups.setdefault((outcome.kind, _generalize_reason(outcome)), []).append(outcome)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))[:REASONS_IN_TEXT]
    longest = max((len(kind.words) for (kind, _), _ in ordered), default=0)
    indent = 10 if longest <= 10 else longest + 1
    shown = 0
    for (kind, reason), outcomes in ordered:
        first = outcomes[:OBJECTS_IN_TEXT] if len(outcomes) > OBJECTS_IN_TEXT + 1 else outcomes
        shown += len(first)
        head = f"{kind.words:<{indent}} {amount(len(outcomes), noun(report))}: {reason}"
        yield from _render_group(head, first, len(outcomes), indent)
    if report.problem_count > shown:
        reasons = f" with {amount(len(groups) - len(ordered), 'more reason')}" if len(groups) > len(ordered) else ""
        yield f"  and {amount(report.problem_count - shown, f'more {noun(report)}')}{reasons}: {_describe_rest(report)}"


def _render_group(head: str, first: Sequence[Outcome], count: int, indent: int) -> Iterator[str]:
    """Yield the objects of one reason: one object on its own line, more below the reason with their number."""
    below = f"  {'':<{indent}} "
    if count == 1:
        (outcome,) = first
        yield f"  {outcome.kind.words:<{indent}} {outcome.source}: {outcome.reason}"
        if outcome.refs:
            yield f"{below}{_name_rows(outcome)}"
        return
    yield f"  {head}"
    for outcome in first:
        rows = f" ({_name_rows(outcome)})" if outcome.refs else ""
        yield f"{below}{outcome.source}{rows}"
    if count > len(first):
        yield f"{below}and {count - len(first):,} more"


def _generalize_reason(outcome: Outcome) -> str:
    """Return the reason with an ellipsis for the object's own names, so that equal reasons are equal texts."""
    reason = outcome.reason
    for place in (outcome.source, outcome.destination):
        if place.path:
            reason = reason.replace(str(place), "…").replace(f"'{place.path}'", "…")
    return reason


def _name_rows(outcome: Outcome) -> str:
    more = f" and {len(outcome.refs) - 3} more" if len(outcome.refs) > 3 else ""
    return ", ".join(map(str, outcome.refs[:3])) + more


def _describe_rest(report: Report) -> str:
    """Where all problems are."""
    listed = "all of them" if report.problem_count <= MAX_PROBLEMS else f"the first {MAX_PROBLEMS:,}"
    if report.kind in _WRITES_FILES:
        return f"`--json` lists {listed}, `--combined FILE` writes a line for each object"
    if report.dry_run or report.kind not in _KEEPS_REPORT:
        return f"`--json` lists {listed}"
    return f"`report {report.run} --json` lists {listed}, `--html FILE` writes a page"
