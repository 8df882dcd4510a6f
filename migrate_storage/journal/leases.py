"""The records of leases: owner and expiry, by the database's clock."""

from __future__ import annotations

import contextlib
import uuid

from sqlalchemy import Connection, func, insert, select, update

from migrate_storage.core.errors import LeaseHeldError
from migrate_storage.journal.base import Repository

__all__ = ("LeaseRepository",)

_MIN_WAIT_SECONDS = 0.001
"""A wait for a lease that ends this moment: 0.0 means that it was acquired."""


class _RolledBackError(Exception):
    """Ends a transaction that must leave nothing behind."""


class LeaseRepository(Repository):
    """The records of leases."""

    def acquire(self, owner: str, *, name: str = "engine", seconds: float) -> float:
        """Acquire the lease if it is free or expired, or belongs to this owner.

        Args:
            owner: a name that no other process uses.
            name: which lease.
            seconds: how long it is valid without a renewal.

        Returns:
            0.0 when it was acquired, else the seconds until the other owner's lease expires.
        """

        def acquire(connection: Connection) -> float:
            now = self.database.now(connection)
            mine = update(self.table).where(self.c.name == name, (self.c.expires < now) | (self.c.owner == owner))
            if connection.execute(mine.values(owner=owner, expires=now + seconds)).rowcount == 1:
                return 0.0
            expires = connection.execute(select(self.c.expires).where(self.c.name == name)).scalar()
            if expires is None:
                connection.execute(insert(self.table).values(name=name, owner=owner, expires=now + seconds))
                return 0.0
            return max(_MIN_WAIT_SECONDS, float(expires) - now)

        return self._retry_on_conflict(acquire)

    def renew(self, owner: str, *, name: str = "engine", seconds: float) -> None:
        """Extend the lease.

        Raises:
            LeaseHeldError: it expired and another process acquired it.
        """

        def write(connection: Connection) -> int:
            statement = update(self.table).where(self.c.name == name, self.c.owner == owner)
            return connection.execute(statement.values(expires=self.database.now(connection) + seconds)).rowcount

        if self.database.transaction(write) != 1:
            raise LeaseHeldError(
                "another run took the lease while this one was suspended; what it did is journaled, this one stops"
            )

    def release(self, owner: str, *, name: str = "engine") -> None:
        """End the lease now."""
        self._write(update(self.table).where(self.c.name == name, self.c.owner == owner).values(expires=0.0))

    def try_rollback(self) -> bool:
        """Whether a ROLLBACK undoes an INSERT: one is written, rolled back and searched for."""
        name = f"trial-{uuid.uuid4().hex}"

        def write(connection: Connection) -> None:
            connection.execute(insert(self.table).values(name=name, owner=name, expires=0.0))
            raise _RolledBackError

        with contextlib.suppress(_RolledBackError):
            self.database.transaction(write)
        found = select(self.c.name).where(self.c.name == name)
        return self.database.transaction(lambda connection: connection.execute(found).first()) is None

    def seconds_left(self) -> float:
        """Seconds until the last lease expires; 0.0 when all are expired."""
        expires = func.max(self.c.expires)

        def read(connection: Connection) -> float:
            latest = connection.execute(select(expires)).scalar()
            return 0.0 if latest is None else max(0.0, float(latest) - self.database.now(connection))

        return self.database.transaction(read)
