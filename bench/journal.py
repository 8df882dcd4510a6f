"""The size of the journal after re-pointing rows on PostgreSQL and SQLite.

Run as ``python -m bench.journal [ROWS]``, 20,000 by default. ``docs/journal.md`` quotes the results.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal, ObjectRecord, RowRecord, RunRecord

ROWS = 20_000
COLUMN = Column(table="documents", column="file", key=("id",))


def value(backend: str, number: int) -> str:
    """A row's value as a FileObject writes it, with a filename of 48 letters."""
    name = f"customers/{number % 997:06d}/documents/{number:012d}.pdf"
    return json.dumps(
        {
            "backend": backend, "filename": name, "content_type": "application/pdf", "size": 12345, "etag": "0" * 32,
            "last_modified": 1700000000.123456, "checksum": f"sha256:{'0' * 64}", "version_id": None, "metadata": {},
        }
    )  # fmt: skip


def fill(journal: Journal, rows: int) -> None:
    """Write the journal records of a run of that many rows, each with its own file."""
    journal.prepare()
    journal.runs.begin(
        RunRecord(
            id="bench", kind="run", source="old", destination="new", way="move", state="running", started=0, updated=0
        )
    )
    for start in range(0, rows, 500):
        numbers = range(start, min(start + 500, rows))
        entries = [
            ObjectRecord(
                id=f"{number:032x}", run="bench", source_key="old", source_path=json.loads(value("old", number))["filename"],
                destination_key="new", destination_path=json.loads(value("new", number))["filename"],
            )
            for number in numbers
        ]  # fmt: skip
        journal.objects.record_intents(entries)
        settled = [
            ObjectRecord(
                id=entry.id, run="bench", source_key="old", source_path=entry.source_path, destination_key="new",
                destination_path=entry.destination_path, state="verified", written_by_us=True, outcome="repointed",
                evidence="source_digest, destination_digest", size=12345, sha256="0" * 64, source_etag="0" * 32,
                source_modified=1700000000.1, destination_etag="0" * 32, destination_modified=1700000000.1, seconds=0.1,
            )
            for entry in entries
        ]  # fmt: skip
        lines = [
            RowRecord(
                run="bench", column=COLUMN, pk=(number,), objects=(f"{number:032x}",), old_value=value("old", number),
                new_value=value("new", number),
            )
            for number in numbers
        ]  # fmt: skip
        journal.database.transaction(
            lambda connection, lines=lines, settled=settled: (
                journal.rows.add_missing(connection, lines),
                journal.objects.record_results(connection, settled),
            )
        )


def measured(url: str, rows: int) -> int:
    """Bytes of the journal after a run of so many rows, indexes included."""
    with contextlib.closing(Database(url)) as database:
        database.connect()
        fill(Journal(database), rows)
    engine = sa.create_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if engine.dialect.name == "sqlite":
                return Path(str(engine.url.database)).stat().st_size
            return int(
                connection.execute(
                    sa.text(
                        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relname LIKE 'migrate_storage_%'"
                    )
                ).scalar_one()
            )
    finally:
        engine.dispose()


def per_million(url: str, rows: int = ROWS) -> float:
    """MiB that the journal takes for a million rows."""
    return measured(url, rows) / rows * 1_000_000 / 1024**2


def main(arguments: list[str] | None = None) -> int:
    """Measure and print: ``[ROWS [URL]]``, on SQLite and on the database of the URL."""
    words = sys.argv[1:] if arguments is None else arguments
    rows = int(words[0]) if words else ROWS
    with tempfile.TemporaryDirectory() as folder:
        print(f"sqlite: {per_million(f'sqlite:///{folder}/journal.db', rows):,.0f} MiB for a million rows")
    if len(words) > 1:
        print(f"{words[1].partition(':')[0]}: {per_million(words[1], rows):,.0f} MiB for a million rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
