"""Journals of earlier versions, by statements that do not change with the program."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_VERSION_1 = """
CREATE TABLE migrate_storage_lease (name VARCHAR(64) NOT NULL, owner VARCHAR(64) NOT NULL, expires {DOUBLE} NOT NULL, PRIMARY KEY (name));
CREATE TABLE migrate_storage_mark (id VARCHAR(32) NOT NULL, table_schema VARCHAR(255), table_name VARCHAR(255) NOT NULL, column_name VARCHAR(255) NOT NULL, pk {TEXT} NOT NULL, backend VARCHAR(255) NOT NULL, path {TEXT} NOT NULL, reason {TEXT} NOT NULL, marked_by VARCHAR(255) NOT NULL, at {DOUBLE} NOT NULL, PRIMARY KEY (id));
CREATE TABLE migrate_storage_object (id VARCHAR(32) NOT NULL, run VARCHAR(36) NOT NULL, part INTEGER, source_key VARCHAR(255) NOT NULL, source_path {TEXT} NOT NULL, destination_key VARCHAR(255) NOT NULL, destination_path {TEXT} NOT NULL, destination_id VARCHAR(32) NOT NULL, state VARCHAR(16) NOT NULL, ours BOOLEAN, outcome VARCHAR(16), reason {TEXT}, evidence VARCHAR(64), size BIGINT, sha256 VARCHAR(64), source_etag VARCHAR(255), source_modified {DOUBLE}, source_version VARCHAR(1024), destination_etag VARCHAR(255), destination_modified {DOUBLE}, destination_version VARCHAR(1024), seconds {DOUBLE}, updated {DOUBLE} NOT NULL, PRIMARY KEY (id));
CREATE INDEX migrate_storage_object_run ON migrate_storage_object (run, state);
CREATE UNIQUE INDEX migrate_storage_object_destination ON migrate_storage_object (destination_id);
CREATE TABLE migrate_storage_outbox (id VARCHAR(32) NOT NULL, backend VARCHAR(255) NOT NULL, path {TEXT} NOT NULL, open BOOLEAN NOT NULL, epoch VARCHAR(32) NOT NULL, sequence BIGINT NOT NULL, side VARCHAR(16) NOT NULL, tombstone BOOLEAN NOT NULL, about {TEXT}, opened {DOUBLE} NOT NULL, busy_until {DOUBLE} NOT NULL, expires {DOUBLE} NOT NULL, claimed_by VARCHAR(32), claimed_until {DOUBLE} NOT NULL, failure {TEXT}, PRIMARY KEY (id));
CREATE INDEX migrate_storage_outbox_backend ON migrate_storage_outbox (backend, open, id);
CREATE TABLE migrate_storage_phase (backend VARCHAR(255) NOT NULL, phase VARCHAR(20) NOT NULL, generation BIGINT NOT NULL, changed {DOUBLE} NOT NULL, compared {TEXT}, PRIMARY KEY (backend));
CREATE TABLE migrate_storage_process (id VARCHAR(32) NOT NULL, backend VARCHAR(255) NOT NULL, name VARCHAR(255) NOT NULL, lowest VARCHAR(20) NOT NULL, highest VARCHAR(20) NOT NULL, seen {DOUBLE} NOT NULL, expires {DOUBLE} NOT NULL, fallbacks BIGINT NOT NULL, fallback_at {DOUBLE} NOT NULL, PRIMARY KEY (id));
CREATE INDEX migrate_storage_process_backend ON migrate_storage_process (backend, expires);
CREATE TABLE migrate_storage_range (run VARCHAR(36) NOT NULL, number INTEGER NOT NULL, total INTEGER NOT NULL, plan VARCHAR(32) NOT NULL, bounds {TEXT} NOT NULL, state VARCHAR(16) NOT NULL, report {TEXT}, doing {TEXT}, PRIMARY KEY (run, number));
CREATE INDEX migrate_storage_range_plan ON migrate_storage_range (plan);
CREATE TABLE migrate_storage_row (id {ID}, run VARCHAR(36) NOT NULL, table_schema VARCHAR(255), table_name VARCHAR(255) NOT NULL, column_name VARCHAR(255) NOT NULL, pk {TEXT} NOT NULL, row_id VARCHAR(32) NOT NULL, objects {TEXT} NOT NULL, old_value {TEXT} NOT NULL, new_value {TEXT} NOT NULL, state VARCHAR(16) NOT NULL, at {DOUBLE} NOT NULL, PRIMARY KEY (id));
CREATE INDEX migrate_storage_row_run ON migrate_storage_row (run, state);
CREATE INDEX migrate_storage_row_row ON migrate_storage_row (row_id);
CREATE TABLE migrate_storage_run (id VARCHAR(36) NOT NULL, kind VARCHAR(16) NOT NULL, source VARCHAR(255) NOT NULL, destination VARCHAR(255) NOT NULL, way VARCHAR(16) NOT NULL, state VARCHAR(16) NOT NULL, started {DOUBLE} NOT NULL, updated {DOUBLE} NOT NULL, finished {DOUBLE}, report {TEXT}, wanted {TEXT}, doing {TEXT}, PRIMARY KEY (id));
CREATE INDEX migrate_storage_run_started ON migrate_storage_run (started);
CREATE TABLE migrate_storage_version (version INTEGER NOT NULL, created {DOUBLE} NOT NULL, PRIMARY KEY (version));
INSERT INTO migrate_storage_version (version, created) VALUES (1, 0)
"""
_VERSION_2 = """
CREATE TABLE migrate_storage_rekey (id BIGINT NOT NULL, run VARCHAR(36) NOT NULL, table_schema VARCHAR(255), table_name VARCHAR(255) NOT NULL, column_name VARCHAR(255) NOT NULL, first_key {TEXT} NOT NULL, last_key {TEXT} NOT NULL, row_count INTEGER NOT NULL, object_count INTEGER NOT NULL, rule {TEXT} NOT NULL, members {BYTES} NOT NULL, state VARCHAR(16) NOT NULL, at {DOUBLE} NOT NULL, PRIMARY KEY (id));
CREATE TABLE migrate_storage_rekey_object (hash BIGINT NOT NULL, range_id BIGINT NOT NULL, PRIMARY KEY (hash, range_id));
UPDATE migrate_storage_version SET version = 2
"""
_TYPES = {
    "postgresql": {"TEXT": "TEXT", "BYTES": "BYTEA", "DOUBLE": "DOUBLE PRECISION", "ID": "BIGSERIAL NOT NULL"},
    "sqlite": {"TEXT": "TEXT", "BYTES": "BLOB", "DOUBLE": "DOUBLE", "ID": "INTEGER NOT NULL"},
    "mysql": {"TEXT": "LONGTEXT", "BYTES": "LONGBLOB", "DOUBLE": "DOUBLE", "ID": "BIGINT NOT NULL AUTO_INCREMENT"},
}
_OPTIONS = {"mysql": " CHARSET=utf8mb4 ENGINE=InnoDB COLLATE utf8mb4_bin"}
OUTCOMES = ("rewritten", "copied", "skipped", "purged", "quarantined", "restored", "known", "orphan", "changed", "missing", "occupied", "conflict", "archived", "unverified", "differs", "failed")  # fmt: skip
PROOFS = ("same place", "same place, listed", "local source, read back", "local source, destination digest", "source digest, read back", "source digest, destination digest", "read twice, read back", "read twice, destination digest", "read twice, by option, read back", "read twice, by option, destination digest", "both read", "journal", "copied by the service, equal digests", "digest", "size", "size and time", "dry run")  # fmt: skip
_REPORT = """{"schema": 1, "kind": "run", "run": "RUN", "state": "limited", "exit_code": 4, "error": "", "way": "move", "way_reason": "the keys reach different storage: each object is copied and verified, then its rows are re-pointed", "source": "old", "destination": "new", "dry_run": false, "resumed": false, "started": 1.0, "finished": 2.0, "passes": 1, "rows_left": 2, "rows_filtered": 0, "rows_known": 0, "rows_moved": 2, "bytes_moved": 20, "counts": {"rewritten": 2}, "evidence": {"local source, read back": 2}, "kept": {}, "rechecked": {}, "listed_total": 0, "listed": [], "not_carried": [{"severity": "info", "code": "not-carried.file", "subject": "old", "message": "a copy does not carry owner, mode and modification time", "todo": "set what you need of it on the destination; the source keeps it until it is purged"}], "notes": [{"severity": "info", "code": "destination.attributes", "subject": "new", "message": "the destination keeps no content type or metadata beside the bytes", "todo": "nothing: they stay in the rows"}], "estimate": null, "sample": null, "elsewhere": [], "hidden_rows": [], "census": null, "narrowed": [], "next_command": "migrate-storage run --from old --to new"}"""
RUN_STATES = ("running", "finished", "stopped", "limited", "failed", "planned")
STRATEGIES = ("swap", "rekey", "move", "take over", "")
STATES = {
    "object": ("intent", "held", "leftover", "listed", "purging", "purged", "removing", "removed", "moving", "deleting", "quarantined", "restoring", "restored", "compared"),
    "row": ("intent", "swapped", "kept", "reverted"),
}  # fmt: skip


def create_tables(connection: sa.Connection, version: int) -> None:
    """Create the tables as version 1 or 2 did."""
    dialect = connection.dialect.name.replace("mariadb", "mysql")
    for statement in f"{_VERSION_1};{_VERSION_2 if version == 2 else ''}".split(";"):
        if statement.strip():
            options = _OPTIONS.get(dialect, "") if statement.lstrip().startswith("CREATE TABLE") else ""
            connection.exec_driver_sql(statement.format(**_TYPES[dialect]) + options)


def insert_every_state(connection: sa.Connection) -> None:
    """Insert a record of each state that version 2 knew, each with its state as filename or run.

    In PostgreSQL there also is the table that a killed re-key left.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("CREATE UNLOGGED TABLE migrate_storage_seen (tail TEXT)")
    for state in STATES["object"]:
        _insert_object(connection, id_=_digest(state), run="r", path=state, state=state, ours=state == "held", part=7)
    for outcome in OUTCOMES:
        _insert_object(
            connection, id_=_digest(f"as {outcome}"), run="r", path=f"as {outcome}", state="intent", outcome=outcome
        )
    for proof in PROOFS:
        _insert_object(
            connection, id_=_digest(f"by {proof}"), run="r", path=f"by {proof}", state="intent", evidence=proof
        )
    for state in STATES["row"]:
        _insert(
            connection, "row", run=state, table_name="t", column_name="c", pk="[1]", row_id=_digest(state), objects="[]",
            old_value="{}", new_value="{}", state=state, at=1.0,
        )  # fmt: skip
    pairs = (*(("move", state) for state in RUN_STATES), *((way, "running") for way in STRATEGIES))
    for way, state in dict.fromkeys(pairs):
        _insert(
            connection, "run", id=f"{way} {state}", kind="run", source="old", destination="new", way=way, state=state,
            started=1.0, updated=1.0, wanted='{"paused": true}', doing='{"bytes": 3, "listed": 1, "rows_moved": 2, "ranges": 4}',
        )  # fmt: skip
    progress = '{"bytes": 3, "listed": 1}'
    _insert(connection, "range", run="r", number=0, total=1, plan="p", bounds="{}", state="open", doing=progress)
    _insert(
        connection, "mark", id=_digest("loss"), table_name="t", column_name="c", pk="[1]", backend="old", path="lost",
        reason="gone", marked_by="me", at=1.0,
    )  # fmt: skip


def repoint_document(connection: sa.Connection, folder: Path, number: int, run: str) -> None:
    """Copy the file of one document of :data:`.APPLICATION` and re-point its row, as a run of version 1 did.

    Args:
        connection: in the application's database, which has the journal.
        folder: of the project.
        number: the document's.
        run: the run's id.
    """
    path = f"d/{number}.txt"
    source, copy = folder / "old" / path, folder / "new" / path
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(source.read_bytes())
    digest, there = hashlib.sha256(copy.read_bytes()).hexdigest(), copy.stat()
    find = sa.text(f"SELECT CAST(file AS {_text_type(connection)}) FROM document WHERE id = :id")
    old = connection.execute(find, {"id": number + 1}).scalar_one()
    new = json.dumps({
        **json.loads(old), "backend": "new", "size": there.st_size, "last_modified": there.st_mtime,
        "checksum": f"sha256:{digest}", "etag": _etag(copy),
    })  # fmt: skip
    value = "CAST(:value AS JSONB)" if connection.dialect.name == "postgresql" else ":value"
    connection.execute(sa.text(f"UPDATE document SET file = {value} WHERE id = :id"), {"value": new, "id": number + 1})
    id_ = _digest(json.dumps(["file", "", "/", str(source).lstrip("/"), "new"]))
    _insert_object(
        connection, id_=id_, run=run, path=path, state="held", outcome="rewritten", ours=True, size=there.st_size, sha256=digest,
        evidence="local source, read back", source_etag=_etag(source), source_modified=source.stat().st_mtime,
        destination_etag=_etag(copy), destination_modified=there.st_mtime, seconds=0.01,
    )  # fmt: skip
    pk = f"[{number + 1}]"
    _insert(
        connection, "row", run=run, table_name="document", column_name="file", pk=pk,
        row_id=_digest(json.dumps([None, "document", "file", pk])), objects=json.dumps([id_]), old_value=old, new_value=new,
        state="swapped", at=1.0,
    )  # fmt: skip


def intend_document(connection: sa.Connection, folder: Path, number: int, run: str) -> None:
    """Record the intent of a run that was killed right after."""
    source = folder / "old" / f"d/{number}.txt"
    id_ = _digest(json.dumps(["file", "", "/", str(source).lstrip("/"), "new"]))
    _insert_object(connection, id_=id_, run=run, path=f"d/{number}.txt", state="intent")


def insert_run(connection: sa.Connection, run: str, *, state: str) -> None:
    """Record a run from ``old`` to ``new``: ``limited``, with a report of schema 1, or ``running``."""
    ended: dict[str, Any] = {"finished": 2.0, "report": _REPORT.replace("RUN", run)} if state == "limited" else {}
    _insert(
        connection, "run", id=run, kind="run", source="old", destination="new", way="move", state=state, started=1.0,
        updated=1.0, **ended,
        doing='{"paused": "", "concurrency": 32, "most_concurrency": 32, "bandwidth": null, "requests_per_second": null, '
        '"objects": 2, "listed": 0, "bytes": 20, "rows_moved": 2}',
    )  # fmt: skip


def _insert_object(connection: sa.Connection, *, id_: str, run: str, path: str, **values: Any) -> None:
    _insert(
        connection, "object", id=id_, run=run, source_key="old", source_path=path, destination_key="new", destination_path=path,
        destination_id=_digest(json.dumps(["new", path])), updated=1.0, **values,
    )  # fmt: skip


def _insert(connection: sa.Connection, table: str, **values: Any) -> None:
    names = ", ".join(values)
    statement = f"INSERT INTO migrate_storage_{table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})"
    connection.execute(sa.text(statement), values)


def _text_type(connection: sa.Connection) -> str:
    return "TEXT" if connection.dialect.name in ("postgresql", "sqlite") else "CHAR"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _etag(path: Path) -> str:
    """The entity tag of a local file, as obstore gives it."""
    stat = path.stat()
    return f"{stat.st_ino:x}-{stat.st_mtime_ns // 1000:x}-{stat.st_size:x}"
