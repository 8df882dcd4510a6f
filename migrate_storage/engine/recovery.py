"""Complete the row updates that a killed run left open in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import load_key
from migrate_storage.journal import Journal, RowState

__all__ = ("recover_intents",)


def recover_intents(journal: Journal, database: Database, columns: Sequence[Column]) -> None:
    """Read each row whose update is an intent only, and record its result.

    Intents exist where the journal is in another database than the rows.
    """
    tables: dict[tuple[str | None, str, str], FileColumn] = {}
    known = {(column.schema, column.table, column.column): column for column in columns}
    for batch in journal.rows.in_state(RowState.INTENT):
        for record in batch:
            name = (record["table_schema"], record["table_name"], record["column_name"])
            if name not in known:
                continue
            if name not in tables:
                tables[name] = FileColumn(database, known[name])
            values = {"pk": load_key(record["pk"]), "old": record["old_value"], "new": record["new_value"]}
            result = database.transaction(partial(tables[name].compare_and_swap.result_of, **values))
            journal.rows.set_state(
                record["id"], RowState.REPOINTED if result.done else RowState.SUPERSEDED, result.value
            )
