"""The report of a run: one value, rendered as text for a person and as JSON for a machine.

The JSON (:meth:`Report.to_dict`) has a stable schema, numbered by :data:`SCHEMA`: a later version adds names and
never changes the meaning of one. Bytes are bytes, times are seconds since the epoch, ``null`` means "not known".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from migrate_storage.errors import ConfigurationError
from migrate_storage.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity, Way
from migrate_storage.text import amount, duration, size, visible

__all__ = ("LISTED", "SCHEMA", "Report", "outcome_from_dict", "outcome_to_dict", "render")

SCHEMA = 1
LISTED = 1000
"""Outcomes that a report lists in full; ``listed_total`` counts all of them."""

_STATES = ("finished", "stopped", "limited", "failed", "planned")
_EXIT_CODES = {"stopped": 130, "limited": 4, "failed": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a run did, and what is left.

    Raises:
        ValueError: when ``state`` is none of its values.
    """

    #: ``run``, ``revert``, ``verify``, ``purge``, ``sync`` or ``check``.
    kind: str = "run"
    #: Name of the run, as ``status``, ``report`` and ``revert`` take it.
    run: str
    way: Way
    #: Why this way, in one line.
    way_reason: str
    #: Backend key that rows named.
    source: str
    #: Backend key that rows name now.
    destination: str
    #: ``finished``, ``stopped`` (by a person), ``limited`` (by ``--limit``), ``failed`` or ``planned`` (a dry run).
    state: str
    #: Why it failed, in one line; empty otherwise.
    error: str = ""
    dry_run: bool = False
    #: Whether it went on from an earlier run.
    resumed: bool = False
    #: Seconds since the epoch.
    started: float
    finished: float
    #: Passes over the rows; the last one of a finished run found nothing new.
    passes: int = 0
    #: Items by how they ended.
    counts: Mapping[OutcomeKind, int] = field(default_factory=dict)
    #: Rows that this run re-pointed.
    rows_moved: int = 0
    #: Rows that still name ``source``, counted at the end; ``None`` when they were not counted.
    rows_left: int | None = None
    #: Rows that still name ``source`` and were left alone, because include and exclude patterns leave their files out.
    rows_filtered: int = 0
    bytes_moved: int = 0
    #: Items by how equality was proved, such as ``{"md5": 500}``.
    evidence: Mapping[str, int] = field(default_factory=dict)
    #: The outcomes that are not done, at most :data:`LISTED` of them.
    listed: tuple[Outcome, ...] = ()
    listed_total: int = 0
    #: What objects had that the destination does not carry (tags, ACLs, storage class, ...).
    not_carried: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()
    #: The command to type next.
    next_command: str = ""

    def __post_init__(self) -> None:
        if self.state not in _STATES:
            raise ValueError(f"state must be one of {', '.join(_STATES)}, not {self.state!r}")

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return max(0.0, self.finished - self.started)

    @property
    def objects(self) -> int:
        """Items, however they ended."""
        return sum(self.counts.values())

    @property
    def rows_should_leave(self) -> bool:
        """Whether a finished run of this way leaves no row at the source key."""
        copied_only = bool(self.counts.get(OutcomeKind.COPIED))
        return self.way in {Way.REKEY, Way.MOVE} and self.source != self.destination and not copied_only

    @property
    def exit_code(self) -> int:
        """The exit code of the command line.

        ======  ==========================================================================
        code    when
        ======  ==========================================================================
        0       finished or planned, and nothing is listed
        1       finished or planned, with listed items, or with rows that still name the source key
        3       stopped by a fatal error; the same command goes on
        4       stopped at the limit that was set; the same command goes on
        130     interrupted; the same command goes on (143 is the face's, which knows the signal)
        ======  ==========================================================================
        """
        if self.state in _EXIT_CODES:
            return _EXIT_CODES[self.state]
        left = bool(self.rows_left) and self.rows_should_leave and not self.dry_run
        return 1 if self.listed_total or left else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON can hold."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "run": self.run,
            "state": self.state,
            "exit_code": self.exit_code,
            "error": self.error,
            "way": self.way.value,
            "way_reason": self.way_reason,
            "source": self.source,
            "destination": self.destination,
            "dry_run": self.dry_run,
            "resumed": self.resumed,
            "started": self.started,
            "finished": self.finished,
            "passes": self.passes,
            "rows_left": self.rows_left,
            "rows_filtered": self.rows_filtered,
            "rows_moved": self.rows_moved,
            "bytes_moved": self.bytes_moved,
            "counts": {kind.value: self.counts[kind] for kind in OutcomeKind if self.counts.get(kind)},
            "evidence": dict(self.evidence),
            "listed_total": self.listed_total,
            "listed": [outcome_to_dict(outcome) for outcome in self.listed],
            "not_carried": [_note_to_dict(note) for note in self.not_carried],
            "notes": [_note_to_dict(note) for note in self.notes],
            "next_command": self.next_command,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that :meth:`to_dict` was called on. Primary keys come back as JSON holds them.

        Raises:
            ConfigurationError: when the data is of a later schema, or no report.
        """
        if data.get("schema") != SCHEMA:
            raise ConfigurationError(f"this report has schema {data.get('schema')!r}; this version reads {SCHEMA}")
        plain = {
            name: data[name]
            for name in (
                *(
                    "kind",
                    "run",
                    "way_reason",
                    "source",
                    "destination",
                    "state",
                    "error",
                    "dry_run",
                    "resumed",
                    "started",
                ),
                *("finished", "passes", "rows_left", "rows_filtered", "rows_moved", "bytes_moved", "listed_total"),
                "next_command",
            )
        }
        return cls(
            **plain,
            way=Way(data["way"]),
            counts={OutcomeKind(kind): count for kind, count in data["counts"].items()},
            evidence=dict(data["evidence"]),
            listed=tuple(outcome_from_dict(each) for each in data["listed"]),
            not_carried=tuple(_note_from_dict(each) for each in data["not_carried"]),
            notes=tuple(_note_from_dict(each) for each in data["notes"]),
        )


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as values that JSON can hold; bytes in primary keys become ``{"hex": ...}``."""
    return {
        "kind": outcome.kind.value,
        "source": {"backend": outcome.source.backend, "path": outcome.source.path},
        "destination": {"backend": outcome.destination.backend, "path": outcome.destination.path},
        "reason": outcome.reason,
        "size": outcome.size,
        "evidence": outcome.evidence,
        "seconds": round(outcome.seconds, 6),
        "rows": [_ref_to_dict(ref) for ref in outcome.refs],
    }


def outcome_from_dict(data: Mapping[str, Any]) -> Outcome:
    """Return the outcome that :func:`outcome_to_dict` was given, its primary keys as JSON holds them."""
    return Outcome(
        kind=OutcomeKind(data["kind"]),
        source=Location(data["source"]["backend"], data["source"]["path"]),
        destination=Location(data["destination"]["backend"], data["destination"]["path"]),
        reason=data["reason"],
        size=data["size"],
        evidence=data["evidence"],
        seconds=data["seconds"],
        refs=tuple(_ref_from_dict(each) for each in data["rows"]),
    )


def _ref_to_dict(ref: RowRef) -> dict[str, Any]:
    column = ref.column
    return {
        "schema": column.schema,
        "table": column.table,
        "column": column.column,
        "key": list(column.key),
        "pk": [_key_to_json(part) for part in ref.pk],
        "index": ref.index,
    }


def _ref_from_dict(data: Mapping[str, Any]) -> RowRef:
    column = Column(table=data["table"], column=data["column"], schema=data["schema"], key=tuple(data["key"]))
    return RowRef(column, tuple(map(_key_from_json, data["pk"])), data["index"])


def _key_to_json(part: object) -> object:
    if isinstance(part, bytes):
        return {"hex": part.hex()}
    return part if isinstance(part, str | int | float | None) else str(part)


def _key_from_json(part: Any) -> object:
    return bytes.fromhex(part["hex"]) if isinstance(part, dict) else part


def _note_to_dict(note: Note) -> dict[str, str]:
    return {
        "severity": note.severity.value,
        "code": note.code,
        "subject": note.subject,
        "message": note.message,
        "todo": note.todo,
    }


def _note_from_dict(data: Mapping[str, str]) -> Note:
    return Note(**{**data, "severity": Severity(data["severity"])})  # type: ignore[arg-type]


def render(report: Report) -> str:
    """Return the report as lines of text, safe for a terminal: nothing from a key or a row can move its cursor."""
    return "\n".join(visible(line) for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield _first_line(report)
    yield ""
    yield from _facts(report)
    for title, notes in (("Not carried over", report.not_carried), ("Notes", report.notes)):
        if notes:
            yield ""
            yield title
            for note in notes:
                yield from _note_lines(note)
    if report.listed_total:
        yield ""
        yield f"To look at ({amount(report.listed_total, _noun(report))})"
        for outcome in report.listed:
            yield from _outcome_lines(outcome)
        if report.listed_total > len(report.listed):
            yield f"  and {amount(report.listed_total - len(report.listed), f'more {_noun(report)}')}"
    if report.next_command:
        yield ""
        yield "Next"
        yield f"  {report.next_command}"


def _first_line(report: Report) -> str:
    """What a person wants to know first: is it over, and what still stands at the old key."""
    left = report.rows_left
    if report.state == "failed":
        head = f"Stopped by an error: {report.error}"
    elif report.state == "planned" or report.dry_run:
        count = report.counts.get(OutcomeKind.PURGED, 0) if report.kind == "purge" else report.objects
        aim = {"revert": "to look at", "purge": "to delete"}.get(report.kind, "to handle")
        head = f"A plan, nothing was changed: {amount(count, _noun(report))} {aim}"
    elif report.state == "limited":
        head = "Stopped at the limit that you set"
    elif report.state == "stopped":
        head = "Stopped, as asked"
    elif report.listed_total:
        head = f"Finished, with {amount(report.listed_total, _noun(report))} to look at"
    elif report.resumed and not report.objects:
        head = "Finished, nothing was left to do"
    else:
        head = {
            "revert": f"Finished: {amount(report.rows_moved, 'row')} put back",
            "verify": f"Finished: {amount(report.objects, 'object')} looked at, all as they should be",
            "check": f"Finished: {amount(report.objects, 'object')} compared, all equal",
            "sync": f"Finished: {_told(report, 'copied', OutcomeKind.COPIED)}, {_told(report, 'deleted', OutcomeKind.PURGED)}",
            "purge": f"Finished: {amount(report.counts.get(OutcomeKind.PURGED, 0), 'object')} deleted",
        }.get(report.kind, "Finished")
    if left is None:
        return f"{head}."
    if left == 0:
        return f"{head}: no row names {report.source!r} any more." if report.rows_should_leave else f"{head}."
    verb = "still names" if left == 1 else "still name"
    if report.state == "planned" or report.dry_run:
        verb = "names" if left == 1 else "name"
    return f"{head}. {amount(left, 'row')} {verb} {report.source!r}."


_BYTES = {"purge": "freed", "sync": "read"}


def _facts(report: Report) -> Iterator[str]:
    arrow = f"{report.source} -> {report.destination}"
    way = f"{report.way.value}: {report.way_reason}" if report.kind == "run" else report.way_reason
    yield f"  {'way' if report.kind == 'run' else 'what':<10} {way}"
    between = arrow if report.source != report.destination else report.source
    yield f"  {'run':<10} {report.run}, {between}{', resumed' if report.resumed else ''}"
    counted = [f"{report.counts[kind]:,} {_word(report, kind)}" for kind in OutcomeKind if report.counts.get(kind)]
    would = "would be " if report.dry_run and counted else ""
    yield f"  {_noun(report) + 's':<10} {would}{', '.join(counted) or 'none'}"
    if report.kind == "run" and not report.dry_run:
        left = f", {amount(report.rows_filtered, 'row')} left out by include and exclude patterns"
        yield f"  {'rows':<10} {amount(report.rows_moved, 'row')} re-pointed{left if report.rows_filtered else ''}"
        yield f"  {'bytes':<10} {size(report.bytes_moved)}{_rate(report)}"
    elif report.bytes_moved and not report.dry_run:
        yield f"  {'bytes':<10} {size(report.bytes_moved)} {_BYTES.get(report.kind, 'copied back')}{_rate(report) if report.kind == 'sync' else ''}"
    if report.evidence and not report.dry_run:
        proofs = ", ".join(f"{count:,} by {how}" for how, count in sorted(report.evidence.items()))
        yield f"  {'verified':<10} {proofs}"
    when = datetime.fromtimestamp(report.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    passes = f", {amount(report.passes, 'pass', 'passes')}" if report.kind == "run" else ""
    yield f"  {'took':<10} {duration(report.seconds)}{passes}, from {when}"


def _told(report: Report, what: str, kind: OutcomeKind) -> str:
    return f"{report.counts.get(kind, 0):,} {what}"


def _noun(report: Report) -> str:
    """What a job of this kind counts."""
    return "row" if report.kind == "revert" else "object"


def _word(report: Report, kind: OutcomeKind) -> str:
    """An outcome as a person would say it of a job of this kind."""
    said = {
        ("revert", OutcomeKind.REWRITTEN): "put back",
        ("revert", OutcomeKind.SKIPPED): "back already",
        ("verify", OutcomeKind.SKIPPED): "equal",
        ("check", OutcomeKind.SKIPPED): "equal",
        ("sync", OutcomeKind.SKIPPED): "left as they are",
        ("sync", OutcomeKind.PURGED): "deleted",
        ("purge", OutcomeKind.PURGED): "deleted",
        ("purge", OutcomeKind.SKIPPED): "kept",
    }
    return said.get((report.kind, kind), kind.value)


def _rate(report: Report) -> str:
    if not report.bytes_moved or report.seconds < 0.001:
        return ""
    return f" ({size(report.bytes_moved / report.seconds)}/s, {report.objects / report.seconds:,.0f} objects/s)"


def _note_lines(note: Note) -> Iterator[str]:
    subject = f"{note.subject}: " if note.subject else ""
    sign = {Severity.INFO: "-", Severity.WARNING: "!", Severity.REFUSED: "x"}[note.severity]
    yield f"  {sign} {subject}{note.message} [{note.code}]"
    if note.todo:
        yield f"    {note.todo}"


def _outcome_lines(outcome: Outcome) -> Iterator[str]:
    yield f"  {outcome.kind.value:<10} {outcome.source}: {outcome.reason}"
    shown = ", ".join(map(str, outcome.refs[:3]))
    more = f" and {len(outcome.refs) - 3} more" if len(outcome.refs) > 3 else ""
    if shown:
        yield f"  {'':<10} {shown}{more}"
