"""What a search for public addresses found in the columns of a database, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ("LinkBase", "LinkColumn", "LinkFindings")


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkBase:
    """What the addresses of files begin with."""

    address: str
    #: What the filenames have before what follows in the address.
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.address}={self.folder}" if self.folder else self.address


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkColumn:
    """A column with addresses, or one that could not be searched."""

    schema: str | None
    table: str
    column: str
    #: Rows with an address.
    rows: int = 0
    #: Addresses of all kinds.
    addresses: int = 0
    #: Addresses that name a moved object, and can be changed where the column can.
    moved: int = 0
    #: Addresses that name no moved object.
    unmoved: int = 0
    #: Addresses that name a moved object in a spelling that is not changed, by the reason.
    unchanged: Mapping[str, int] = field(default_factory=dict)
    #: Whether it is excused: reported, never changed, and no reason for an exit code.
    excused: bool = False
    #: Why it could not be searched, or not to its end; empty where it was.
    unreadable: str = ""
    #: Why its values cannot be changed; empty where they can, or where none has to be.
    obstacle: str = ""

    def __str__(self) -> str:
        return ".".join(part for part in (self.schema, self.table, self.column) if part)

    @property
    def left(self) -> int:
        """Addresses of moved objects that no rewrite changes."""
        return sum(self.unchanged.values()) + (self.moved if self.obstacle else 0)

    def add(self, other: LinkColumn) -> LinkColumn:
        """The findings of both: a column of a partition has those of the whole table."""
        reasons = dict.fromkeys((*self.unchanged, *other.unchanged))
        return LinkColumn(
            schema=self.schema, table=self.table, column=self.column, rows=self.rows + other.rows,
            addresses=self.addresses + other.addresses, moved=self.moved + other.moved, unmoved=self.unmoved + other.unmoved,
            unchanged={reason: self.unchanged.get(reason, 0) + other.unchanged.get(reason, 0) for reason in reasons},
            excused=self.excused or other.excused, unreadable=self.unreadable or other.unreadable,
            obstacle=self.obstacle or other.obstacle,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkFindings:
    """What one search found."""

    #: What the searched addresses begin with, and what the new ones do; ``None`` where no new one is known.
    old: tuple[LinkBase, ...]
    new: LinkBase | None
    #: Moved objects whose addresses were searched.
    objects: int
    #: Tables, columns and rows that were searched.
    tables: int
    searched: int
    rows: int
    #: Columns with a finding.
    columns: tuple[LinkColumn, ...] = ()
    #: Whether the job was to change the addresses, and did not only report them.
    rewrites: bool = False
    #: Addresses that were changed, or would be.
    rewritten: int = 0
    #: The tables to which it was narrowed; empty where it searched all.
    narrowed: tuple[str, ...] = ()
    #: What the server may hide from the role; empty where it hides nothing.
    hidden: str = ""
    hidden_excused: bool = False

    @property
    def moved(self) -> int:
        """Addresses that name a moved object and can be spelled anew."""
        return sum(each.moved for each in self.columns)

    @property
    def has_open(self) -> bool:
        """Whether an address of a moved object stays, or something was not seen."""
        counted = [each for each in self.columns if not each.excused]
        stays = any(each.left if self.rewrites else each.left or each.moved for each in counted)
        return stays or any(each.unreadable for each in counted) or bool(self.hidden and not self.hidden_excused)

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON can represent."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LinkFindings:
        """Return the findings of :meth:`to_dict`."""
        return cls(**{
            **data, "old": tuple(LinkBase(**each) for each in data["old"]),
            "new": LinkBase(**data["new"]) if data["new"] else None,
            "columns": tuple(LinkColumn(**each) for each in data["columns"]), "narrowed": tuple(data["narrowed"]),
        })  # fmt: skip
