"""What a census of the database found, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ("Census", "CensusColumn")


@dataclass(frozen=True, kw_only=True, slots=True)
class CensusColumn:
    """A column in which a key was found, or which could not be searched."""

    schema: str | None
    table: str
    column: str
    #: Rows by the key that they name.
    rows: Mapping[str, int] = field(default_factory=dict)
    #: Whether it is a column of files that the application or the configuration names.
    known: bool = False
    #: Whether the configuration excuses it.
    excused: bool = False
    #: Why it could not be searched, or not to its end; empty where it was.
    unreadable: str = ""

    def __str__(self) -> str:
        return ".".join(part for part in (self.schema, self.table, self.column) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Census:
    """What one census found."""

    #: Seconds since the epoch, by the database's clock.
    started: float
    finished: float
    #: The keys that were searched.
    keys: tuple[str, ...]
    #: Tables, columns and rows that were searched.
    tables: int
    searched: int
    rows: int
    #: The columns with a finding; all others name no key.
    columns: tuple[CensusColumn, ...] = ()
    #: The tables to which it was narrowed; empty where it searched all.
    narrowed: tuple[str, ...] = ()
    #: What the server may hide from the role; empty where it hides nothing.
    hidden: str = ""
    #: Whether that is excused.
    hidden_excused: bool = False
    #: Seconds since it finished, by the database's clock, when it was read from the journal. Not in its JSON.
    age: float = field(default=0.0, compare=False)

    def known(self, key: str) -> int:
        """Rows that name a key in columns that the application knows, and that are not excused."""
        return sum(each.rows.get(key, 0) for each in self.columns if each.known and not each.excused)

    def unknown(self, *keys: str) -> tuple[CensusColumn, ...]:
        """Columns that name one of the keys, and are neither known nor excused."""
        open_ = (each for each in self.columns if not each.known and not each.excused)
        return tuple(each for each in open_ if any(each.rows.get(key) for key in keys))

    def excused(self, key: str) -> tuple[CensusColumn, ...]:
        """Excused columns that name a key."""
        return tuple(each for each in self.columns if each.rows.get(key) and each.excused)

    @property
    def unseen(self) -> tuple[CensusColumn, ...]:
        """Columns that could not be searched, and are not excused."""
        return tuple(each for each in self.columns if each.unreadable and not each.excused)

    @property
    def whole(self) -> bool:
        """Whether everything was searched that the role could be shown."""
        return not (self.narrowed or self.unseen or (self.hidden and not self.hidden_excused))

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON can represent."""
        values = asdict(self)
        del values["age"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Census:
        """Return the census of :meth:`to_dict`."""
        columns = tuple(CensusColumn(**each) for each in data["columns"])
        return cls(**{**data, "columns": columns, "keys": tuple(data["keys"]), "narrowed": tuple(data["narrowed"])})
