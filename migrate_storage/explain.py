"""One row's whole story: where its files are on each side, what journal and evidence say, and what a run would do now."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from migrate_storage.application import Application
from migrate_storage.connections import connected
from migrate_storage.errors import ConfigurationError, KeyRefusedError
from migrate_storage.journal import Journal
from migrate_storage.model import Column, Evidence
from migrate_storage.preflight import select_columns
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rows import BrokenValueError, Row, Rows, parse_slots, row_id
from migrate_storage.stores.failure import FailureKind
from migrate_storage.stores.side import Side
from migrate_storage.verify import unchanged

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
    sides = {key: Side(backend) for key, backend in application.backends.items()}
    with connected(application, journal, schema) as (database, book):
        rows = Rows(database, chosen)
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
        return lines


def _find(rows: Rows, pk: Sequence[str]) -> tuple[tuple[Any, ...], str | None]:
    if len(pk) != len(rows.column.key):
        raise ConfigurationError(
            f"{rows.column.table} has a key of {len(rows.column.key)} parts ({', '.join(rows.column.key)}): give {len(rows.column.key)}"
        )
    found = rows.find(pk)
    if found is None:
        raise ConfigurationError(f"{rows.column.table} has no row with key {', '.join(pk)}")
    return found


def _file(file: Any, sides: dict[str, Side], journal: Journal | None) -> Iterator[str]:
    retry = Retry(3, threading.Event())
    side = sides.get(file["backend"])
    if side is None:
        yield f"the backend {file['backend']!r} is not registered: nothing can be said of it"
        return
    yield from _seen(side, file["filename"], retry, None, "it")
    entry = None if journal is None else journal.at_destination(file["backend"], file["filename"])
    if entry is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(entry.updated))
        yield f"run {entry.run} copied it from {entry.source} ({entry.outcome}, proved by {entry.evidence or 'nothing'}, {when})"
        yield from _seen(side, file["filename"], retry, entry.destination_evidence, "the copy")
        origin = sides.get(entry.source_key)
        if origin is not None:
            yield from _seen(origin, entry.source_path, retry, entry.source_evidence, "the source")
        return
    line = None if journal is None else journal.from_source(file["backend"], file["filename"])
    if line is None:
        yield "the journal knows nothing of it: a run from this key would copy it"
        return
    yield f"run {line.run}: {line.outcome or 'begun'}{f' ({line.reason})' if line.reason else ''}; a run would look at it again"


def _seen(side: Side, path: str, retry: Retry, known: Evidence | None, what: str) -> Iterator[str]:
    try:
        store, key = side.at(path)
        meta = retry(lambda: store.head(key))
    except KeyRefusedError as error:
        yield f"{what} cannot be addressed: {error}"
    except StoreFailure as error:
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
            if unchanged(known, meta.evidence)
            else ", not as journaled any more"
        )
        yield f"{what} is at {side.place(path)}: {meta.size} bytes, ETag {meta.e_tag or 'none'}{same}"


def _history(journal: Journal, column: Column, pk: tuple[Any, ...]) -> Iterator[str]:
    for line in journal.history(row_id(column, pk)):
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(line["at"]))
        old, new = json.loads(line["old_value"]), json.loads(line["new_value"])
        yield f"{when} run {line['run']}: {line['state']}, from {_names(old)} to {_names(new)}"


def _names(value: Any) -> str:
    files = value if isinstance(value, list) else [value]
    return ", ".join(f"{file['backend']}:{file['filename']}" for file in files if isinstance(file, dict))
