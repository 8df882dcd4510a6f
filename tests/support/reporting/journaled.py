"""A journal of a run of any size, written record by record, and a browser that opens the page."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity, Strategy
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal, ObjectRecord, RunRecord
from migrate_storage.journal.records import digest
from migrate_storage.reporting import MAX_PROBLEMS, Report

BEGAN, SECONDS = 1_700_000_000.0, 1800.0
DOCUMENTS = Column(table="documents", column="file", key=("id",))
ALBUMS = Column(table="albums", column="pictures", key=("id",))
NAUGHTY = (
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">",
    "' onmouseover='document.title=1' x='",
    "</td></table></main><style>body{display:none}</style>",
    "<!--", "-->", "]]>", "&lt;b&gt;&amp;&#60;script&#62;", "javascript:alert(1)", "{{7*7}}${7*7}",
    "a\x1b[31mred\x07\r\n\x00\x7f\x9b31m", "gnp.\u202egpj.exe", "\u2066hidden\u2069", "\u200bzero\ufeff", "\ud800lone", "\U000e0041tag",
    "</title><base href=http://127.0.0.1:1/>", "<svg/onload=document.title=1>", "ملف.txt", "née/日本語.pdf", "",
)  # fmt: skip
FAILURES = (
    (OutcomeKind.MISSING, "the source holds no such object"),
    (OutcomeKind.DESTINATION_EXISTS, "something else stands at the destination: 812 bytes, 1,024 expected"),
    (OutcomeKind.FAILED, "put: 403 AccessDenied: the credentials may not write here"),
)
NOTES = (
    Note(
        severity=Severity.WARNING, code="not-preserved.tags", subject="old", message="a copy does not preserve object tags",
        todo="set what you need of them on the destination",
    ),
    Note(severity=Severity.INFO, code="destination.attributes", message="the destination keeps content types"),
)  # fmt: skip


def name_of(number: int, hostile: bool) -> str:
    plain = f"uploads/2024/{number % 12 + 1:02}/{number:07}.pdf"
    return f"{NAUGHTY[number % len(NAUGHTY)]}{plain}" if hostile else plain


def journaled(journal: Journal, count: int, *, hostile: bool = False, one_in: int = 400) -> Report:
    """Write the lines of a run over so many objects; one in so many is listed. Returns the run's report."""
    rng, run, table = random.Random(7), f"20231114-221320-{count:08x}", journal.tables
    listed: list[Outcome] = []
    counts: dict[OutcomeKind, int] = {}
    evidence: dict[str, int] = {}
    moved = rows = 0
    journal.prepare()

    def lines() -> Iterator[tuple[ObjectRecord, Column]]:
        nonlocal moved, rows
        for number in range(count):
            column = ALBUMS if number % 7 == 0 else DOCUMENTS
            size = int(min(8e9, rng.lognormvariate(11, 2.4)))
            # The pace of a real run: it warms up, and a service asks it to slow down in between.
            at = BEGAN + SECONDS * min(0.999, (number / count) ** 0.9 + 0.02 * rng.random())
            path = name_of(number, hostile)
            kind, reason, proof = (
                OutcomeKind.REPOINTED,
                "",
                rng.choice(("source_digest", "source_reread")) + ", destination_digest",
            )
            if number % one_in == one_in - 1:
                kind, reason = FAILURES[number // one_in % 3]
                reason, proof = f"{reason} {path}" if hostile else reason, ""
                if len(listed) < MAX_PROBLEMS:
                    refs = (RowRef(column, (path if hostile else number,)),)
                    places = Location("old", path), Location("new", path)
                    listed.append(Outcome(kind=kind, source=places[0], destination=places[1], reason=reason, refs=refs))
            else:
                evidence[proof] = evidence.get(proof, 0) + 1
                moved, rows = moved + size, rows + 1
            counts[kind] = counts.get(kind, 0) + 1
            yield ObjectRecord(
                id=digest("s", str(number)), run=run, source_key="old", source_path=path, destination_key="new", destination_path=path,
                state="verified" if kind.done else "unresolved", outcome=kind, reason=reason or None, evidence=proof or None, size=size,
                seconds=0.01 + size / 40e6 * rng.random(), updated=at,
            ), column  # fmt: skip

    for batch in batched(lines(), 5000):
        objects = [_stored(entry) | {"destination_id": digest("d", entry.id)} for entry, _ in batch]
        swapped = [
            {
                "run": run, "table_schema": None, "table_name": column.table, "column_name": column.column, "pk": "[]",
                "row_id": entry.id, "objects": json.dumps([entry.id]), "old_value": "{}", "new_value": "{}",
                "state": "repointed", "at": entry.updated,
            }
            for entry, column in batch
            if entry.state == "verified"
        ]  # fmt: skip
        journal.database.transaction(partial(_insert, ((table.object, objects), (table.row, swapped))))
    total = sum(number for kind, number in counts.items() if not kind.done)
    report = Report(
        run=run, strategy=Strategy.MOVE, strategy_reason="the keys reach different storage: each object is copied and verified, then its rows are re-pointed",
        source="old", destination="new", state="completed", started=BEGAN, finished=BEGAN + SECONDS, passes=2, counts=counts,
        rows_repointed=rows, rows_remaining=total, bytes_copied=moved, verified_by=evidence, problems=tuple(listed),
        not_preserved=NOTES[:1], notes=NOTES[1:], next_command="migrate-storage run --from old --to new",
    )  # fmt: skip
    journal.runs.begin(
        RunRecord(
            id=run, kind="run", source="old", destination="new", way="move", state="completed", started=BEGAN, updated=BEGAN + SECONDS,
            finished=BEGAN + SECONDS, report=json.dumps(report.to_dict()),
        )
    )  # fmt: skip
    return report


def batched(lines: Iterator[tuple[ObjectRecord, Column]], size: int) -> Iterator[list[tuple[ObjectRecord, Column]]]:
    while batch := list(islice(lines, size)):
        yield batch


def _insert(parts: Sequence[tuple[sa.Table, list[dict[str, object]]]], connection: sa.Connection) -> None:
    for table, lines in parts:
        if lines:
            connection.execute(sa.insert(table), lines)


def _stored(entry: ObjectRecord) -> dict[str, object]:
    """Return an entry that a database accepts: without lone surrogates, and without NUL for PostgreSQL."""
    values = asdict(entry)
    for name in ("source_path", "destination_path", "reason"):
        if values[name]:
            values[name] = values[name].encode("utf-8", "backslashreplace").decode()
    return values


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    database = Database(f"sqlite:///{tmp_path}/journal.db")
    database.connect()
    yield Journal(database)
    database.close()


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., str]:
    """Debian's chromium without a window; returns what it writes to standard output."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: run scripts/services install"

    def run(*arguments: str) -> str:
        profile = tmp_path / "profile"
        ended = subprocess.run(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={profile}", *arguments,
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        shutil.rmtree(profile, ignore_errors=True)
        return ended.stdout

    return run
