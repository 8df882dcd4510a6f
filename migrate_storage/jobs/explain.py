"""Explain one row: its files, its journal records, and the next run or revert."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.model import Column, Evidence, Location, OutcomeKind
from migrate_storage.core.proofs import describe_proof
from migrate_storage.core.text import MiB
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.resolved import ResolvedCutover, resolve_backend
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.engine.verify import consistent_with
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.revert.restore_row import RestoreTask, RowRestorer, value_before_runs
from migrate_storage.journal import Journal, ObjectRecord, ObjectState, RowState, object_id
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.memory_budget import MemoryBudget
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate.places import resolve_links

__all__ = ("explain",)


def explain(
    application: Application, column: str, pk: Sequence[str], *, journal: str | None = None, schema: str | None = None
) -> list[str]:
    """Describe one row, its objects and its journal records.

    Args:
        application: has the rows and the backends.
        column: ``table.column``.
        pk: the parts of the primary key, as text.
        journal: URL of another database that has the journal.
        schema: database schema of the journal's tables.

    Returns:
        Lines of text.

    Raises:
        ConfigurationError: the column or the row does not exist.
    """
    (chosen,) = application.select((column,))
    sides = {key: resolve_backend(backend) for key, backend in application.backends.items()}
    with connected(application, journal, schema) as (database, book):
        rows = FileColumn(database, chosen)
        key, value = _find_row(rows, pk)
        lines = [f"{chosen} {', '.join(map(str, pk))}"]
        if value is None:
            return [*lines, "  has no file (NULL)"]
        try:
            slots = parse_slots(chosen, Row(key, value))
        except BrokenValueError as error:
            return [*lines, f"  cannot be read as files: {error}"]
        known_journal = book if book.exists else None
        for slot in slots:
            place = f"{slot.ref.slot} " if slot.ref.path else ""
            lines.append(f"  {place}names {slot.file['backend']}:{slot.file['filename']}")
            lines.extend(f"    {line}" for line in _describe_file(slot.file, sides, known_journal))
        if known_journal is not None:
            lines.extend(f"  {line}" for line in _list_history(known_journal, chosen, key))
            lines.extend(f"  {line}" for line in _predict_revert(known_journal, chosen, key, rows, sides))
        return lines


def _find_row(rows: FileColumn, pk: Sequence[str]) -> tuple[tuple[Any, ...], str | None]:
    if len(pk) != len(rows.column.key):
        count, names = len(rows.column.key), ", ".join(rows.column.key)
        raise ConfigurationError(f"{rows.column.table} has a key of {count} parts ({names}): give {count}")
    found = rows.find(pk)
    if found is None:
        raise ConfigurationError(f"{rows.column.table} has no row with key {', '.join(pk)}")
    return found


def _describe_file(file: Any, sides: dict[str, ResolvedBackend], journal: Journal | None) -> Iterator[str]:
    retry = Retry(3, threading.Event())
    side = sides.get(file["backend"])
    if side is None:
        yield f"the backend {file['backend']!r} is not registered: its place is unknown"
        return
    location = Location(file["backend"], file["filename"])
    compared = None if journal is None else journal.comparisons.at([location]).get(location)
    if isinstance(side, ResolvedCutover):
        yield from _describe_cutover(side, file["filename"], retry, compared)
        return
    evidence = None if compared is None else compared.destination_evidence
    yield from _describe_object(side, file["filename"], retry, evidence, "it")
    if compared is not None:
        yield from _describe_comparison(compared)
    copy = None if journal is None else journal.objects.at_destinations([location]).get(location)
    if copy is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(copy.updated))
        proof = describe_proof(copy.evidence or "nothing")
        outcome = OutcomeKind(copy.outcome).words if copy.outcome else "no outcome"
        yield f"run {copy.run} copied it from {copy.source} ({outcome}, proved by {proof}, {when})"
        yield from _describe_object(side, file["filename"], retry, copy.destination_evidence, "the copy")
        origin = sides.get(copy.source_key)
        if origin is not None:
            yield from _describe_object(origin, copy.source_path, retry, copy.source_evidence, "the source")
        return
    ids = [object_id(resolve_links(side.place(file["filename"])), key) for key in sides]
    records = journal.objects.find(ids).values() if journal is not None else []
    if not records and compared is None:
        yield "the journal knows nothing of it: a run from this key would copy it"
    for record in sorted(records, key=lambda record: record.updated):
        why = f" ({record.reason})" if record.reason else ""
        outcome = f"{OutcomeKind(record.outcome).words if record.outcome else 'not concluded'}{why}"
        yield f"run {record.run} to {record.destination_key or 'nowhere'}: {record.state}, {outcome}"
        if record.destination_key and record.size is not None and record.destination_key in sides:
            destination = sides[record.destination_key]
            evidence = record.destination_evidence
            yield from _describe_object(destination, record.destination_path, retry, evidence, "the copy")
        yield f"now: {_predict_run(record)}"


def _describe_cutover(
    side: ResolvedCutover, filename: str, retry: Retry, compared: ObjectRecord | None
) -> Iterator[str]:
    """Describe both objects of a key, its entry, who reads which of them, and what closes it."""
    yield f"{side.key} is a cutover from {side.backend.source.key} to {side.backend.destination.key}, {side.state.describe()}"
    for which, part in zip(Side, side.parts, strict=True):
        yield from _describe_object(part, filename, retry, None, f"the {which}'s object")
    for phase, order in side.read_sides(filename).items():
        yield f"a process in {phase.name} reads the {', and if it is missing there the '.join(order)}"
    entry = side.find_entry(filename)
    if entry is not None:
        why = "it was deleted, or is being replaced" if entry.tombstone else "the other side may differ"
        yield f"its entry is open and trusts the {entry.side} ({why})"
        yield "now: 'migrate-storage cutover repair' makes both sides the same"
        return
    if compared is not None:
        yield from _describe_comparison(compared)
    yield "now: 'migrate-storage cutover repair --all' copies it where the two sides differ; no run is needed, the row stays"


def _describe_comparison(compared: ObjectRecord) -> Iterator[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(compared.updated))
    yield f"the cutover found both sides equal ({describe_proof(compared.evidence or '')}, {when})"


def _predict_run(record: ObjectRecord) -> str:
    """Describe what a run would do with an object that rows still name at the source."""
    if record.state in (ObjectState.SOURCE_DELETED, ObjectState.SOURCE_DELETING):
        return "its source object was purged: a run finds what is there now"
    if record.state in (ObjectState.VERIFIED, ObjectState.UNREFERENCED) and record.size is not None:
        return "a run uses the copy while both sides are as journaled, and copies again where only the source changed"
    return "a run checks it again, and copies it if it can"


def _predict_revert(
    journal: Journal, column: Column, pk: tuple[Any, ...], rows: FileColumn, sides: dict[str, ResolvedBackend]
) -> Iterator[str]:
    """Describe what a revert would do with the row now, by a dry run."""
    records = [record for record in journal.rows.of_row(column, pk) if record["state"] == RowState.REPOINTED]
    if not records:
        return
    before, used = value_before_runs(records)
    entries = journal.objects.find(list(dict.fromkeys(id_ for record in used for id_ in json.loads(record["objects"]))))
    keys = {(entry.source_key, entry.destination_key) for entry in entries.values()}
    if any(entry.state in (ObjectState.SOURCE_DELETED, ObjectState.SOURCE_DELETING) for entry in entries.values()):
        yield "now: a revert refuses, because a source object was purged"
        return
    if len(keys) != 1 or not all(key in sides for key in next(iter(keys))):
        yield "now: a revert cannot find both of its sides: the keys are not registered, or the journal was pruned"
        return
    source, destination = next(iter(keys))
    for key in (source, destination):
        if isinstance(sides[key], ResolvedCutover):
            yield f"now: a revert refuses, because {key!r} is a cutover"
            return
    resources = CopyResources(
        retry=Retry(3, threading.Event()), memory=MemoryBudget(MiB).reserve, on_bytes=lambda _: None
    )
    restorer = RowRestorer(sides[source], sides[destination], resources, dry_run=True)
    known = {id_: entries.get(id_) for record in used for id_ in json.loads(record["objects"])}
    numbers = tuple(record.get("id", 0) for record in records)
    decision = restorer.restore(
        RestoreTask(rows=rows, pk=pk, record_ids=numbers, now=records[-1]["new_value"], before=before, records=known)
    )
    if decision.kind is OutcomeKind.REVERTED:
        files = _format_files(column, pk, before)
        yield f"now: a revert would name {files} again, if the row still has the value that the run wrote"
    else:
        yield f"now: a revert would leave it: {decision.kind}, {decision.reason}"


def _describe_object(
    side: ResolvedBackend, path: str, retry: Retry, known: Evidence | None, what: str
) -> Iterator[str]:
    if isinstance(side, ResolvedCutover):
        for which, part in zip(Side, side.parts, strict=True):
            yield from _describe_object(part, path, retry, known, f"{what} on the {which}")
        return
    try:
        meta = retry.call(side.resolve(path).head)
    except KeyRefusedError as error:
        yield f"{what} cannot be addressed: {error}"
    except StoreRequestError as error:
        is_missing = error.failure.kind is FailureKind.MISSING
        yield (
            f"{what} is missing at {side.place(path)}"
            if is_missing
            else f"{what} cannot be read at {side.place(path)}: {error}"
        )
    else:
        same = ""
        if known is not None:
            same = ", as journaled" if consistent_with(known, meta.evidence) else ", not as journaled any more"
        yield f"{what} is at {side.place(path)}: {meta.size} bytes, ETag {meta.e_tag or 'none'}{same}"


def _list_history(journal: Journal, column: Column, pk: tuple[Any, ...]) -> Iterator[str]:
    for record in journal.rows.of_row(column, pk):
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record["at"]))
        old, new = (_format_files(column, pk, record[name]) for name in ("old_value", "new_value"))
        yield f"{when} run {record['run']}: {record['state']}, from {old} to {new}"


def _format_files(column: Column, pk: tuple[Any, ...], value: str) -> str:
    slots = parse_slots(column, Row(pk, value))
    return ", ".join(f"{slot.file['backend']}:{slot.file['filename']}" for slot in slots)
