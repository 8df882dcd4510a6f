"""One row's whole story: where its files are on each side, what journal and evidence say, and what a run would do now."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.application.columns import select_columns
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.model import Column, Evidence, OutcomeKind
from migrate_storage.core.text import MiB
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.database.primary_keys import row_id
from migrate_storage.engine.memory_budget import MemoryBudget
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.engine.verify import consistent_with
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.revert.restore_row import RestoreTask, RowRestorer, value_before_runs
from migrate_storage.journal import Journal, ObjectRecord, object_id
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate.places import resolve_links

__all__ = ("explain",)


def explain(
    application: Application, column: str, pk: Sequence[str], *, journal: str | None = None, schema: str | None = None
) -> list[str]:
    """Tell the story of one row.

    Args:
        application: its rows and backends.
        column: ``table.column``.
        pk: the primary key's parts as a person types them.
        journal: URL of another database that holds the journal.
        schema: database schema of the journal's tables.

    Returns:
        Lines of text.

    Raises:
        ConfigurationError: no such column or row.
    """
    (chosen,) = select_columns(application.columns, (column,))
    sides = {key: ResolvedBackend(backend) for key, backend in application.backends.items()}
    with connected(application, journal, schema) as (database, book):
        rows = FileColumn(database, chosen)
        key, value = _find(rows, pk)
        lines = [f"{chosen} {', '.join(map(str, pk))}"]
        if value is None:
            return [*lines, "  holds nothing (NULL)"]
        try:
            slots = parse_slots(chosen, Row(key, value))
        except BrokenValueError as error:
            return [*lines, f"  cannot be read as files: {error}"]
        known = book if book.exists else None
        for slot in slots:
            place = "" if slot.ref.index is None else f"[{slot.ref.index}] "
            lines.append(f"  {place}names {slot.file['backend']}:{slot.file['filename']}")
            lines.extend(f"    {line}" for line in _file(slot.file, sides, known))
        if known is not None:
            lines.extend(f"  {line}" for line in _history(known, chosen, key))
            lines.extend(f"  {line}" for line in _would_undo(known, chosen, key, rows, sides))
        return lines


def _find(rows: FileColumn, pk: Sequence[str]) -> tuple[tuple[Any, ...], str | None]:
    if len(pk) != len(rows.column.key):
        raise ConfigurationError(
            f"{rows.column.table} has a key of {len(rows.column.key)} parts ({', '.join(rows.column.key)}): give {len(rows.column.key)}"
        )
    found = rows.find(pk)
    if found is None:
        raise ConfigurationError(f"{rows.column.table} has no row with key {', '.join(pk)}")
    return found


def _file(file: Any, sides: dict[str, ResolvedBackend], journal: Journal | None) -> Iterator[str]:
    retry = Retry(3, threading.Event())
    side = sides.get(file["backend"])
    if side is None:
        yield f"the backend {file['backend']!r} is not registered: nothing can be said of it"
        return
    yield from _seen(side, file["filename"], retry, None, "it")
    entry = None if journal is None else journal.objects.at_destination(file["backend"], file["filename"])
    if entry is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(entry.updated))
        yield f"run {entry.run} copied it from {entry.source} ({entry.outcome}, proved by {entry.evidence or 'nothing'}, {when})"
        yield from _seen(side, file["filename"], retry, entry.destination_evidence, "the copy")
        origin = sides.get(entry.source_key)
        if origin is not None:
            yield from _seen(origin, entry.source_path, retry, entry.source_evidence, "the source")
        return
    ids = [object_id(resolve_links(side.place(file["filename"])), key) for key in sides]
    lines = sorted(journal.objects.find(ids).values(), key=lambda each: each.updated) if journal is not None else []
    if not lines:
        yield "the journal knows nothing of it: a run from this key would copy it"
    for line in lines:
        why = f" ({line.reason})" if line.reason else ""
        yield f"run {line.run} to {line.destination_key or 'nowhere'}: {line.state}, {line.outcome or 'not concluded'}{why}"
        if line.destination_key and line.size is not None and line.destination_key in sides:
            yield from _seen(
                sides[line.destination_key], line.destination_path, retry, line.destination_evidence, "the copy"
            )
        yield f"now: {_would_run(line)}"


def _would_run(line: ObjectRecord) -> str:
    """What a run would do with an object that rows still name at the source."""
    if line.state in ("purged", "purging"):
        return "its source object was purged: a run finds what stands there now"
    if line.state in ("held", "leftover") and line.size is not None:
        return "a run uses the copy while both sides are as journaled, and copies again where only the source changed"
    return "a run looks at it again, and copies it if it can"


def _would_undo(
    journal: Journal, column: Column, pk: tuple[Any, ...], rows: FileColumn, sides: dict[str, ResolvedBackend]
) -> Iterator[str]:
    """What a revert would do with the row now; nothing is written."""
    lines = [line for line in journal.rows.history(row_id(column, pk)) if line["state"] == "swapped"]
    if not lines:
        return
    before, used = value_before_runs(lines)
    entries = journal.objects.find(list(dict.fromkeys(id_ for line in used for id_ in json.loads(line["objects"]))))
    keys = {(entry.source_key, entry.destination_key) for entry in entries.values()}
    if any(entry.state in ("purged", "purging") for entry in entries.values()):
        yield "now: a revert refuses, because a source object was purged"
        return
    if len(keys) != 1 or not all(key in sides for key in next(iter(keys))):
        yield "now: a revert cannot tell both of its sides: the keys are not registered, or the journal was pruned"
        return
    source, destination = next(iter(keys))
    resources = CopyResources(
        retry=Retry(3, threading.Event()), memory=MemoryBudget(MiB).reserve, on_bytes=lambda _: None
    )
    putback = RowRestorer(sides[source], sides[destination], resources, dry_run=True)
    known = {id_: entries.get(id_) for line in used for id_ in json.loads(line["objects"])}
    numbers = tuple(line["id"] for line in lines)
    ready = putback.restore(
        RestoreTask(rows=rows, pk=pk, lines=numbers, now=lines[-1]["new_value"], before=before, entries=known)
    )
    if ready.kind is OutcomeKind.REWRITTEN:
        yield f"now: a revert would name {_names(json.loads(before))} again, if the row still holds what the run wrote"
    else:
        yield f"now: a revert would leave it: {ready.kind}, {ready.reason}"


def _seen(side: ResolvedBackend, path: str, retry: Retry, known: Evidence | None, what: str) -> Iterator[str]:
    try:
        meta = retry.call(side.resolve(path).head)
    except KeyRefusedError as error:
        yield f"{what} cannot be addressed: {error}"
    except StoreRequestError as error:
        yield (
            f"{what} is missing at {side.place(path)}"
            if error.failure.kind is FailureKind.MISSING
            else f"{what} cannot be read at {side.place(path)}: {error}"
        )
    else:
        same = (
            ""
            if known is None
            else ", as journaled"
            if consistent_with(known, meta.evidence)
            else ", not as journaled any more"
        )
        yield f"{what} is at {side.place(path)}: {meta.size} bytes, ETag {meta.e_tag or 'none'}{same}"


def _history(journal: Journal, column: Column, pk: tuple[Any, ...]) -> Iterator[str]:
    for line in journal.rows.history(row_id(column, pk)):
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(line["at"]))
        old, new = json.loads(line["old_value"]), json.loads(line["new_value"])
        yield f"{when} run {line['run']}: {line['state']}, from {_names(old)} to {_names(new)}"


def _names(value: Any) -> str:
    files = value if isinstance(value, list) else [value]
    return ", ".join(f"{file['backend']}:{file['filename']}" for file in files if isinstance(file, dict))
