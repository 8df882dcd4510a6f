"""The report of a run, as a value and as JSON.

The JSON of :meth:`Report.to_dict` has a stable schema with the number :data:`SCHEMA`. A later version adds names, and
never changes the meaning of one. Times are seconds since the epoch. ``null`` means "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrate_storage.core.census import Census
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_LIMIT_REACHED, EXIT_PROBLEMS
from migrate_storage.core.links import LinkFindings
from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity, Strategy
from migrate_storage.reporting.estimate import Estimate
from migrate_storage.reporting.schema_1 import upgrade_report

__all__ = ("MAX_PROBLEMS", "SCHEMA", "Report", "note_to_dict", "outcome_from_dict", "outcome_to_dict")

SCHEMA = 2
MAX_PROBLEMS = 1000
"""Outcomes that a report has at most as ``problems``. ``problem_count`` counts all of them."""

_PLAIN_FIELDS = (
    *("kind", "run", "strategy_reason", "source", "destination", "state", "error", "dry_run", "resumed", "started"),
    *("finished", "passes", "rows_remaining", "rows_excluded", "rows_repointed", "bytes_copied", "next_command"),
)
"""Fields that are the same in JSON. Each report of this schema has them."""
_STATES = ("completed", "interrupted", "limit_reached", "failed", "planned")
_EXIT_CODES = {"interrupted": EXIT_INTERRUPTED, "limit_reached": EXIT_LIMIT_REACHED, "failed": EXIT_FAILED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The result of a job.

    Raises:
        ValueError: when ``state`` has an unknown value.
    """

    #: ``run``, ``revert``, ``verify``, ``purge``, ``orphans``, ``links``, ``sync`` or ``check``.
    kind: str = "run"
    #: Id of the run, for ``status``, ``report`` and ``revert``.
    run: str
    strategy: Strategy
    #: The reason for the strategy, in one line.
    strategy_reason: str
    #: Backend key that rows named before.
    source: str
    #: Backend key that rows name afterwards.
    destination: str
    #: ``completed``, ``interrupted`` (by the user), ``limit_reached`` (by a limit), ``failed`` or ``planned`` (a dry run).
    state: str
    #: The reason of a failure, in one line.
    error: str = ""
    dry_run: bool = False
    #: Whether the run continued an earlier one.
    resumed: bool = False
    #: Seconds since the epoch.
    started: float
    finished: float
    #: Passes over the rows. The last pass of a finished run found nothing new.
    passes: int = 0
    #: Objects by outcome.
    counts: Mapping[OutcomeKind, int] = field(default_factory=dict)
    #: Rows that the run updated to the new key.
    rows_repointed: int = 0
    #: Rows that still name ``source`` at the end; ``None`` if they were not counted.
    rows_remaining: int | None = None
    #: Rows that still name ``source`` because patterns exclude their files.
    rows_excluded: int = 0
    #: Rows among ``rows_remaining`` whose object is a known loss.
    rows_known_missing: int = 0
    #: Bytes of content that passed through this process. Of a purge: bytes that it freed, or would free.
    bytes_copied: int = 0
    #: Bytes of the objects that the service copied by itself.
    bytes_copied_by_service: int = 0
    #: Objects by how equality was proved, such as ``{"content_compared": 500}``.
    verified_by: Mapping[str, int] = field(default_factory=dict)
    #: Objects that a purge kept, by the reason, such as ``{"a row or list still names it": 2}``.
    kept: Mapping[str, int] = field(default_factory=dict)
    #: Objects that are no orphans, by the reason, such as ``{"referenced by a row or list": 9}``.
    in_use: Mapping[str, int] = field(default_factory=dict)
    #: What ``run --recheck`` checked and did: ``objects``, ``copied_again`` and ``rows_repaired``; empty for other jobs.
    rechecked: Mapping[str, int] = field(default_factory=dict)
    #: The first :data:`MAX_PROBLEMS` outcomes that are not done.
    problems: tuple[Outcome, ...] = ()
    #: Properties of source objects that copies do not have, such as tags, ACLs or the storage class.
    not_preserved: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()
    #: Bytes, requests and time of a plan that would copy objects.
    estimate: Estimate | None = None
    #: Rows of a plan's sample, and all rows that name ``source``. ``counts`` and ``problems`` are of the sample, and
    #: ``estimate`` is scaled to all rows.
    sample: tuple[int, int] | None = None
    #: Other databases of the application, each with its columns: the numbers of rows are not about them.
    elsewhere: tuple[str, ...] = ()
    #: Tables with rows that row level security hides from the role; the numbers of rows are not about these rows.
    hidden_rows: tuple[str, ...] = ()
    #: The search of the whole database for ``source``: at the end of the job, or for a plan the latest one.
    census: Census | None = None
    #: The public addresses that ``links`` found.
    links: LinkFindings | None = None
    #: The options that restricted the rows, such as ``--where``; empty where all of them were dealt with.
    narrowed: tuple[str, ...] = ()
    #: The command to type next.
    next_command: str = ""

    def __post_init__(self) -> None:
        if self.state not in _STATES:
            raise ValueError(f"state must be one of {', '.join(_STATES)}, not {self.state!r}")

    @property
    def seconds(self) -> float:
        """Duration of the run in seconds."""
        return max(0.0, self.finished - self.started)

    @property
    def objects(self) -> int:
        """Objects of all outcomes."""
        return sum(self.counts.values())

    @property
    def problem_count(self) -> int:
        """All outcomes that are not done, also those beyond :data:`MAX_PROBLEMS`."""
        return sum(count for kind, count in self.counts.items() if not kind.done)

    @property
    def own_census(self) -> Census | None:
        """The census, if the job itself took it. A plan has the latest one."""
        return None if self.dry_run else self.census

    @property
    def rows_should_leave(self) -> bool:
        """Whether no row names the source key after a completed run of this strategy."""
        copied_only = bool(self.counts.get(OutcomeKind.COPIED))
        return self.strategy in {Strategy.REKEY, Strategy.MOVE} and self.source != self.destination and not copied_only

    @property
    def exit_code(self) -> int:
        """The exit code of the command line.

        ======  ==========================================================================
        code    when
        ======  ==========================================================================
        0       completed or planned, without problems
        1       completed or planned, with problems, or with rows that still name the source key, also in columns
                that no model has; or a column could not be searched, and is not excused; or an address of a moved
                object stays
        3       stopped by a fatal error; the same command resumes
        4       stopped at a limit; the same command resumes
        130     interrupted; the same command resumes (the command line makes it 143 for SIGTERM)
        ======  ==========================================================================
        """
        if self.state in _EXIT_CODES:
            return _EXIT_CODES[self.state]
        left = (self.rows_remaining or 0) > self.rows_known_missing and self.rows_should_leave and not self.dry_run
        census = self.own_census
        open_ = census is not None and self.kind == "run" and (census.unknown(self.source) or census.unseen)
        stays = self.links is not None and self.links.has_open
        return EXIT_PROBLEMS if self.problem_count or left or open_ or stays else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON can represent."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "run": self.run,
            "state": self.state,
            "exit_code": self.exit_code,
            "error": self.error,
            "strategy": self.strategy.value,
            "strategy_reason": self.strategy_reason,
            "source": self.source,
            "destination": self.destination,
            "dry_run": self.dry_run,
            "resumed": self.resumed,
            "started": self.started,
            "finished": self.finished,
            "passes": self.passes,
            "rows_remaining": self.rows_remaining,
            "rows_excluded": self.rows_excluded,
            "rows_known_missing": self.rows_known_missing,
            "rows_repointed": self.rows_repointed,
            "bytes_copied": self.bytes_copied,
            "bytes_copied_by_service": self.bytes_copied_by_service,
            "counts": {kind.value: self.counts[kind] for kind in OutcomeKind if self.counts.get(kind)},
            "verified_by": dict(self.verified_by),
            "kept": dict(self.kept),
            "in_use": dict(self.in_use),
            "rechecked": dict(self.rechecked),
            "problem_count": self.problem_count,
            "problems": [outcome_to_dict(outcome) for outcome in self.problems],
            "not_preserved": [note_to_dict(note) for note in self.not_preserved],
            "notes": [note_to_dict(note) for note in self.notes],
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "sample": None if self.sample is None else {"rows": self.sample[0], "of": self.sample[1]},
            "elsewhere": list(self.elsewhere),
            "hidden_rows": list(self.hidden_rows),
            "census": None if self.census is None else self.census.to_dict(),
            "links": None if self.links is None else self.links.to_dict(),
            "narrowed": list(self.narrowed),
            "next_command": self.next_command,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Return the report of :meth:`to_dict`, also of schema 1. Primary keys have JSON types.

        Raises:
            ConfigurationError: when the data has another schema.
        """
        if data.get("schema") == 1:
            data = upgrade_report(data)
        if data.get("schema") != SCHEMA:
            raise ConfigurationError(f"this report has schema {data.get('schema')!r}; this version reads {SCHEMA}")
        plain = {name: data[name] for name in _PLAIN_FIELDS}
        return cls(
            **plain,
            strategy=Strategy(data["strategy"]),
            estimate=Estimate.from_dict(data["estimate"]) if data.get("estimate") else None,
            rows_known_missing=data.get("rows_known_missing", 0),
            bytes_copied_by_service=data.get("bytes_copied_by_service", 0),
            census=Census.from_dict(data["census"]) if data.get("census") else None,
            links=LinkFindings.from_dict(data["links"]) if data.get("links") else None,
            narrowed=tuple(data.get("narrowed", ())),
            sample=(data["sample"]["rows"], data["sample"]["of"]) if data.get("sample") else None,
            counts={OutcomeKind(kind): count for kind, count in data["counts"].items()},
            elsewhere=tuple(data.get("elsewhere", ())),
            hidden_rows=tuple(data.get("hidden_rows", ())),
            verified_by=dict(data["verified_by"]),
            kept=dict(data.get("kept", {})),
            in_use=dict(data.get("in_use", {})),
            rechecked=dict(data.get("rechecked", {})),
            problems=tuple(outcome_from_dict(value) for value in data["problems"]),
            not_preserved=tuple(_decode_note(value) for value in data["not_preserved"]),
            notes=tuple(_decode_note(value) for value in data["notes"]),
        )


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return JSON values of an outcome. Bytes of keys become ``{"hex": ...}``."""
    return {
        "kind": outcome.kind.value,
        "source": {"backend": outcome.source.backend, "path": outcome.source.path},
        "destination": {"backend": outcome.destination.backend, "path": outcome.destination.path},
        "reason": outcome.reason,
        "size": outcome.size,
        "verified_by": outcome.verified_by,
        "seconds": round(outcome.seconds, 6),
        "rows": [_encode_ref(ref) for ref in outcome.refs],
    }


def outcome_from_dict(data: Mapping[str, Any]) -> Outcome:
    """Return the outcome of :func:`outcome_to_dict`. Primary keys have JSON types."""
    return Outcome(
        kind=OutcomeKind(data["kind"]),
        source=Location(data["source"]["backend"], data["source"]["path"]),
        destination=Location(data["destination"]["backend"], data["destination"]["path"]),
        reason=data["reason"],
        size=data["size"],
        verified_by=data["verified_by"],
        seconds=data["seconds"],
        refs=tuple(_decode_ref(value) for value in data["rows"]),
    )


def _encode_ref(ref: RowRef) -> dict[str, Any]:
    column = ref.column
    named = {"schema": column.schema, "table": column.table, "column": column.column, "key": list(column.key)}
    position = ref.path[0] if len(ref.path) == 1 and isinstance(ref.path[0], int) else None
    return {**named, "pk": [_encode_key(part) for part in ref.pk], "index": position, "path": list(ref.path)}


def _decode_ref(data: Mapping[str, Any]) -> RowRef:
    column = Column(table=data["table"], column=data["column"], schema=data["schema"], key=tuple(data["key"]))
    # A report of an earlier version has the position alone.
    path = data["path"] if "path" in data else [] if data["index"] is None else [data["index"]]
    return RowRef(column, tuple(map(_decode_key, data["pk"])), tuple(path))


def _encode_key(part: object) -> object:
    if isinstance(part, bytes):
        return {"hex": part.hex()}
    return part if isinstance(part, str | int | float | None) else str(part)


def _decode_key(part: Any) -> object:
    return bytes.fromhex(part["hex"]) if isinstance(part, dict) else part


def note_to_dict(note: Note) -> dict[str, str]:
    """Return a note as values that JSON can represent."""
    shown = {"severity": note.severity.value, "code": note.code, "subject": note.subject}
    return {**shown, "message": note.message, "todo": note.todo}


def _decode_note(data: Mapping[str, str]) -> Note:
    return Note(**{**data, "severity": Severity(data["severity"])})  # type: ignore[arg-type]
