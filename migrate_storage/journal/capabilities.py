"""The records of what probes showed of stores, so that a run within the hour need not ask it all again."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

from sqlalchemy import Connection, insert, select, update

from migrate_storage.core.model import Capabilities
from migrate_storage.journal.base import Repository

__all__ = ("CapabilityRepository",)

_VALID_SECONDS = 3600.0
"""How long a record counts after its probe, by the database's clock."""


class CapabilityRepository(Repository):
    """The records of capabilities, by the digest of a store's configuration.

    No record is about where a place is, or about who may write or delete: that is proved before each run.
    """

    def find(self, store_id: str) -> Capabilities | None:
        """Return what a probe of the last hour showed of a store; ``None`` where there was none.

        Args:
            store_id: of :func:`migrate_storage.stores.config.store_id.compute_store_id`.
        """

        def read(connection: Connection) -> str | None:
            now = self.database.now(connection)
            # A time that is still to come is of a clock that was set back.
            valid = (self.c.at > now - _VALID_SECONDS) & (self.c.at <= now)
            statement = select(self.c.found).where(self.c.id == store_id, valid)
            return connection.execute(statement).scalars().first()

        found = self.database.transaction(read)
        return None if found is None else _parse(found)

    def save(self, store_id: str, found: Capabilities) -> None:
        """Write down what a probe has shown just now."""

        def write(connection: Connection) -> None:
            values = {"found": json.dumps(asdict(found)), "at": self.database.now(connection)}
            known = update(self.table).where(self.c.id == store_id).values(values)
            if not connection.execute(known).rowcount:
                connection.execute(insert(self.table).values(id=store_id, **values))

        self._retry_on_conflict(write)

    def forget(self, store_id: str) -> None:
        """Let the next run probe a store, because a request was answered otherwise than recorded."""
        self._write(update(self.table).where(self.c.id == store_id).values(at=0.0))


def _parse(text: str) -> Capabilities | None:
    """Return the capabilities of a record; ``None`` where another version of this program wrote other ones."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    names = {each.name for each in fields(Capabilities)}
    if (
        not isinstance(found, dict)
        or found.keys() != names
        or not all(isinstance(value, bool) for value in found.values())
    ):
        return None
    return Capabilities(**found)
