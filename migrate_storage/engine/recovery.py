"""What a killed run left open in the journal is settled from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import load_key
from migrate_storage.journal import Journal

__all__ = ("recover_intents",)


def recover_intents(journal: Journal, database: Database, columns: Sequence[Column]) -> None:
    """Say of each row whose swap was journaled in another database and not settled what became of it: the row knows."""
    tables: dict[tuple[str | None, str, str], FileColumn] = {}
    known = {(column.schema, column.table, column.column): column for column in columns}
    for batch in journal.rows.in_state("intent"):
        for line in batch:
            name = (line["table_schema"], line["table_name"], line["column_name"])
            if name not in known:
                continue
            if name not in tables:
                tables[name] = FileColumn(database, known[name])
            holds = partial(tables[name].compare_and_swap.equals, pk=load_key(line["pk"]), value=line["new_value"])
            journal.rows.set_state(line["id"], "swapped" if database.transaction(holds) else "kept")
