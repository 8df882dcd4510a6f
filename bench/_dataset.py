"""The rows and files of the benchmarks whose files are in memory: a few real files, and links to them."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from bench._application import Base, name_of, value_of

__all__ = ("create_rows", "write_files")

_CONTENTS = 16
"""Number of real files. All others are links to them, so that all fit in memory."""


def write_files(contents: Path, below: Path, rows: int, size: int) -> None:
    """Write the file of each row.

    Args:
        contents: the folder of the real files.
        below: the folder of the links, on the same disk.
        rows: their number.
        size: bytes of each file.
    """
    for number in range(_CONTENTS):
        (contents / f"content-{number}").write_bytes(os.urandom(size))
    for number in range(1, rows + 1):
        path = below / name_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(contents / f"content-{number % _CONTENTS}")


def create_rows(connection: sa.Connection, rows: int, size: int) -> None:
    """Create the table in PostgreSQL, with one row a file."""
    Base.metadata.create_all(connection)
    insert = sa.text("INSERT INTO documents (id, title, file) VALUES (:id, 't', CAST(:v AS JSONB))")
    connection.execute(insert, [{"id": n, "v": value_of(n, size)} for n in range(1, rows + 1)])
