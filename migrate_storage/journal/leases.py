"""The lease that keeps two runs apart: a heartbeat in the database, never a pid or a host name."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select, update

from migrate_storage.core.errors import LeaseHeldError
from migrate_storage.journal.base import Repository

__all__ = ("LeaseRepository",)


class LeaseRepository(Repository):
    """The lines of leases."""

    def acquire(self, owner: str, *, name: str = "engine", seconds: float) -> float:
        """Take the lease if nobody holds it.

        Args:
            owner: who we are: a fresh random name.
            name: which lease.
            seconds: how long it is good for without a heartbeat.

        Returns:
            0.0 when it is ours now, else the seconds until the other's lease ends unless they renew it.
        """

        def take(connection: Connection) -> float:
            table = self.tables.lease
            now = self.database.now(connection)
            mine = update(table).where(table.c.name == name, (table.c.expires < now) | (table.c.owner == owner))
            if connection.execute(mine.values(owner=owner, expires=now + seconds)).rowcount == 1:
                return 0.0
            expires = connection.execute(select(table.c.expires).where(table.c.name == name)).scalar()
            if expires is None:
                connection.execute(insert(table).values(name=name, owner=owner, expires=now + seconds))
                return 0.0
            return max(0.001, float(expires) - now)

        return self._retry_on_conflict(take)

    def renew(self, owner: str, *, name: str = "engine", seconds: float) -> None:
        """Heartbeat.

        Raises:
            LeaseHeldError: it ran out and somebody else took it.
        """
        table = self.tables.lease

        def write(connection: Connection) -> int:
            statement = update(table).where(table.c.name == name, table.c.owner == owner)
            return connection.execute(statement.values(expires=self.database.now(connection) + seconds)).rowcount

        if self.database.transaction(write) != 1:
            raise LeaseHeldError(
                "another run took the lease while this one was held up; what it did is journaled, this one stops"
            )

    def seconds_left(self) -> float:
        """Seconds that a lease is still good for; 0.0 when nobody is at work."""
        expires = func.max(self.tables.lease.c.expires)

        def read(connection: Connection) -> float:
            latest = connection.execute(select(expires)).scalar()
            return 0.0 if latest is None else max(0.0, float(latest) - self.database.now(connection))

        return self.database.transaction(read)

    def release(self, owner: str, *, name: str = "engine") -> None:
        """Give the lease back."""
        table = self.tables.lease
        statement = update(table).where(table.c.name == name, table.c.owner == owner).values(expires=0.0)
        self.database.transaction(lambda connection: connection.execute(statement))
