"""Find what would make a run fail before anything is touched, and see what the stores can do by trying it.

The source is only ever read. The destination gets a few objects under a scratch prefix of its own, which are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from migrate_storage.application import Application
from migrate_storage.backend import ObstoreBackend
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, KeyRefusedError, PreflightError
from migrate_storage.model import Attributes, Capabilities, Column, Note, Place, Severity
from migrate_storage.options import RunOptions
from migrate_storage.plan import Route, actual, choose
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rows import BrokenValueError, Rows, parse_slots
from migrate_storage.stores.base import Store
from migrate_storage.stores.failure import FailureKind
from migrate_storage.stores.side import Side
from migrate_storage.translate import same_service

__all__ = ("Facts", "examine", "select_columns")

SCRATCH = ".migrate-storage"
_SAMPLE = 50


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known before the first object: the way, the rows, and what the destination can do."""

    route: Route
    rows: tuple[Rows, ...]
    capabilities: Capabilities
    notes: tuple[Note, ...]
    #: What objects may have that no copy carries, by the kind of their source.
    not_carried: tuple[Note, ...]


def examine(application: Application, options: RunOptions, database: Database, retry: Retry) -> Facts:
    """Look at everything a run needs.

    Args:
        application: its columns and backends.
        options: the run's options.
        database: where the rows are, connected.
        retry: how a failed request is sent again.

    Raises:
        ConfigurationError: bad options, no such key or column, values that are no JSON.
        PreflightError: a store that cannot be reached, read or written as the run would.
    """
    source = Side(_backend(application, options.source))
    rows = tuple(
        Rows(database, column, where=options.where) for column in select_columns(application.columns, options.columns)
    )
    roots = _roots(rows, source)
    notes = [*source.registration.translation.notes, *_triggers(rows, database)]
    _check_source(source, roots, retry)
    if options.destination is None:
        swap = Side(_translated(source))
        route = choose(source, None, swap=swap, keep_rows=False, shared=True)
        return Facts(route=route, rows=rows, capabilities=Capabilities(), notes=tuple(notes), not_carried=())
    if options.destination == options.source:
        raise ConfigurationError(
            f"--from and --to are both {options.source!r}: leave --to out for the swap, or name another key"
        )
    destination = Side(_backend(application, options.destination))
    if not destination.root.root and destination.registration.driver == "fsspec":
        raise ConfigurationError(
            f"the destination {options.destination!r} names no bucket: give its backend a prefix or a URL with one"
        )
    shared, doubt = _shared(source, destination, retry, probe=not options.dry_run)
    route = choose(source, destination, swap=None, keep_rows=options.keep_rows, shared=shared, doubt=doubt)
    capabilities = Capabilities()
    if options.dry_run:
        _check_absent(destination, f"{SCRATCH}/{uuid.uuid4().hex}", retry)
    else:
        capabilities, found = _probe_destination(destination, retry)
        notes.extend(found)
    return Facts(
        route=route, rows=rows, capabilities=capabilities, notes=tuple(notes), not_carried=_not_carried(source)
    )


def select_columns(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """The columns that ``--column`` names, or all of them.

    Raises:
        ConfigurationError: no such column.
    """
    if not names:
        return tuple(columns)
    known = {str(column): column for column in columns}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(f"no StoredObject column {', '.join(unknown)}; there is {', '.join(known)}")
    return tuple(known[name] for name in names)


def _backend(application: Application, key: str) -> Any:
    try:
        return application.backends[key]
    except KeyError:
        known = ", ".join(sorted(application.backends)) or "none"
        raise ConfigurationError(f"no storage backend is registered under {key!r}; registered: {known}") from None


def _translated(source: Side) -> ObstoreBackend:
    try:
        return ObstoreBackend.from_fsspec(source.backend)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{source.key!r} has no obstore counterpart, so that it cannot be swapped: {error}; name a destination with --to"
        ) from error


def _roots(rows: Sequence[Rows], source: Side) -> list[Place]:
    """Buckets in which the first rows' files are; also proof that the columns hold what they should."""
    found: dict[str, Place] = {}
    if source.root.root:
        found[source.root.root] = source.root
    for table in rows:
        sample = table.sample(_SAMPLE)
        broken: list[str] = []
        for row in sample:
            try:
                slots = parse_slots(table.column, row)
            except BrokenValueError as error:
                broken.append(str(error))
                continue
            for slot in slots:
                if slot.file["backend"] == source.key and len(found) < 20:
                    place = source.place(slot.file["filename"])
                    found.setdefault(place.root, replace(place, key=""))
        if sample and len(broken) == len(sample):
            raise ConfigurationError(
                f"{table.column} does not hold files: {broken[0]} (and so in all of the first {len(sample)} rows); is it a StoredObject column?"
            )
    return list(found.values())


def _check_source(source: Side, roots: Sequence[Place], retry: Retry) -> None:
    """A key that cannot exist must be "not found", and a bucket that is missing must be told from a missing key."""
    nowhere = f"{SCRATCH}-{uuid.uuid4().hex}/nothing"
    for root in roots:
        asked = source.at_place(replace(root, key=root.key + nowhere))
        if asked is None:
            continue
        _absent(*asked, f"the source {source.key!r} ({root.service} {root.root})", retry)


def _check_absent(side: Side, path: str, retry: Retry) -> None:
    _absent(*side.at(path), f"the destination {side.key!r} ({side.root.service} {side.root.root})", retry)


def _absent(store: Store, path: str, what: str, retry: Retry) -> None:
    try:
        retry(lambda: store.head(path))
    except StoreFailure as error:
        if error.failure.kind != FailureKind.MISSING:
            raise PreflightError(_unusable(what, "reading a key that does not exist", error)) from error
    else:
        raise PreflightError(
            f"{what} answers that a random key exists: it cannot be asked what it holds; check the endpoint and the path style"
        )
    try:
        retry(lambda: next(iter(store.list(path.rpartition("/")[0])), None))
    except StoreFailure as error:
        kind = error.failure.kind
        if kind is FailureKind.NO_BUCKET:
            raise PreflightError(_unusable(what, "listing", error)) from error


def _unusable(what: str, doing: str, error: StoreFailure) -> str:
    advice = {
        FailureKind.NO_BUCKET: "create the bucket or correct its name",
        FailureKind.DENIED: "check the credentials; S3 also answers so for a missing key where the right to list is missing: grant s3:ListBucket",
        FailureKind.TRANSIENT: "check the endpoint and that the service runs",
        FailureKind.FULL: "make room",
    }.get(error.failure.kind, "check its configuration with 'migrate-storage doctor'")
    return f"{what} cannot be used: {doing} failed: {error.failure.message}; {advice}"


def _shared(source: Side, destination: Side, retry: Retry, *, probe: bool) -> tuple[bool, str]:
    """Whether both sides reach one storage; in doubt one object is written to the destination and looked for."""
    there = destination.root
    told = same_service(source.root, there)
    if told is not None:
        return told, ""
    if not probe:
        return False, "not provably so: a dry run writes no probe"
    name = f"{SCRATCH}/{uuid.uuid4().hex}"
    store, path = destination.at(name)
    place = actual(destination.place(name))
    what = f"the destination {destination.key!r} ({there.service} {there.root})"
    try:
        retry(lambda: store.put(path, b"probe", attributes=Attributes(), create=False, part_size=None))
        asked = source.at_place(replace(source.root, root=place.root, key=place.key))
        if asked is None:
            return True, "in doubt: taken for the same"
        try:
            retry(lambda: asked[0].head(asked[1]))
        except StoreFailure as error:
            if error.failure.kind in (FailureKind.MISSING, FailureKind.NO_BUCKET):
                return False, "a probe object at the destination is not seen through the source"
            return True, "in doubt: taken for the same"
        return True, "a probe object at the destination is seen through the source"
    except StoreFailure as error:
        raise PreflightError(_unusable(what, "writing a probe object", error)) from error
    finally:
        with contextlib.suppress(Exception):
            store.delete(path)
        _tidy(destination, name)


def _probe_destination(side: Side, retry: Retry) -> tuple[Capabilities, list[Note]]:
    name = f"{SCRATCH}/{uuid.uuid4().hex}"
    what = f"the destination {side.key!r} ({side.root.service} {side.root.root})"
    try:
        store, path = side.at(name)
    except KeyRefusedError as error:
        raise PreflightError(f"{what} cannot be used: {error}") from error
    _absent(store, path, what, retry)
    content = b"migrate-storage looks whether it may write here"
    attributes = Attributes(content_type="text/x-probe", metadata={"probe": "1"})
    notes: list[Note] = []
    doing = "writing a probe object"
    try:
        written = retry(lambda: store.put(path, content, attributes=attributes, create=True, part_size=None))
        doing = "reading the probe object back"
        opened = retry(lambda: store.open(path))
        if opened.read() != content:
            raise PreflightError(f"{what} cannot be used: a probe object came back with other bytes than were written")
        keeps = (
            opened.attributes.content_type == attributes.content_type
            and opened.attributes.metadata == attributes.metadata
        )
        create = _refuses_to_replace(store, path)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        capabilities = Capabilities(create_only=create, etag_is_md5=written.e_tag == md5, attributes=keeps)
    except StoreFailure as error:
        raise PreflightError(_unusable(what, doing, error)) from error
    try:
        retry(lambda: store.delete(path))
        _tidy(side, name)
    except StoreFailure as error:
        notes.append(
            Note(
                severity=Severity.WARNING,
                code="destination.delete",
                subject=side.key,
                message=f"the probe object {name} cannot be removed: {error.failure.message}",
                todo="remove it by hand; 'purge' will need the right to delete",
            )
        )
    if not keeps:
        notes.append(
            Note(
                severity=Severity.INFO,
                code="destination.attributes",
                subject=side.key,
                message="the destination keeps no content type or metadata beside the bytes",
                todo="nothing: they stay in the rows",
            )
        )
    return capabilities, notes


def _refuses_to_replace(store: Store, path: str) -> bool:
    try:
        store.put(path, b"other", attributes=Attributes(), create=True, part_size=None)
    except FileExistsError:
        return True
    except Exception:  # noqa: BLE001 - a store that answers anything else is asked by head before each put
        return False
    return False


def _tidy(side: Side, name: str) -> None:
    """Local disks keep the scratch folder when its object is gone."""
    place = side.place(name)
    if place.service == "file":
        with contextlib.suppress(OSError):
            Path("/" + place.key).parent.rmdir()


def _triggers(rows: Sequence[Rows], database: Database) -> list[Note]:
    statements = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :t AND lower(sql) LIKE '%update%'",
        "postgresql": "SELECT DISTINCT trigger_name FROM information_schema.triggers WHERE event_object_table = :t AND event_manipulation = 'UPDATE'",
    }
    statement = statements.get(
        database.dialect,
        "SELECT trigger_name FROM information_schema.triggers WHERE event_object_table = :t AND event_manipulation = 'UPDATE' AND event_object_schema = DATABASE()",
    )
    notes = []
    for table in dict.fromkeys(each.column.table for each in rows):

        def read(connection: Connection, table: str = table) -> list[str]:
            return [str(name) for name in connection.execute(text(statement), {"t": table}).scalars()]

        names = database.transaction(read)
        if names:
            notes.append(
                Note(
                    severity=Severity.WARNING,
                    code="database.trigger",
                    subject=table,
                    message=f"rewriting rows of {table} fires its triggers {', '.join(sorted(names))}",
                    todo="see that they may fire once for each row, or disable them for the run",
                )
            )
    return notes


_CARRIED_NOT = {
    "s3": "object tags, ACLs, storage class, retention and legal holds, encryption settings, older versions and Last-Modified",
    "gcs": "ACLs, storage class, holds, encryption keys, older generations and update time",
    "azure": "blob tags, access tier, immutability, snapshots, older versions and Last-Modified",
    "file": "owner, mode and modification time",
}


def _not_carried(source: Side) -> tuple[Note, ...]:
    service = source.root.service
    what = _CARRIED_NOT.get(service, "anything but bytes, content type, the usual headers and user metadata")
    return (
        Note(
            severity=Severity.INFO,
            code=f"not-carried.{service}",
            subject=source.key,
            message=f"a copy does not carry {what}",
            todo="set what you need of it on the destination; the source keeps it until it is purged",
        ),
    )
