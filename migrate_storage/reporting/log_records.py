"""The events of a run as log records, with the same fields as JSON lines.

::

    RunJob(application, options, listener=logged())

Each record has an attribute ``migrate_storage``: a dictionary with ``event`` and the fields that the documentation's
page on events lists. structlog's ``ExtraAdder`` and JSON formatters of ``logging`` write it unchanged.
"""

from __future__ import annotations

import logging

from migrate_storage.core import events
from migrate_storage.core.model import Severity
from migrate_storage.core.proofs import describe_proof
from migrate_storage.core.text import visible
from migrate_storage.reporting.progress.json_lines import describe

__all__ = ("logged",)


_COUNTS = events.BytesTransferred | events.CensusAdvanced | events.ShardsProgressed
"""Events that come too often for a log."""


def logged(logger: logging.Logger | None = None) -> events.Listener:
    """Return a listener that logs.

    An object that is done is ``DEBUG``. An object that is not done, a warning and a pause are ``WARNING``. All else is
    ``INFO``. Counts of bytes and of searched rows are not logged.

    Args:
        logger: ``migrate_storage.run`` by default.
    """
    target = logger if logger is not None else logging.getLogger("migrate_storage.run")

    def listen(event: events.Event) -> None:
        level = _choose_level(event)
        if not isinstance(event, _COUNTS) and target.isEnabledFor(level):
            name, values = describe(event)
            target.log(
                level, "%s", visible(_describe_event(event)), extra={"migrate_storage": {"event": name, **values}}
            )

    return listen


def _choose_level(event: events.Event) -> int:
    match event:
        case events.ObjectFinished():
            return logging.DEBUG if event.outcome.kind.done else logging.WARNING
        case events.DiagnosticRaised():
            return logging.INFO if event.note.severity is Severity.INFO else logging.WARNING
        case events.ThrottleChanged():
            return logging.WARNING if event.paused else logging.INFO
        case _:
            return logging.INFO


def _describe_event(event: events.Event) -> str:
    match event:
        case events.RunStarted():
            ends = f"{event.job} {event.run}: {event.source} -> {event.destination}"
            return (
                f"{ends}, {event.strategy.words}: {event.reason}" if event.job == "run" else f"{ends}, {event.reason}"
            )
        case events.PassStarted():
            return f"pass {event.number}"
        case events.ObjectFinished(outcome=outcome):
            reason = f": {outcome.reason}" if outcome.reason else ""
            return f"{outcome.kind.words} {outcome.source}{reason}"
        case events.ObjectsFinished():
            return f"{event.kind.words} {event.objects} objects: {describe_proof(event.verified_by)}"
        case events.DiagnosticRaised(note=note):
            return f"{note.subject}: {note.message}" if note.subject else note.message
        case events.ThrottleChanged():
            at_once = f"{event.concurrency} of {event.most_concurrency} at once"
            return f"paused: {event.paused}" if event.paused else at_once
        case events.ShardsProgressed():
            return f"{event.done} of {event.shards} shards, {event.objects} objects"
        case events.SourceListed():
            return f"{event.objects} objects at the source"
        case events.SyncLag():
            return f"the destination was behind by {event.objects} objects"
        case events.RunFinished():
            return f"run {event.run}: {event.state}"
        case events.CensusAdvanced():
            return f"{event.done} of {event.tables} tables searched, {event.rows} rows"
        case events.BytesTransferred():
            return f"{event.count} bytes"
