"""Choose the strategy of a migration, and what to do with each object."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from migrate_storage.backend.locators import reason_to_refuse, refused_by_successor
from migrate_storage.core.filters import Filters
from migrate_storage.core.model import Location, Place, Slot, Strategy
from migrate_storage.core.preservation import Preservation
from migrate_storage.engine.place_proof import PlaceProof
from migrate_storage.journal import ObjectRecord, digest, object_id
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.translate import encode_key, unaddressable
from migrate_storage.translate.places import resolve_links

__all__ = ("Action", "Item", "MigrationPlan", "choose_strategy", "is_nested")


class Action(enum.StrEnum):
    """What is to be done with one source object."""

    TRANSFER = "transfer"
    """Copy it through this process."""
    COPY = "copy"
    """Let the service copy it; no bytes pass through this process."""
    REWRITE = "rewrite"
    """Its bytes stay where they are; only rows change."""
    SKIP = "skip"
    """Change nothing; read and compare it."""

    @property
    def moves(self) -> bool:
        """Whether a new object is created."""
        return self in (Action.TRANSFER, Action.COPY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One source object, with the slots of this window of rows that name it."""

    source: Location
    destination: Location
    action: Action
    slots: tuple[Slot, ...]
    #: The places of both; ``None`` where only the filenames are known.
    places: tuple[Place, Place] | None = None


@dataclass(frozen=True, kw_only=True)
class MigrationPlan:
    """The source and the destination of a migration, and the rule for filenames."""

    source: ResolvedBackend
    destination: ResolvedBackend
    strategy: Strategy
    #: Why this strategy was chosen, in one line.
    reason: str
    #: Whether both sides reach one storage, so that an equal place is the same object. In doubt they do.
    shared: bool
    #: The filenames that the run includes.
    filters: Filters = field(default_factory=Filters)
    #: Percent-encode keys that the destination cannot address, see :mod:`migrate_storage.core.object_keys`.
    encode: bool = False
    #: Whether the job has an option for that.
    may_encode: bool = True
    #: What copies within the service, by the source's bucket; each was probed.
    copiers: Mapping[str, ServerSideCopier] = field(default_factory=dict)
    #: What copies get beside bytes, headers and user metadata.
    preservation: Preservation = field(default_factory=Preservation)
    #: Gives a copy another filename than its source has; ``None`` where it keeps it. It may raise a ``ValueError``.
    rename: Callable[[str], str] | None = None
    #: Whether no written object proved that both sides are one place: each object is then compared as a whole.
    by_objects: bool = False

    def includes(self, slot: Slot) -> bool:
        """Whether the run includes the file of a slot."""
        return slot.file["backend"] == self.source.key and self.filters.matches(slot.file["filename"])

    def refusal(self, path: str) -> str | None:
        """Return why the destination cannot address a filename; ``None`` where it can."""
        if self.strategy is Strategy.IN_PLACE:
            reason = refused_by_successor(self.source.registration, path)
            return (
                reason
                and f"the registration that replaces {self.source.key!r} does not open this filename: it {reason}"
            )
        service = self.destination.root.service
        reason = self._reason_to_refuse(path)
        if reason is None:
            return None
        offered = self.may_encode and not self.encode
        helps = offered and self._reason_to_refuse(encode_key(path, local=service == "file")) is None
        advice = "--invalid-keys encode gives it a percent-encoded name" if helps else "give it another name"
        return f"{self.destination.key} cannot have this filename: it {reason}; {advice}"

    def _reason_to_refuse(self, path: str) -> str | None:
        registration = self.destination.registration
        return reason_to_refuse(path, registration.translation.config, registration.protocol)

    def copier(self, item: Item) -> ServerSideCopier | None:
        """Return what copies an object within the service; ``None`` where nothing does."""
        if item.action is not Action.COPY:
            return None
        place = item.places[0] if item.places else self.source.place(item.source.path)
        return self.copiers[place.root]

    def source_of(self, item: Item) -> ObjectAt:
        """Return the source object of an item.

        Raises:
            KeyRefusedError: no library can address its key.
        """
        return self.source.resolve(item.source.path, item.places[0] if item.places else None)

    def destination_of(self, item: Item) -> ObjectAt:
        """Return the object at the destination of an item.

        Raises:
            KeyRefusedError: no library can address its key.
        """
        return self.destination.resolve(item.destination.path, item.places[1] if item.places else None)

    def has_id(self, record: ObjectRecord) -> bool:
        """Whether the source of a record is where its key is registered now."""
        if record.source_key != self.source.key:
            return True  # registered elsewhere, which this plan does not know
        return object_id(self.source.place(record.source_path), record.destination_key) == record.id

    def destination_path(self, filename: str) -> str:
        """Return the filename that a row will have.

        An object that is inside the destination already keeps its place. Any other one keeps its key below the source's
        bucket and prefix. Then ``rename`` may give it another one.

        Raises:
            ValueError: ``rename`` gives it no filename.
        """
        return self._name_copy(filename, self.source.place(filename))

    def kept_path(self, filename: str) -> str:
        """Return the filename that a row would have without ``rename``."""
        return self._encode(self._keep_name(filename, self.source.place(filename)))

    def _name_copy(self, filename: str, place: Place) -> str:
        if self.strategy is Strategy.IN_PLACE:
            return filename
        path = self._keep_name(filename, place)
        return self._encode(path if self.rename is None else self.rename(path))

    def _keep_name(self, filename: str, place: Place) -> str:
        root = self.destination.root
        if self.shared and root.root == place.root and place.key.startswith(root.key):
            return place.key[len(root.key) :]
        return self.source.registration.relative(filename, place)

    def _encode(self, path: str) -> str:
        return encode_key(path, local=self.destination.root.service == "file") if self.encode else path

    def items(self, slots: Iterable[Slot]) -> dict[str, Item]:
        """Return one item for each source object that the slots name, by its journal id.

        Raises:
            ValueError: a filename is no valid Unicode text, or ``rename`` gives it no other one.
        """
        found: dict[str, Item] = {}
        for slot in slots:
            filename = slot.file["filename"]
            if not _is_unicode(filename):
                raise ValueError("a filename in it is no valid Unicode: no store and no database can be asked for it")
            if "\0" in filename:
                raise ValueError("a filename in it has a NUL character, which no disk and no PostgreSQL can store")
            place = self.source.place(filename)
            id_ = object_id(place, self.destination.key)
            if self.strategy is Strategy.IN_PLACE and self.refusal(filename):
                # Another row may name the same object in a way that is opened.
                id_ = digest(id_, filename)
            if id_ in found:
                found[id_] = replace(found[id_], slots=(*found[id_].slots, slot))
                continue
            path = self._name_copy(filename, place)
            places = None if self.strategy is Strategy.IN_PLACE else (place, self.destination.place(path))
            found[id_] = Item(
                source=Location(self.source.key, filename), destination=Location(self.destination.key, path),
                action=self._choose_action(places), slots=(slot,), places=places,
            )  # fmt: skip
        return found

    def _choose_action(self, places: tuple[Place, Place] | None) -> Action:
        if places is None:
            return Action.SKIP
        place, there = places
        if self.shared:
            if (there.root, there.key) == (place.root, place.key):
                return Action.REWRITE
            return self.choose_copy(place)
        return Action.TRANSFER

    def choose_copy(self, place: Place) -> Action:
        """Return how an object is copied: by its service where a probe showed that it does, else through this process.

        Args:
            place: of the source object.
        """
        by_service = place.root in self.copiers and unaddressable(place.key) is None and not self.preservation.is_asked
        return Action.COPY if by_service else Action.TRANSFER


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_nested(source: ResolvedBackend, destination: ResolvedBackend) -> bool:
    """Whether one side is below the other, if both are on one service."""
    here, there = resolve_links(source.root), resolve_links(destination.root)
    nested = here.key.startswith(there.key) or there.key.startswith(here.key)
    return (not here.root or here.root == there.root) and nested


def choose_strategy(
    source: ResolvedBackend,
    destination: ResolvedBackend | None,
    *,
    swap: ResolvedBackend | None,
    proof: PlaceProof,
    keep_rows: bool = False,
    renames: bool = False,
) -> MigrationPlan:
    """Choose the strategy of a migration.

    Args:
        source: the side that rows name.
        destination: the side that they are to name; ``None`` to stay under the same key.
        swap: the translation of the source under its own key, where ``destination`` is ``None``.
        proof: whether both reach one storage.
        keep_rows: whether rows stay as they are.
        renames: whether copies get other filenames.
    """
    if destination is None:
        assert swap is not None
        reason = (
            "no --to is given: rows and bytes stay, and every row is opened through both registrations and compared"
        )
        reason += f" ({proof.reason})" if proof.reason else ""
        return MigrationPlan(
            source=source,
            destination=swap,
            strategy=Strategy.IN_PLACE,
            reason=reason,
            shared=True,
            by_objects=proof.by_objects,
        )
    inside = proof.shared and is_nested(source, destination)
    note = f" ({proof.reason})" if proof.reason else ""
    if keep_rows:
        strategy, reason = (
            Strategy.MIRROR,
            "--keep-rows is given: everything is copied and verified, rows stay as they are",
        )
    elif inside and not renames:
        strategy, reason = (
            Strategy.REKEY,
            f"both keys reach the same storage{note}: bytes stay where they are, only rows change",
        )
    else:
        apart = "different places of one storage" if proof.shared and note else "different storage"
        each = "each object"
        if inside:
            apart, each = "the same storage", "each object that gets another name"
        strategy, reason = (
            Strategy.MOVE,
            f"the keys reach {apart}{note}: {each} is copied and verified, then its rows are re-pointed",
        )
    return MigrationPlan(
        source=source,
        destination=destination,
        strategy=strategy,
        reason=reason,
        shared=proof.shared,
        by_objects=proof.by_objects,
    )
