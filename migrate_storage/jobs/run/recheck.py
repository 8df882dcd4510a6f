"""Check again what earlier runs copied, for ``run --recheck``: each copy that a row names, and its source.

The rows decide which copies are checked, so a copy that no row names any more is left alone. The journal knows the source of each, and
both objects as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.core.proofs import JOURNAL
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.engine.in_flight import PendingRow, Pointing
from migrate_storage.engine.listing_evidence import ListingEvidence, lists_freshly, may_replace_heads
from migrate_storage.engine.probe import check_present, check_source
from migrate_storage.engine.repoint_batches import BatchRepointer
from migrate_storage.engine.verify import Verified, compare_content, consistent_with, proven_unchanged
from migrate_storage.jobs.context import JobContext
from migrate_storage.jobs.run.session import RunSession
from migrate_storage.journal import ObjectRecord, ObjectState
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError

__all__ = ("CopyRecheck",)

LISTING_WINDOW_ROWS = 20_000
"""Rows read at once where a listing may replace their HEADs."""
_COPIED_STATES = frozenset(
    {ObjectState.VERIFIED, ObjectState.UNREFERENCED, ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED}
)
"""States of a record whose copy was verified, or at least written."""
_PURGED_STATES = frozenset({ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED})
"""States of a record whose source was deleted on purpose."""


@dataclass(frozen=True, slots=True)
class _NamedCopy:
    """The journal record of a copy, and rows of this window that name it."""

    record: ObjectRecord
    pointings: tuple[Pointing, ...]

    @property
    def refs(self) -> tuple[RowRef, ...]:
        return tuple(slot.ref for pointing in self.pointings for slot in pointing.slots)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What was seen of a copy and its source."""

    #: The copy, where nothing is to be done but to repair rows.
    intact: ObjectMeta | None = None
    #: Whether it is to be copied again, as far as its destination allows.
    copy: bool = False
    #: Whether the destination, or the source, has no such object.
    gone: bool = False
    source_gone: bool = False
    kind: OutcomeKind | None = None
    reason: str = ""


class CopyRecheck:
    """Checks the copies of earlier runs between the two keys of a run.

    Args:
        session: what the run works with.
        context: the job's pace and statistics.
        window: rows read in one transaction.
        is_over: whether the run is to end.
    """

    def __init__(self, session: RunSession, context: JobContext, window: int, is_over: Callable[[], bool]) -> None:
        self._session, self._context, self._is_over = session, context, is_over
        self._plan, self._journal = session.preflight.route, session.journal
        self._breaker, self._repointer = CircuitBreaker(), BatchRepointer(session.recorder)
        sights = session.preflight.sights
        lists_copies = sights is not None and lists_freshly(self._plan.destination)
        self._copies = sights.destination if sights is not None and lists_copies else None
        #: Known once there is an object to probe the listings of the source with.
        self._sources: ListingEvidence | None = None
        self._lists_sources = may_replace_heads(self._plan.source)
        self._window = LISTING_WINDOW_ROWS if lists_copies or self._lists_sources else window
        self._seen: set[str] = set()
        #: ``objects`` that were checked, those that were ``copied_again``, and ``rows_repaired``.
        self.counts = Counter({"objects": 0, "copied_again": 0, "rows_repaired": 0})

    def run(self) -> None:
        """Check every copy that a row names; return when all was done, or the run is to end.

        Raises:
            PreflightError: the source or the destination itself is gone.
            RunError: nothing works any more.
        """
        for rows in self._session.preflight.rows:
            for window in rows.windows(self._plan.destination.key, self._window):
                self._check_window(self._find_copies(rows, window))
                if self._is_over():
                    return
                self._context.limiter.wait()

    def _find_copies(self, rows: FileColumn, window: Sequence[Row]) -> list[_NamedCopy]:
        """Find the records of the copies that these rows name, and that a run between the two keys made."""
        naming: dict[Location, dict[Row, list[Slot]]] = {}
        for row in window:
            try:
                slots = parse_slots(rows.column, row)
            except BrokenValueError as error:
                self._session.scheduler.outcomes.report_broken_row(RowRef(rows.column, row.pk), str(error))
                continue
            for slot in slots:
                if slot.location.backend == self._plan.destination.key:
                    naming.setdefault(slot.location, {}).setdefault(row, []).append(slot)
        found = self._journal.objects.at_destinations(naming)
        return [
            _NamedCopy(record, tuple(Pointing(rows, row, tuple(slots)) for row, slots in naming[location].items()))
            for location, record in found.items()
            if location in naming and self._concerns(record)
        ]

    def _concerns(self, record: ObjectRecord) -> bool:
        return (
            record.source_key == self._plan.source.key
            and record.state in _COPIED_STATES
            and record.size is not None
            and not record.same_place
            and self._plan.filters.matches(record.source_path)
        )

    def _check_window(self, named: Sequence[_NamedCopy]) -> None:
        records = [each.record for each in named]
        sources, copies = self._list_objects(records)

        def look(record: ObjectRecord) -> _Finding:
            return self._look(record, sources.get(record.source_path), copies.get(record.destination_path))

        findings = self._session.scheduler.check_each(look, records)
        # A HEAD answers alike for a missing bucket and a missing object.
        if any(finding.gone for finding in findings):
            check_present(self._plan.destination, self._context.retry)
        root = self._plan.source.root
        if root.root and any(finding.source_gone for finding in findings):
            check_source(self._plan.source, [root], self._context.retry)
        again = [each for each, finding in zip(named, findings, strict=True) if finding.copy]
        for each in again:
            self._session.scheduler.recopy(each.record, each.pointings)
        self._session.scheduler.finish()
        renewed = self._journal.objects.find([each.record.id for each in again])
        done = [
            record
            for record in renewed.values()
            if record.run == self._session.run and record.outcome == OutcomeKind.REPOINTED
        ]
        self.counts["copied_again"] += len(done)
        for each, finding in zip(named, findings, strict=True):
            if each.record.id not in self._seen:
                self.counts["objects"] += 1
                self._seen.add(each.record.id)
            if finding.kind is not None:
                self._report(each.record, finding.kind, finding.reason, each.refs)
            elif finding.intact is not None:
                self._repair_rows(each, finding.intact)
        self._flush()

    def _list_objects(self, records: Sequence[ObjectRecord]) -> tuple[dict[str, ObjectMeta], dict[str, ObjectMeta]]:
        """List sources and copies where fresh listings replace their HEADs; about others nothing is known."""
        sources = [each.source_path for each in records if each.state not in _PURGED_STATES]
        copies = [each.destination_path for each in records]
        if self._sources is None and self._lists_sources and sources:
            self._sources = ListingEvidence.probe(self._plan.source, self._context.retry, sources)
        return (
            self._sources.fetch(sources) if self._sources is not None else {},
            self._copies.fetch(copies) if self._copies is not None else {},
        )

    def _look(self, record: ObjectRecord, source: ObjectMeta | None, copy: ObjectMeta | None) -> _Finding:
        """HEAD a copy and its source, where a listing does not prove them unchanged, and compare both with the record."""
        try:
            finding = self._compare(record, source, copy)
        except KeyRefusedError as error:
            return _Finding(kind=OutcomeKind.FAILED, reason=f"it could not be checked again: {error}")
        except StoreRequestError as error:
            self._breaker.record(error.failure)
            return _Finding(kind=OutcomeKind.FAILED, reason=f"it could not be checked again: {error}")
        self._breaker.record(None)
        return finding

    def _compare(self, record: ObjectRecord, source: ObjectMeta | None, copy: ObjectMeta | None) -> _Finding:
        there, purged = record.destination, record.state in _PURGED_STATES
        if record.run == self._session.run:
            # This run checked it already, for another window of rows.
            done = record.outcome is not None and OutcomeKind(record.outcome).done
            return _Finding(intact=_meta_of(record) if done else None)
        if not purged and not self._plan.has_id(record):
            reason = f"{record.source_key!r} is registered for another place now than when it was copied: its source was not checked"
            return _Finding(kind=OutcomeKind.UNVERIFIED, reason=reason)
        if copy is None or not proven_unchanged(record.destination_evidence, copy.evidence):
            copy = self._head(self._plan.destination, record.destination_path)
        if purged:
            here = None
        elif source is not None and proven_unchanged(record.source_evidence, source.evidence):
            here = source
        else:
            here = self._head(self._plan.source, record.source_path)
        if copy is None and here is None:
            if purged and (stray := self._describe_stray(record)):
                return _Finding(kind=OutcomeKind.CONFLICT, reason=f"its copy {there} is gone, and {stray}", gone=True)
            lost = "was purged" if purged else "is gone too"
            reason = f"its copy {there} is gone, and the source {lost}: restore one of them from a backup"
            return _Finding(kind=OutcomeKind.MISSING, reason=reason, gone=True, source_gone=not purged)
        if copy is None:
            return _Finding(copy=True, gone=True)
        recorded = consistent_with(record.destination_evidence, copy.evidence)
        if purged and (stray := self._describe_stray(record)):
            return _Finding(kind=OutcomeKind.CONFLICT, reason=stray)
        if here is None:
            # After a purge the application may replace its files: there is nothing to compare them with.
            if recorded or purged:
                return _Finding(intact=copy if recorded else None, source_gone=not purged)
            reason = f"its copy {there} was replaced since it was verified (by the application, perhaps), and the source is gone: it is left"
            return _Finding(kind=OutcomeKind.MODIFIED, reason=reason, source_gone=True)
        if recorded and consistent_with(record.source_evidence, here.evidence):
            return _Finding(intact=copy)
        # The copier compares both again, and replaces only the copy that the journal knows.
        return _Finding(copy=True)

    def _describe_stray(self, record: ObjectRecord) -> str:
        """Return what to do with other bytes at a source that was purged; empty where there are none."""
        if not self._plan.has_id(record):
            return ""
        now = self._head(self._plan.source, record.source_path)
        if now is None or consistent_with(record.source_evidence, now.evidence):
            return ""
        source, copy = (
            self._plan.source.resolve(record.source_path),
            self._plan.destination.resolve(record.destination_path),
        )
        try:
            if compare_content(source, copy, self._context.retry) is not None:
                return ""
        except StoreRequestError as error:
            if error.failure.kind is not FailureKind.MISSING:
                raise
        return (
            f"other bytes are at {record.source}, which was purged: a process wrote under its old key since. Decide by hand which ones are "
            "right, save them through the new key, and delete those"
        )

    def _head(self, side: ResolvedBackend, path: str) -> ObjectMeta | None:
        return self._context.retry.or_none_if_missing(side.resolve(path).head)

    def _repair_rows(self, named: _NamedCopy, copy: ObjectMeta) -> None:
        """Collect the rows that have another size or ETag than the copy that they name."""
        record = named.record
        verified = Verified(source=copy, destination=copy, evidence=JOURNAL, sha256=record.sha256)
        for pointing in named.pointings:
            wrong = [slot for slot in pointing.slots if _is_wrong(slot, verified)]
            if wrong:
                row = PendingRow(pointing.rows, pointing.row, {}, set(), renews=True)
                row.verified = {slot.ref.path: (record.id, verified, record.destination) for slot in wrong}
                self._repointer.add_row(row)

    def _flush(self) -> None:
        """Update the rows that were collected, and report those that the database did not update."""
        batch = self._repointer.flush()
        failures: list[tuple[PendingRow, str]] = list(batch.broken)
        for row, _, value, refusal in batch.tried:
            if value is None:
                failures.append((row, refusal or "another program writes the row again and again: run again"))
            else:
                self.counts["rows_repaired"] += 1
        for row, reason in failures:
            records = self._journal.objects.find(list(row.objects))
            for record in records.values():
                ref = RowRef(row.rows.column, row.row.pk)
                self._report(record, OutcomeKind.FAILED, f"its row has a wrong size or ETag: {reason}", (ref,))

    def _report(self, record: ObjectRecord, kind: OutcomeKind, reason: str, refs: tuple[RowRef, ...]) -> None:
        """Record and report a copy that needs a person; its evidence stays in the journal."""
        known = self._session.known_losses
        if kind is OutcomeKind.MISSING and refs and all(known.is_known(ref, record.destination) for ref in refs):
            kind = OutcomeKind.KNOWN_MISSING
        changed = replace(record, run=self._session.run, outcome=kind, reason=reason)
        self._session.recorder.record_results(changed)
        self._context.stats.add_outcome(
            Outcome(kind=kind, source=record.source, destination=record.destination, size=record.size, reason=reason, refs=refs)
        )  # fmt: skip


def _meta_of(record: ObjectRecord) -> ObjectMeta:
    """Return the copy as the journal knows it."""
    then = record.destination_evidence
    return ObjectMeta(
        path=record.destination_path, size=then.size, e_tag=then.e_tag, last_modified=then.last_modified, version=then.version
    )  # fmt: skip


def _is_wrong(slot: Slot, verified: Verified) -> bool:
    """Whether a row has another size, ETag or checksum of its file than the copy."""
    copy, file = verified.destination, slot.file
    if file.get("size") != copy.size or (copy.e_tag and str(file.get("etag") or "").strip('"') != copy.e_tag):
        return True
    return bool(verified.sha256 and file.get("checksum") and file["checksum"] != f"sha256:{verified.sha256}")
