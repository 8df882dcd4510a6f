"""The report as one HTML file without scripts, pictures, fonts and network access."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from itertools import pairwise

from migrate_storage.core.exit_codes import EXIT_FAILED, EXIT_PROBLEMS
from migrate_storage.core.model import Note, Outcome, OutcomeKind, Severity
from migrate_storage.core.proofs import EXPLANATIONS, describe_proof, split_proof
from migrate_storage.core.text import amount, duration, size, visible
from migrate_storage.reporting.combined import CombinedReport, combined_headline, describe_pair
from migrate_storage.reporting.html.charts import bar, plot
from migrate_storage.reporting.html.markup import Markup, clipped, element, joined
from migrate_storage.reporting.move import sum_move
from migrate_storage.reporting.report import Report
from migrate_storage.reporting.statistics import BANDS, Figures, Share
from migrate_storage.reporting.text import ADVICE, headline, next_steps, noun, word

__all__ = ("page", "page_of_several")

PROBLEMS_CHARS = 1_000_000
"""Characters of HTML for the problems at most, so that a browser opens the page quickly."""
RUNS_IN_PAGE = 50
"""Runs of one move in the page, the latest ones."""

_SIGNS = {Severity.INFO: ("good", "Note"), Severity.WARNING: ("warn", "Warning"), Severity.REFUSED: ("bad", "Refused")}


def page(report: Report, figures: Figures, typed: Callable[[str], str] = str) -> str:
    """Return the page. Keys, rows and errors appear as text only.

    Args:
        report: The report of the run.
        figures: The sums over its journal records.
        typed: Completes a command with the flags of this command line.
    """
    title = f"{report.kind} {report.run}: {headline(report)}"
    skip = element("a", "Skip to what needs you", href="#next", class_="skip")
    main = element("main", *_build_main(report, figures, typed))
    return _build_page(title, skip, main, _build_footer(report, figures))


def page_of_several(report: CombinedReport, figures: Sequence[Figures], typed: Callable[[str], str] = str) -> str:
    """Return one page of several runs: how each of them ended, and then the report of each.

    Args:
        report: The reports of the runs.
        figures: The sums over the journal records of each.
        typed: Completes a command with the flags of this command line.
    """
    title = combined_headline(report)
    lines = (
        _build_row(
            joined(element("a", element("bdi", clipped(describe_pair(each.source, each.destination))), href=f"#run-{number}")),
            element("td", headline(each)),
            class_="name",
        )
        for number, each in enumerate(report.reports, 1)
    )  # fmt: skip
    table = element("table", _build_head("Keys", "How it ended"), element("tbody", *lines))
    css_class = {0: "good", EXIT_FAILED: "bad"}.get(report.exit_code, "warn")
    head = element("header", element("h1", title), class_=css_class)
    runs = []
    for number, (each, sums) in enumerate(zip(report.reports, figures, strict=True), 1):
        parts = joined(*_build_main(each, sums, _typed_for(each, typed)), _build_footer(each, sums))
        runs.append(element("article", _number_ids(parts, number), id=f"run-{number}"))
    return _build_page(title, element("main", head, _make_scrollable(table, "Runs"), *runs))


def _typed_for(report: Report, typed: Callable[[str], str]) -> Callable[[str], str]:
    """Name the run in a command that is about the latest one otherwise."""
    words = {"revert": f" {report.run}", "purge": f" {report.run}", "status": f" --from {shlex.quote(report.source)}"}

    def complete(command: str) -> str:
        program, verb, *others = command.split(" ")
        return typed(" ".join((program, verb + words.get(verb, ""), *others)))

    return complete


def _number_ids(parts: Markup, number: int) -> Markup:
    """Give the ids of one run the run's number, with the links to them. No text can be taken for one: its quotes are escaped."""
    numbered = re.sub(r'( id="| href="#)', rf"\g<1>{number}-", parts)
    labelled = re.sub(
        r' aria-labelledby="([^"]*)"',
        lambda found: f' aria-labelledby="{" ".join(f"{number}-{each}" for each in found[1].split())}"',
        numbered,
    )
    return Markup(labelled)


def _build_main(report: Report, figures: Figures, typed: Callable[[str], str]) -> list[Markup]:
    """Return the header of a run, and its sections."""
    sections = (
        _build_next(report, typed),
        _build_problems(report),
        _build_move(figures),
        _build_columns(figures),
        _build_times(report, figures),
        _build_sizes(figures),
        _build_proofs(figures),
        _build_slowest(figures),
        _build_notes("preserved", "Not preserved", report.not_preserved),
        _build_notes("notes", "Notes", report.notes),
    )
    return [_build_header(report), *(section for section in sections if section)]


def _build_page(title: str, *body: Markup) -> str:
    style = resources.files(__package__ or __name__).joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("title", title),
        element("style", Markup(style)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', *body), lang='en')}\n"


def _build_header(report: Report) -> Markup:
    css_class, mark = {
        0: ("good", "✓ Done"),
        EXIT_PROBLEMS: ("warn", "! Finished, with problems"),
        EXIT_FAILED: ("bad", "✗ Failed"),
    }.get(report.exit_code, ("warn", "! Not finished"))
    if report.dry_run:
        mark = "A plan"
    between = report.source if report.source == report.destination else f"{report.source} → {report.destination}"
    how = f"{report.strategy.words}: {report.strategy_reason}" if report.kind == "run" else report.strategy_reason
    when = datetime.fromtimestamp(report.started, UTC)
    done = (kind for kind in OutcomeKind if kind.done and report.counts.get(kind))
    facts = [
        *((f"{noun(report)}s {word(report, kind)}", f"{report.counts[kind]:,}") for kind in done),
        ("problems", f"{report.problem_count:,}"),
    ]
    if report.sample:
        facts.append((f"of {report.sample[1]:,} rows, read as a sample", f"{report.sample[0]:,}"))
    if report.kind == "run":
        facts.append(("rows re-pointed", f"{report.rows_repointed:,}"))
    if report.rows_remaining is not None:
        facts.append((f"rows that still name {clipped(report.source, 40)}", f"{report.rows_remaining:,}"))
    if report.bytes_copied_by_service:
        facts.append(("copied by the service", size(report.bytes_copied_by_service)))
    facts += [("through this process", size(report.bytes_copied)), ("took", duration(report.seconds))]
    if report.bytes_copied and report.seconds > 0:
        facts.append(("on average", f"{size(report.bytes_copied / report.seconds)}/s"))
    return joined(
        element(
            "header",
            element("p", mark, class_="mark"),
            element("h1", headline(report)),
            element("p", element("bdi", clipped(between)), " · ", clipped(how, 300)),
            element(
                "p", f"{report.kind} ", element("code", report.run), f"{', resumed' if report.resumed else ''}, begun ",
                element("time", f"{when:%Y-%m-%d %H:%M:%S} UTC", datetime=when.isoformat(timespec="seconds")), class_="soft",
            ),
            class_=css_class,
        ),
        element("dl", *(element("div", element("dt", what), element("dd", number)) for what, number in facts), class_="facts"),
    )  # fmt: skip


def _build_next(report: Report, typed: Callable[[str], str]) -> Markup:
    parts = []
    if report.problem_count:
        count = amount(report.problem_count, "problem")
        parts.append(element("p", element("a", count, href="#problems"), ", below. Then:"))
    for command, purpose in next_steps(report):
        shown = element("p", f"{purpose[:1].upper()}{purpose[1:]}:") if purpose else ""
        parts.append(joined(shown, element("pre", typed(command))))
    return _build_section("next", "What to do next", *(parts or [element("p", "Nothing.")]))


def _build_problems(report: Report) -> Markup | None:
    if not report.problem_count:
        return None
    parts, room, shown = [], PROBLEMS_CHARS, 0
    for kind in OutcomeKind:
        lines = []
        for outcome in report.problems:
            if outcome.kind is kind and room > 0:
                lines.append(_build_problem(outcome))
                room -= len(lines[-1])
        if lines:
            shown += len(lines)
            label = f"{kind.words}: {amount(report.counts.get(kind, len(lines)), noun(report))}"
            head = _build_head("Object", "Why", "Rows that name it")
            caption = element("caption", ADVICE[kind])
            table = element("table", caption, head, element("tbody", *lines), class_="problems")
            parts.append(joined(element("h3", label), _make_scrollable(table, label)))
    if report.problem_count > shown:
        rest = amount(report.problem_count - shown, f"more {noun(report)}")
        parts.append(element("p", f"And {rest}; the journal has them all, table migrate_storage_object."))
    return _build_section("problems", f"Problems: {amount(report.problem_count, noun(report))}", *parts)


def _build_problem(outcome: Outcome) -> Markup:
    place: list[str] = [element("bdi", clipped(outcome.source.path) or "(no filename)")]
    if outcome.destination.path and outcome.destination.path != outcome.source.path:
        place += [" → ", element("bdi", clipped(outcome.destination.path))]
    rows = ", ".join(clipped(str(ref), 100) for ref in outcome.refs[:3])
    more = f" and {len(outcome.refs) - 3:,} more" if len(outcome.refs) > 3 else ""
    reason = element("td", clipped(outcome.reason, 300))
    return _build_row(joined(*place), reason, element("td", element("bdi", rows), more, class_="name"), class_="name")


def _build_columns(figures: Figures) -> Markup | None:
    kinds = list(dict.fromkeys(kind for counts in figures.columns.values() for kind in counts))
    if not kinds:
        return None
    lines = (
        _build_row(
            element("bdi", clipped(column)),
            *(_build_number(f"{counts.get(kind, 0):,}") for kind in kinds),
            class_="name",
        )
        for column, counts in sorted(figures.columns.items())
    )
    caption = element("caption", "Rows, as the journal has them; of listed objects, as far as the report names them.")
    table = element(
        "table",
        caption,
        _build_head("Column", *(kind.replace("_", " ") for kind in kinds), numbers=len(kinds)),
        element("tbody", *lines),
    )
    return _build_section("columns", "Rows by column", _make_scrollable(table, "Rows by column"))


def _build_move(figures: Figures) -> Markup | None:
    if not figures.move:
        return None
    shown = figures.move[-RUNS_IN_PAGE:]
    lines = (
        _build_row(
            element("code", each.run) if each.run else "all of them",
            element("td", each.state.replace("_", " ")),
            *(_build_number(f"{count:,}") for count in (each.rows_repointed, each.objects, each.problems)),
            *(_build_number(size(count)) for count in (each.bytes_copied, each.bytes_copied_by_service)),
            class_="name",
        )
        for each in (*shown, sum_move(figures.move))
    )
    left_out = len(figures.move) - len(shown)
    caption = element(
        "caption", f"The runs between these two keys since the last revert.{f' {left_out:,} earlier ones are not shown.' if left_out else ''}"
    )  # fmt: skip
    head = _build_head(
        "Run", "Ended", "Rows re-pointed", "Objects", "Problems", "Through this process", "By the service", numbers=5
    )
    table = element("table", caption, head, element("tbody", *lines))
    return _build_section(
        "move", f"Runs of this move: {len(figures.move):,}", _make_scrollable(table, "Runs of this move")
    )


def _build_times(report: Report, figures: Figures) -> Markup | None:
    if not any(span.objects for span in figures.spans):
        return None
    step = figures.step
    ends = ("0 s", duration(report.seconds))
    plots: list[tuple[str, str, list[float], Callable[[float], str], bool]] = [
        ("bytes", "Bytes a second", [span.bytes / step for span in figures.spans], _format_rate, True),
        ("objects", "Objects a second", [span.objects / step for span in figures.spans], _format_number, False),
    ]
    if any(span.problems for span in figures.spans):
        problems = [float(span.problems) for span in figures.spans]
        plots.append(("problems", "Problems, when they occurred", problems, _format_count, False))
    drawn = (
        element(
            "figure", element("figcaption", title), plot(name, title, values, shown=shown, ends=ends, binary=binary)
        )
        for name, title, values, shown, binary in plots
    )
    lines = (
        _build_row(
            duration(number * step),
            *(_build_number(text) for text in (f"{span.objects:,}", size(span.bytes), f"{span.problems:,}")),
        )
        for number, span in enumerate(figures.spans)
        if span.objects
    )
    caption = element("caption", f"Objects that ended in each {duration(step)}, and their bytes.")
    head = _build_head("From", "objects", "bytes", "problems", numbers=3)
    table = _make_scrollable(element("table", caption, head, element("tbody", *lines)), "Over time, in numbers")
    late = amount(figures.elsewhen, "object")
    return _build_section(
        "times", "Over time", element("div", *drawn, class_="plots"),
        element("details", element("summary", "The numbers"), table),
        element("p", f"{late} not shown: written to the journal at another time.", class_="soft") if figures.elsewhen else "",
    )  # fmt: skip


def _format_rate(value: float) -> str:
    return f"{size(value)}/s"


def _format_number(value: float) -> str:
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _format_count(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else ""


def _build_sizes(figures: Figures) -> Markup | None:
    """Return a table of the size bands, from the first to the last with objects."""
    names = ["empty", f"up to {size(BANDS[1])}"]
    names += [f"{size(low)} to {size(high)}" for low, high in pairwise(BANDS[1:])]
    bands = list(zip((*names, f"over {size(BANDS[-1])}"), figures.sizes, strict=True))
    filled = [number for number, (_, share) in enumerate(bands) if share.objects]
    title = "How large the objects were"
    shares = dict(bands[filled[0] : filled[-1] + 1]) if filled else {}
    return _build_section("sizes", title, _build_shares(title, "size", shares)) if shares else None


def _build_proofs(figures: Figures) -> Markup | None:
    if not figures.verified_by:
        return None
    title = "How equality was proved"
    ordered = sorted(figures.verified_by.items(), key=lambda item: -item[1].objects)
    tokens = dict.fromkeys(token for proof, _ in ordered for token in split_proof(proof) if token in EXPLANATIONS)
    meant = (joined(element("dt", describe_proof(token)), element("dd", EXPLANATIONS[token])) for token in tokens)
    shares = {describe_proof(proof): share for proof, share in ordered}
    return _build_section("proofs", title, _build_shares(title, "proof", shares), element("dl", *meant, class_="words"))


def _build_shares(title: str, what: str, shares: Mapping[str, Share]) -> Markup:
    most = max(share.objects for share in shares.values())
    lines = (
        _build_row(
            label,
            _build_number(f"{share.objects:,}"),
            _build_number(size(share.bytes)),
            element("td", bar(share.objects, most), class_="share"),
        )
        for label, share in shares.items()
    )
    titles = (element("th", title, scope="col", class_="number") for title in ("objects", "bytes"))
    head = element("thead", element("tr", element("th", what, scope="col"), *titles, element("td", class_="share")))
    return _make_scrollable(element("table", head, element("tbody", *lines)), title)


def _build_slowest(figures: Figures) -> Markup | None:
    if not figures.slowest:
        return None
    lines = (
        _build_row(
            element("bdi", clipped(outcome.source.path)),
            _build_number(duration(outcome.seconds)),
            _build_number("" if outcome.size is None else size(outcome.size)),
            element("td", outcome.kind.words),
            class_="name",
        )
        for outcome in figures.slowest
    )
    head = _build_head("Object", "took", "bytes", numbers=2, after=("outcome",))
    table = element("table", head, element("tbody", *lines))
    return _build_section("slowest", "The slowest", _make_scrollable(table, "The slowest"))


def _build_notes(name: str, title: str, notes: Sequence[Note]) -> Markup | None:
    if not notes:
        return None
    items = []
    for note in notes:
        css_class, sign = _SIGNS[note.severity]
        subject = f"{clipped(note.subject)}: " if note.subject else ""
        mark, code = element("span", f"{sign}. ", class_="mark"), element("code", f"[{note.code}]")
        todo = element("p", note.todo) if note.todo else ""
        items.append(element("li", mark, f"{subject}{note.message} ", code, todo, class_=css_class))
    return _build_section(name, title, element("ul", *items, class_="notes"))


def _build_footer(report: Report, figures: Figures) -> Markup:
    gone = report.objects - figures.objects
    sentences = ["Written by migrate-storage from the journal."]
    if gone > 0:
        why = "a later run took them over, or they were pruned, or the journal has no line for them"
        sentences.append(f"The plots and tables miss {amount(gone, noun(report))}: {why}.")
    sentences.append("It contains filenames and primary keys: share it as you would share those.")
    return element("footer", element("p", " ".join(sentences)))


def _build_section(name: str, title: str, *children: str) -> Markup:
    return element("section", element("h2", title, id=name), *children, aria_labelledby=name)


def _build_head(*titles: str, numbers: int = 0, after: Iterable[str] = ()) -> Markup:
    """Return a table's head: titles, right-aligned ``numbers``, then ``after``."""
    first = len(titles) - numbers
    cells = [
        element("th", title, scope="col", class_="number" if number >= first else None)
        for number, title in enumerate(titles)
    ]
    return element("thead", element("tr", *cells, *(element("th", title, scope="col") for title in after)))


def _build_row(title: str, *cells: Markup, class_: str | None = None) -> Markup:
    return element("tr", element("th", title, scope="row", class_=class_), *cells)


def _build_number(text: str) -> Markup:
    return element("td", text, class_="number")


def _make_scrollable(table: Markup, label: str) -> Markup:
    """Return a table that scrolls, also with the keyboard, if it is too wide."""
    return element("div", table, class_="wide", role="region", aria_label=visible(label), tabindex=0)
