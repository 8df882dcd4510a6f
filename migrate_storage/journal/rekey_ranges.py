"""One record for a range of rows that a re-key re-pointed together.

It keeps the key and the old value of each row, and each object as it was listed. All else that the records of these rows and
objects have follows from the rule of the re-key, so that :func:`list_objects` and :func:`list_rows` give them back.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from migrate_storage.core.model import Column, Location, OutcomeKind, Place
from migrate_storage.core.proofs import SAME_OBJECT_LISTING
from migrate_storage.database.file_json import BrokenValueError, rewrite_value, set_fields
from migrate_storage.database.primary_keys import dump_key, load_parts, row_id_of
from migrate_storage.journal.records import ObjectRecord
from migrate_storage.journal.states import ObjectState, RowState

__all__ = (
    "HASH_DIGITS",
    "ListedFacts",
    "RekeyMember",
    "RekeyRange",
    "RekeyRule",
    "hash_of",
    "list_objects",
    "list_rows",
    "new_range_id",
    "pack_members",
    "unpack_members",
)

_COMPRESSION_LEVEL = 1
"""The members are written once and seldom read, so speed counts."""
HASH_DIGITS = 15
"""Hexadecimal digits of an object's id that are its hash, which fits into a BIGINT."""


class ListedFacts(NamedTuple):
    """What a listing shows of an object."""

    size: int
    e_tag: str | None
    last_modified: float | None
    version: str | None


@dataclass(frozen=True, kw_only=True)
class RekeyRule:
    """How a re-key changes filenames: one prefix in place of another, before the rest of the name, which stays."""

    source_key: str
    destination_key: str
    #: The prefix of a row's filename before.
    old: str
    #: The prefix of a row's filename after.
    new: str
    #: The place of an object whose name has nothing but the prefix.
    place: Place

    def dump(self) -> str:
        """The rule as JSON, which :meth:`load` reads. The same rule always has the same text."""
        place = self.place
        names = (place.service, place.endpoint, place.root, place.key)
        return json.dumps([self.source_key, self.destination_key, self.old, self.new, *names])

    @staticmethod
    def load(text: str) -> RekeyRule:
        """The rule that :meth:`dump` wrote."""
        source_key, destination_key, old, new, service, endpoint, root, key = json.loads(text)
        place = Place(service=service, endpoint=endpoint, root=root, key=key)
        return RekeyRule(source_key=source_key, destination_key=destination_key, old=old, new=new, place=place)

    def id_of(self, tail: str) -> str:
        """As :func:`.object_id`: the id of the object with this rest of a name."""
        found = self._begun_id.copy()
        found.update(f"{json.dumps(tail)[1:-1]}{self._end_of_name}".encode())
        return str(found.hexdigest()[:32])

    @cached_property
    def _end_of_name(self) -> str:
        return f'", {json.dumps(self.destination_key)}]'

    @cached_property
    def _begun_id(self) -> Any:
        place = self.place
        begun = json.dumps([place.service, place.endpoint, place.root, place.key])[:-2]
        return hashlib.sha256(begun.encode())

    def find_tail(self, destination: Location) -> str | None:
        """The rest of a destination's name; ``None`` where the rule gives no such name."""
        if destination.backend != self.destination_key or not destination.path.startswith(self.new):
            return None
        return destination.path[len(self.new) :]

    @property
    def destination_root(self) -> Place:
        """The place of the destination's root. Two rules with the same give one filename one place."""
        return replace(self.place, key=self.place.key.removesuffix(self.new))

    def file_fields(self, tail: str, facts: ListedFacts) -> dict[str, Any]:
        """The fields of a file's JSON that the re-key sets."""
        return {
            "backend": self.destination_key, "filename": self.new + tail, "size": facts.size, "etag": facts.e_tag,
            "last_modified": facts.last_modified, "version_id": facts.version,
        }  # fmt: skip


class RekeyMember(NamedTuple):
    """One row of a range, and the object that it names."""

    #: The row's key, each part as JSON of :func:`.dump_key`.
    pk: list[Any]
    #: The rest of the filename behind the rule's prefix.
    tail: str
    size: int
    e_tag: str | None
    last_modified: float | None
    version: str | None
    #: The row's value before.
    old_value: str
    #: 0 where another range of the run has the object.
    fresh: int = 1

    @property
    def facts(self) -> ListedFacts:
        """The object as it was listed."""
        return ListedFacts(self.size, self.e_tag, self.last_modified, self.version)


@dataclass(frozen=True, kw_only=True)
class RekeyRange:
    """The record of one range. The fields are columns of the table of re-keyed ranges."""

    id: int
    run: str
    table_schema: str | None
    table_name: str
    column_name: str
    #: The keys of its first and its last row, as :func:`.dump_key` writes them.
    first_key: str
    last_key: str
    row_count: int
    #: Its objects, without those that another range of the run has.
    object_count: int
    #: The rule of the re-key, as :meth:`RekeyRule.dump` writes it.
    rule: str
    #: The members as JSON, compressed or not.
    members: bytes
    #: ``packed``, or ``unpacked`` when its rows and objects got records of their own.
    state: str = "packed"
    at: float = 0.0


def new_range_id() -> int:
    """A new number of a range."""
    return secrets.randbits(62)


def hash_of(id_: str) -> int:
    """The number by which a range is found that has an object with this id."""
    return int(id_[:HASH_DIGITS], 16)


def pack_members(members: Sequence[RekeyMember]) -> bytes:
    """The members as they are stored."""
    return zlib.compress(json.dumps(members, separators=(",", ":")).encode(), _COMPRESSION_LEVEL)


def unpack_members(packed: bytes) -> list[RekeyMember]:
    """The members as they were, also where the database wrote them, which does not compress them as Python does."""
    text = bytes(packed)
    return [RekeyMember(*each) for each in json.loads(text if text[:1] == b"[" else zlib.decompress(text))]


def list_objects(
    of: RekeyRange, members: Iterable[RekeyMember], *, all_of_them: bool = False
) -> Iterator[ObjectRecord]:
    """Yield the record of each object among these members, each once.

    Args:
        of: the range.
        members: some of its members, or all.
        all_of_them: also those objects that another range of the run has.
    """
    rule, seen = RekeyRule.load(of.rule), set[str]()
    for member in members:
        if (member.fresh or all_of_them) and member.tail not in seen:
            seen.add(member.tail)
            yield ObjectRecord(
                id=rule.id_of(member.tail), run=of.run, source_key=rule.source_key, source_path=rule.old + member.tail,
                destination_key=rule.destination_key, destination_path=rule.new + member.tail, state=ObjectState.VERIFIED, written_by_us=False,
                outcome=OutcomeKind.REPOINTED, evidence=SAME_OBJECT_LISTING, size=member.size, updated=of.at,
                source_etag=member.e_tag, source_modified=member.last_modified, source_version=member.version,
                destination_etag=member.e_tag, destination_modified=member.last_modified, destination_version=member.version,
            )  # fmt: skip


def list_rows(of: RekeyRange, members: Iterable[RekeyMember]) -> Iterator[dict[str, Any]]:
    """Yield the record of each row among these members, as the columns of the table of rows without ``id``."""
    rule = RekeyRule.load(of.rule)
    column = Column(table=of.table_name, column=of.column_name, schema=of.table_schema, key=())
    for member in members:
        pk = dump_key(load_parts(member.pk))
        yield {
            "run": of.run, "table_schema": of.table_schema, "table_name": of.table_name, "column_name": of.column_name,
            "pk": pk, "row_id": row_id_of(column, pk), "objects": json.dumps([rule.id_of(member.tail)]),
            "old_value": member.old_value, "new_value": _new_value(member.old_value, rule.file_fields(member.tail, member.facts)),
            "state": RowState.REPOINTED, "at": of.at,
        }  # fmt: skip


def _new_value(value: str, fields: dict[str, Any]) -> str:
    """The value that the re-key wrote. The text is the same too where the column is text."""
    try:
        return rewrite_value(value, {(): fields})
    except BrokenValueError:
        # It has a number that Python would spell otherwise. JSONB, the only type of such a range, compares values.
        return set_fields(value, fields)
