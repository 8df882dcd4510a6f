"""Counts and samples of a large table go in windows, which shrink where the server cancels long statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from migrate_storage.core.model import Column
from migrate_storage.database import file_column
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn

ROWS = 500
MOST_CALLS = 600
LIMITED = {
    # Reads a value, and cancels a statement that reads too many as a timeout does. It is no question of time.
    "postgres": f"""
CREATE FUNCTION limited(value json) RETURNS json IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE calls integer := 1;
BEGIN
    IF current_setting('t.statement', true) IS NOT DISTINCT FROM statement_timestamp()::text THEN
        calls := current_setting('t.calls')::integer + 1;
    END IF;
    PERFORM set_config('t.statement', statement_timestamp()::text, true), set_config('t.calls', calls::text, true);
    IF calls > {MOST_CALLS} THEN RAISE 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END IF;
    RETURN value;
END $$""",
    "mariadb": f"""
CREATE FUNCTION limited(value LONGTEXT CHARACTER SET utf8mb4) RETURNS LONGTEXT CHARACTER SET utf8mb4 DETERMINISTIC
BEGIN
    SET @calls = IF(@statement <=> NOW(6), @calls + 1, 1), @statement = NOW(6);
    IF @calls > {MOST_CALLS} THEN
        SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1969, MESSAGE_TEXT = 'max_statement_time exceeded';
    END IF;
    RETURN value;
END""",
}  # fmt: skip


@pytest.fixture(params=LIMITED)
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileColumn]:
    url = request.getfixturevalue(f"{request.param}_url")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE documents (id INTEGER PRIMARY KEY, file JSON)")
        values = ", ".join(f"""({n}, '{{"backend": "old", "filename": "f{n}"}}')""" for n in range(1, ROWS + 1))
        connection.exec_driver_sql(f"INSERT INTO documents VALUES {values}")
        connection.exec_driver_sql(LIMITED[request.param])
        connection.exec_driver_sql("CREATE VIEW slow AS SELECT id, limited(file) AS file FROM documents")

    monkeypatch.setattr(file_column, "WALK_WINDOW_ROWS", 400)
    with closing(Database(engine, attempts=1)) as database:
        database.connect()
        yield FileColumn(database, Column(table="slow", column="file", key=("id",)))
    engine.dispose()


def test_a_count_that_the_server_cancels_goes_in_smaller_windows(rows: FileColumn) -> None:
    assert rows.estimate("old") == ROWS
    assert rows.estimate("other") == 0


def test_so_do_the_rows_themselves(rows: FileColumn) -> None:
    assert sum(len(window) for window in rows.windows("old", 400)) == ROWS


def test_split_points_cut_a_table_into_equal_ranges(rows: FileColumn) -> None:
    assert rows.split_points(5) == [(100,), (200,), (300,), (400,)]
    assert len(rows.split_points(3)) == 2


def test_work_in_ranges_and_samples_shrink_too(rows: FileColumn) -> None:
    read = rows.in_ranges(400, lambda connection, part: connection.execute(part.select(part.raw)).all())
    keys = [key for found in read for key, _ in found]
    assert keys == list(range(1, ROWS + 1))
    [first, second] = rows.sample_windows("old", 2, of=ROWS, size=20)
    assert ([row.pk for row in first], second[0].pk) == ([(number,) for number in range(1, 21)], (251,))
