"""A census of a large table: its memory does not grow with the rows; its time is recorded beside that of a bare SELECT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support import ROOT
from tests.support.evidence import Evidence

EVERY = 1_000
"""One row of so many names the key."""
CHILD = """
import json, sys, threading, time
from dataclasses import replace
import sqlalchemy as sa
from migrate_storage.database.census import CensusScope, take_census
from migrate_storage.database.connection import Database
from tests.support.engine.other_process import peak

url = sys.argv[1]
database = Database(url)
database.connect()
scope = CensusScope(keys=("old",), known=frozenset(), tables=("audit", "log"), hidden_excused=True)
began = time.monotonic()
found = take_census(database, scope, wait=threading.Event().wait, send=lambda event: None)
taken = time.monotonic() - began
began = time.monotonic()
most = take_census(database, replace(scope, keys=("new",)), wait=threading.Event().wait, send=lambda event: None)
matching, memory = time.monotonic() - began, peak()
began = time.monotonic()
with sa.create_engine(url).connect().execution_options(stream_results=True, yield_per=1000) as connection:
    for table in ("audit", "log"):
        for row in connection.execute(sa.text(f"SELECT payload, note FROM {table}")):
            pass
print(json.dumps({
    "rows": {str(each): each.rows["old"] for each in found.columns}, "searched": found.rows, "seconds": round(taken, 1),
    "seconds_where_nearly_all_rows_name_the_key": round(matching, 1), "nearly_all": sum(each.rows["new"] for each in most.columns),
    "select_seconds": round(time.monotonic() - began, 1), "peak": memory,
}))
"""
NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT {values} FROM n",
    "postgresql": "SELECT {values} FROM generate_series({first}, {last}) AS n(i)",
    "mysql": "SELECT {values} FROM (SELECT seq AS i FROM seq_{first}_to_{last}) AS n",
}
JOINED = {"mysql": 'CONCAT(\'{{"backend": "\', {key}, \'", "filename": "docs/\', i, \'.pdf", "size": 12345}}\')'}
JOINED_BY_BARS = '\'{{"backend": "\' || {key} || \'", "filename": "docs/\' || i || \'.pdf", "size": 12345}}\''


def fill(url: str, first: int, last: int) -> Counter[str]:
    """Add rows to a table with a key, and a tenth as many to one without; return how many of each name the key."""
    named: Counter[str] = Counter()
    engine = sa.create_engine(url)
    dialect = engine.dialect.name
    kind = {"postgresql": "JSONB", "sqlite": "TEXT", "mysql": "JSON"}[dialect]
    key = f"CASE WHEN i % {EVERY} = 0 THEN 'old' ELSE 'new' END"
    value = JOINED.get(dialect, JOINED_BY_BARS).format(key=key)
    value = f"CAST({value} AS JSONB)" if dialect == "postgresql" else value
    with engine.begin() as connection:
        for table, owned, end in (
            ("audit", "id INTEGER PRIMARY KEY", last),
            ("log", "id INTEGER", first + (last - first) // 10),
        ):
            connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {table} ({owned}, payload {kind}, note TEXT)")
            rows = NUMBERS[dialect].format(first=first, last=end, values=f"i, {value}, 'an old note without a file'")
            connection.execute(sa.text(f"INSERT INTO {table} {rows}"))
            named[f"{table}.payload"] = end // EVERY - (first - 1) // EVERY
    engine.dispose()
    return named


def measure(url: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url], cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_ten_times_the_rows_take_no_more_memory(count: int, database_url: str, evidence: Evidence) -> None:
    named = fill(database_url, 1, count // 10)
    small = measure(database_url)
    named += fill(database_url, count // 10 + 1, count)
    large = measure(database_url)
    assert large["searched"] >= count
    assert large["rows"] == named
    assert large["nearly_all"] == large["searched"] - named.total()
    assert large["peak"] < 200_000_000
    assert large["peak"] <= 1.2 * small["peak"]
    evidence.record(
        "A full census of a large table takes no more memory than one of a tenth of its rows; its seconds are beside those of a bare "
        "SELECT of the same columns",
        database=sa.make_url(database_url).get_backend_name(), **large, peak_of_a_tenth=small["peak"],
    )  # fmt: skip
