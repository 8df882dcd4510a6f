"""The rules of a purge: an object may be deleted only where nothing can still need it."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import OutcomeKind, Place
from migrate_storage.core.proofs import AS_WRITTEN, COPY_VERIFIED, DELETED_BEFORE, ROW_DELETED
from migrate_storage.core.text import age
from migrate_storage.engine.references import ReferencedPlaces, ServiceIdentity
from migrate_storage.engine.verify import consistent_with, is_as_recorded, proven_unchanged
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.journal import ObjectRecord, ObjectState, object_id
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from migrate_storage.translate.places import resolve_links

__all__ = ("PurgeOptions", "PurgeRules")


@dataclass(frozen=True, kw_only=True, slots=True)
class PurgeOptions(CensusOptions):
    """What a purge deletes, and its limits."""

    #: Delete destination copies that no row names, instead of source objects.
    unreferenced_copies: bool = False
    #: Also source objects whose rows the application has deleted since.
    include_deleted_rows: bool = False
    #: Seconds that must have passed since an object's copy was verified.
    older_than: float = 7 * 86400.0
    #: More candidates than this stop the purge before the first delete.
    max_delete: int = 1000
    #: A file with a filename a line, or a SELECT: names that something other than rows uses.
    references: tuple[str, ...] = ()
    #: Really delete; without it nothing is changed.
    yes: bool = False
    journal: str | None = None
    journal_schema: str | None = None
    lease_ttl: float = 15.0


@dataclass(frozen=True, slots=True)
class PurgeDecision:
    """The decision about one object."""

    kind: OutcomeKind
    #: Why the object is kept; for ``DELETED``, the token why it may be deleted.
    reason: str
    #: Its store keeps old versions.
    versioned: bool = False
    #: A killed purge deleted it, and could not record that.
    gone: bool = False


class PurgeRules:
    """Decides about one object: cheap tests first, requests to the stores last, right before the DELETE.

    ``now`` is the time by the journal's database, whose clock is that of the records.
    """

    def __init__(
        self,
        source: ResolvedBackend,
        destination: ResolvedBackend,
        references: ReferencedPlaces,
        services: ServiceIdentity,
        options: PurgeOptions,
        retry: Retry,
        *,
        now: float,
    ) -> None:
        self._source, self._destination = source, destination
        self._references, self._services, self._options, self._retry = references, services, options, retry
        self._now = now

    def decide(self, entry: ObjectRecord) -> PurgeDecision:
        """Decide about one object."""
        if kept := self.reason_to_keep(entry):
            return PurgeDecision(OutcomeKind.KEPT, kept)
        try:
            return self._check_leftover(entry) if self._options.unreferenced_copies else self._check_objects(entry)
        except KeyRefusedError as error:
            return PurgeDecision(OutcomeKind.FAILED, str(error))

    def delete(self, entry: ObjectRecord) -> None:
        """Delete the object."""
        side, path = self._source, entry.source_path
        if self._options.unreferenced_copies:
            side, path = self._destination, entry.destination_path
        self._retry.call(side.resolve(path).delete)

    def reason_to_keep(self, entry: ObjectRecord) -> str:
        """Return why an object is kept by a test that needs no request to a store; empty where it passes them all."""
        here, there = self._places(entry)
        if self._now - entry.updated < self._options.older_than:
            return f"verified less than {age(self._options.older_than)} ago (--older-than)"
        moved = object_id(here, entry.destination_key) != entry.id
        # A leftover that we wrote is no source object, wherever the source key is registered now.
        if moved and not (self._options.unreferenced_copies and entry.written_by_us is True):
            return f"{entry.source_key!r} is registered for another place now than when it was copied"
        if self._options.unreferenced_copies:
            if entry.written_by_us is not True:
                return "not provably written by us"
            if self._references.names(there):
                return "a row or list names it"
            may_be_source = not moved and self._services.may_be_same(here, there)
            return "it may be the source object itself" if may_be_source else ""
        if self._services.may_be_same(here, there) or entry.same_place:
            return "source and destination are one place"
        if entry.outcome not in (OutcomeKind.REPOINTED, OutcomeKind.COPIED):
            return f"its run ended as {OutcomeKind(entry.outcome).words if entry.outcome else None}"
        if self._references.names(here):
            return "a row or list still names it"
        if not self._references.names(there) and not self._options.include_deleted_rows:
            return "its row is gone: --include-deleted-rows takes such objects too"
        return ""

    @property
    def _remedy(self) -> str:
        return f"'migrate-storage run --from {self._source.key} --to {self._destination.key} --recheck'"

    def _places(self, entry: ObjectRecord) -> tuple[Place, Place]:
        here, there = self._source.place(entry.source_path), self._destination.place(entry.destination_path)
        return resolve_links(here), resolve_links(there)

    def _check_objects(self, entry: ObjectRecord) -> PurgeDecision:
        source = self._source.resolve(entry.source_path)
        here = self._retry.or_none_if_missing(source.head)
        destination = self._destination.resolve(entry.destination_path)
        found = self._retry.or_none_if_missing(destination.head)
        # Where no row is left, the application has most likely deleted the copy with it; that is what --include-deleted-rows is for.
        orphan = not self._references.names(self._places(entry)[1])
        if here is None:
            if entry.state == ObjectState.SOURCE_DELETING:
                return PurgeDecision(OutcomeKind.DELETED, DELETED_BEFORE, gone=True)
            if found is None and not orphan:
                return PurgeDecision(OutcomeKind.MISSING, f"it and its copy {entry.destination} are both gone")
            return PurgeDecision(OutcomeKind.KEPT, "gone already")
        if found is None and not orphan:
            reason = f"its copy {entry.destination} is gone: this may be the last one; {self._remedy} copies it again"
            return PurgeDecision(OutcomeKind.MISSING, reason)
        if not self._retry.call(lambda: is_as_recorded(source, here, entry.source_evidence, entry.sha256)):
            reason = f"it was replaced since it was copied: {self._remedy} copies it again, before you purge"
            return PurgeDecision(OutcomeKind.MODIFIED, reason)
        if found is not None and not self._retry.call(
            lambda: is_as_recorded(destination, found, entry.destination_evidence, entry.sha256)
        ):
            reason = f"its copy {entry.destination} was replaced since: check both before you delete one"
            return PurgeDecision(OutcomeKind.MODIFIED, reason)
        why = ROW_DELETED if orphan else COPY_VERIFIED
        return PurgeDecision(OutcomeKind.DELETED, why, versioned=here.version is not None)

    def _check_leftover(self, entry: ObjectRecord) -> PurgeDecision:
        found = self._retry.or_none_if_missing(self._destination.resolve(entry.destination_path).head)
        if found is None:
            if entry.state == ObjectState.COPY_DELETING:
                return PurgeDecision(OutcomeKind.DELETED, DELETED_BEFORE, gone=True)
            return PurgeDecision(OutcomeKind.KEPT, "gone already")
        if not consistent_with(entry.destination_evidence, found.evidence):
            return PurgeDecision(OutcomeKind.MODIFIED, "it was replaced since we put it: it is another program's now")
        if not proven_unchanged(entry.destination_evidence, found.evidence):
            return PurgeDecision(OutcomeKind.UNVERIFIED, "no evidence shows whether it still is what we put")
        return PurgeDecision(OutcomeKind.DELETED, AS_WRITTEN, versioned=found.version is not None)
