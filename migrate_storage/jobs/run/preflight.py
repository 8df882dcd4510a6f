"""Check everything that would make a run fail, before anything is changed: options, database, rows and stores."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from migrate_storage.application.application import Application
from migrate_storage.backend import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters
from migrate_storage.core.model import Capabilities, Note, Place, Severity, Strategy
from migrate_storage.core.parallel import SideBySide
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.database.rights import check_rows
from migrate_storage.database.row_identity import check_row_identity
from migrate_storage.engine.listing_evidence import ListingEvidence, SideListings, may_replace_heads
from migrate_storage.engine.place_proof import (
    PlaceProof,
    are_local,
    check_translated_urls,
    compare_ways,
    prove_by_probe,
    prove_in_place,
    prove_translation,
)
from migrate_storage.engine.plan import MigrationPlan, choose_strategy
from migrate_storage.engine.preserve import note_not_preserved, probe_preservation
from migrate_storage.engine.probe import check_absent, check_present, check_source, open_filesystem, try_destination
from migrate_storage.engine.rekey.prefix_rule import find_prefix_rule
from migrate_storage.engine.rename import Rename
from migrate_storage.engine.server_side_copy import probe_server_side_copy
from migrate_storage.jobs.connections import connected, find_backend
from migrate_storage.jobs.rights import check_rights
from migrate_storage.jobs.run.manifest import check_manifest
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, RekeyRule
from migrate_storage.stores.backend_store import READS_PER_OBJECT
from migrate_storage.stores.config.store_id import compute_store_id
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.resolved_backend import ResolvedBackend, refuse_own_class
from migrate_storage.stores.retry import Retry
from migrate_storage.translate.codegen.entries import store_url
from migrate_storage.translate.registration import DIRECT

__all__ = ("RunPreflight", "check", "examine")

_SAMPLE = 50
MAX_CHECKED_BUCKETS = 20
"""Buckets of a source that are checked before the run, at most."""


@dataclass(frozen=True, kw_only=True)
class RunPreflight:
    """What is known before the first object: the strategy, the rows, and the capabilities of the destination."""

    route: MigrationPlan
    rows: tuple[FileColumn, ...]
    capabilities: Capabilities
    #: By which the capabilities are remembered; ``None`` where they are not.
    store_id: str | None = None
    #: Whether an earlier run has probed a part of the capabilities.
    remembered: bool = False
    #: Listings that may replace HEAD requests; ``None`` where nothing is copied.
    sights: SideListings | None = None
    #: How one prefix of filenames replaces another, where a database can do that; ``None`` where it cannot.
    rule: RekeyRule | None = None
    notes: tuple[Note, ...]
    #: What copies do not preserve, by the kind of the source.
    not_preserved: tuple[Note, ...]


def examine(
    application: Application,
    options: RunOptions,
    database: Database,
    journal: Journal,
    retry: Retry,
    pace: StoreLimits | None = None,
    *,
    probe_all: bool = False,
) -> RunPreflight:
    """Check everything that a run needs.

    Args:
        application: its columns and backends.
        options: the run's options.
        database: where the rows are, connected.
        journal: where the run writes its records; its tables may be missing.
        retry: how a failed request is sent again.
        pace: limits the requests to the stores; ``None`` sets no limit.
        probe_all: probe also what an earlier run has probed within the last hour.

    Raises:
        ConfigurationError: bad options, no such key or column, values that are no JSON.
        PreflightError: a right that is missing in the database, or a store that cannot be reached, read or written as
            the run would.
    """
    filters = Filters(options.include, options.exclude)
    rename = None if options.rename is None else Rename.read(options.rename).name_copy
    rows = tuple(FileColumn(database, column, where=options.where) for column in application.select(options.columns))
    # A dry run and an in-place run change no row.
    changes_rows = options.destination is not None and not (options.keep_rows or options.copy_only)
    if options.dry_run:
        check_rows(rows, update=False)
    else:
        check_rights(rows, journal, update=changes_rows)
    if changes_rows:
        for each in {(one.column.schema, one.column.table): one for one in rows}.values():
            check_row_identity(each)
    source = ResolvedBackend(
        find_backend(application.backends, options.source), pace=pace,
        opaque_etags=options.source in options.opaque_etags,
        consistent_listings=options.source in options.consistent_listings,
        canary_prefix=options.canary_prefix,
    )  # fmt: skip
    if options.destination is None:
        refuse_own_class(source)
    samples, filenames = _sample_files(rows, source)
    roots = _find_buckets(samples, source)
    notes = [*_note_source(source), *_note_triggers(rows, database), *_note_user_word(source)]
    if options.dry_run:
        notes.append(_note_unproved(source))
    check_source(source, roots, retry)
    if options.destination is None:
        swap = ResolvedBackend(_translated(source), pace=pace)
        proof = _prove_swap(source, swap, filenames, retry, dry_run=options.dry_run)
        route = replace(choose_strategy(source, None, swap=swap, proof=proof), filters=filters)
        return RunPreflight(route=route, rows=rows, capabilities=Capabilities(), notes=tuple(notes), not_preserved=())
    if options.destination == options.source:
        raise ConfigurationError(
            f"--from and --to are both {options.source!r}: leave --to out to migrate in place, or name another key"
        )
    destination = ResolvedBackend(
        find_backend(application.backends, options.destination), pace=pace,
        opaque_etags=options.destination in options.opaque_etags,
        consistent_listings=options.destination in options.consistent_listings,
    )  # fmt: skip
    refuse_own_class(destination)
    if not destination.root.root and destination.registration.driver == "fsspec":
        raise ConfigurationError(
            f"the destination {options.destination!r} names no bucket: give its backend a prefix or a URL with one"
        )
    if options.recheck:
        # Before anything is written there, which would make the folder.
        check_present(destination, retry)
    store_id = compute_store_id(destination.root, destination.registration.config_at(destination.root))
    is_known = store_id is not None and not probe_all and not options.dry_run and journal.exists
    remembered = journal.capabilities.find(store_id) if is_known and store_id is not None else None
    stores = _examine_stores(source, destination, samples, filenames, options, remembered, retry)
    return RunPreflight(
        route=replace(stores.route, rename=rename), rows=rows, capabilities=stores.capabilities, sights=stores.sights,
        store_id=store_id if stores.sights is not None else None,
        remembered=remembered is not None and stores.capabilities == remembered,
        rule=stores.rule, notes=(*notes, *stores.notes), not_preserved=note_not_preserved(source, options.preservation),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stores:
    """The part of a :class:`RunPreflight` that the stores answer."""

    route: MigrationPlan
    capabilities: Capabilities
    sights: SideListings | None = None
    rule: RekeyRule | None = None
    notes: tuple[Note, ...] = ()


def _examine_stores(
    source: ResolvedBackend,
    destination: ResolvedBackend,
    samples: Sequence[Place],
    filenames: Sequence[str],
    options: RunOptions,
    remembered: Capabilities | None,
    retry: Retry,
) -> _Stores:
    """Prove where both sides are, and probe what they can do: what does not depend on each other is asked side by side.

    Raises:
        PreflightError: a side cannot be read or written, or where it is cannot be proved.
    """
    writes = not options.dry_run
    check_translated_urls(source, filenames)
    open_filesystem(source, filenames)
    with SideBySide(3, in_turn=are_local(source, destination)) as beside:
        translation = beside.start(lambda: compare_ways(source, filenames, retry))
        listed = filenames if writes and may_replace_heads(source) else ()
        listing = beside.start(lambda: ListingEvidence.probe(source, retry, listed))

        def prove_destination() -> _Stores:
            proof = prove_by_probe(source, destination, filenames, retry, probe=writes)
            route = choose_strategy(
                source,
                destination,
                swap=None,
                keep_rows=options.keep_rows,
                renames=options.rename is not None,
                proof=proof,
            )
            route = replace(
                route,
                filters=Filters(options.include, options.exclude),
                encode=options.invalid_keys == "encode",
                preservation=options.preservation,
            )
            preserved = probe_preservation(options.preservation, source, destination, retry, writes=writes)
            check_manifest(route, options)
            if not writes or (route.by_objects and route.strategy is Strategy.REKEY):
                check_absent(destination, retry)
                return _Stores(route=route, capabilities=Capabilities(), notes=preserved)
            capabilities, notes = try_destination(destination, retry, remembered)
            sights = SideListings(listing(), ListingEvidence(destination, retry, trusted=capabilities.listing))
            notes += [*_note_canaries(source, sights.source), *preserved]
            return _Stores(route=route, capabilities=capabilities, sights=sights, notes=tuple(notes))

        destined = beside.start(prove_destination)
        translation()
        stores = destined()
    route, capabilities, copy_notes = stores.route, stores.capabilities, list[Note]()
    if stores.sights is None:
        return stores
    # A disk is walked: its listing needs no probe.
    walked = capabilities.listing or destination.root.service == "file"
    rule = find_prefix_rule(route, filenames) if walked else None
    if route.shared and not options.preservation.is_asked:
        moving = [
            each for each in samples if route.strategy is not Strategy.REKEY or each.root != destination.root.root
        ]
        copiers, copy_notes = probe_server_side_copy(source, destination, moving, capabilities, retry)
        route = replace(route, copiers=copiers)
    return replace(stores, route=route, rule=rule, notes=(*stores.notes, *copy_notes))


def check(application: Application, options: RunOptions) -> tuple[Note, ...]:
    """Run only the preflight of a run.

    Returns:
        What was found, the strategy first.

    Raises:
        ConfigurationError: what would keep the run from beginning.
    """
    with connected(application, options.journal, options.journal_schema) as (database, journal):
        retry = Retry(options.max_attempts, threading.Event())
        facts = examine(application, options, database, journal, retry, probe_all=True)
    route, can = facts.route, facts.capabilities
    strategy = Note(severity=Severity.INFO, code="strategy", subject=route.strategy, message=route.reason)
    able = (
        ("refuses to replace an object when asked", can.create_only),
        ("its ETag is the MD5 of the bytes", can.etag_is_md5),
        ("keeps content type and metadata", can.attributes),
        ("its listing shows what a HEAD does", can.listing),
    )
    probed = partial(Note, severity=Severity.INFO, code="destination.probed", subject=route.destination.key)
    notes = [probed(message=f"{what}: {'yes' if yes else 'no'}") for what, yes in able]
    if options.destination is None or options.dry_run:
        notes = []
    return (strategy, *notes, *facts.notes, *facts.not_preserved)


def _translated(source: ResolvedBackend) -> ObstoreBackend:
    try:
        translated = ObstoreBackend.from_fsspec(source.backend)
        config = translated.config
        # The application gets what ``translate`` writes: only where each row names its bucket is that the above.
        return ObstoreBackend(source.key, config) if config is not None and store_url(config) else translated
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{source.key!r} has no obstore counterpart, so that it cannot be migrated in place: {error}; name a destination with --to"
        ) from error


def _prove_swap(
    source: ResolvedBackend, swap: ResolvedBackend, filenames: Sequence[str], retry: Retry, *, dry_run: bool
) -> PlaceProof:
    if not dry_run:
        return prove_in_place(source, swap, filenames, retry)
    prove_translation(source, filenames, retry)
    return PlaceProof(shared=True)


def _note_source(side: ResolvedBackend) -> tuple[Note, ...]:
    """Return what is known of the source: notes of its translation, or that it is read through its own methods."""
    registration = side.registration
    if not registration.own_class:
        return registration.translation.notes
    message = f"its files are copied as get_content of the class {registration.own_class} returns them, decrypted for example; each is read {READS_PER_OBJECT} times"
    todo = f"nothing; where the class changes neither bytes nor keys, '{DIRECT} = True' in it lets obstore read them"
    return (Note(severity=Severity.INFO, code="source.own-class", subject=side.key, message=message, todo=todo),)


def _note_unproved(side: ResolvedBackend) -> Note:
    """Return what a dry run, which writes nothing, leaves to the run."""
    return Note(
        severity=Severity.INFO, code="place.unproved", subject=side.key,
        message="the proof is still to be made where its objects are: a dry run writes no probe object",
        todo="nothing: the run makes it before it changes anything, and ends where there is none",
    )  # fmt: skip


def _sample_files(rows: Sequence[FileColumn], source: ResolvedBackend) -> tuple[list[Place], list[str]]:
    """Return places and filenames of the first rows' files; check that the columns have files at all."""
    found: list[str] = []
    for table in rows:
        sample = table.sample(_SAMPLE)
        broken: list[str] = []
        for row in sample:
            try:
                slots = parse_slots(table.column, row)
            except BrokenValueError as error:
                broken.append(str(error))
                continue
            found.extend(slot.file["filename"] for slot in slots if slot.file["backend"] == source.key)
        if table.column.nested and sample and not any(_DOCUMENT.match(row.value) for row in sample):
            if not table.estimate(source.key):
                raise ConfigurationError(f"{table.column} has no JSON in any of the first {len(sample)} rows")
        elif sample and len(broken) == len(sample):
            raise ConfigurationError(
                f"{table.column} has no files: {broken[0]} (and so in all of the first {len(sample)} rows); is it a StoredObject column?"
            )
    return [source.place(filename) for filename in found], found


def _find_buckets(samples: Sequence[Place], source: ResolvedBackend) -> list[Place]:
    """Return the source's own bucket, or those of the first rows' files."""
    found = {source.root.root: source.root} if source.root.root else {}
    for place in samples:
        if len(found) < MAX_CHECKED_BUCKETS:
            found.setdefault(place.root, replace(place, key=""))
    return list(found.values())


def _note_user_word(source: ResolvedBackend) -> list[Note]:
    """Report what counts as proof only because of an option."""
    said = (
        (source.opaque_etags, "evidence.opaque-etags", "two reads count as proof, also of an object whose ETag is another MD5"),
        (source.consistent_listings, "evidence.consistent-listings", "its listings count as fresh, and replace HEADs"),
    )  # fmt: skip
    return [
        Note(severity=Severity.INFO, code=code, subject=source.key, message=f"by an option for {source.key}, {what}")
        for given, code, what in said if given
    ]  # fmt: skip


def _note_canaries(source: ResolvedBackend, listings: ListingEvidence) -> list[Note]:
    """Note whether canaries prove listings of the source."""
    if listings.canaries is None:
        return []
    prefix, why = source.canary_prefix, listings.canaries.refusal
    if not listings.trusted:
        why = why or "one page of a listing does not show an object and the canary behind it"
    note = partial(Note, code="evidence.canary", subject=source.key)
    if why:
        message = f"no listing of {source.key} replaces HEADs: a canary was tried, and {why}"
        return [note(severity=Severity.WARNING, message=message, todo="nothing: each source gets HEADs")]
    where = f"behind files whose name begins with {prefix!r}" if prefix else "behind any file"
    message = f"by an option, canaries are written to {source.key} and deleted, {where}; a page of a listing that shows one replaces HEADs"
    return [note(severity=Severity.INFO, message=message)]


def _note_triggers(rows: Sequence[FileColumn], database: Database) -> list[Note]:
    notes = []
    for table in dict.fromkeys(each.column.table for each in rows):
        names = database.transaction(partial(database.dialect.catalog.list_update_triggers, table=table))
        if names:
            message = f"rewriting rows of {table} fires its triggers {', '.join(sorted(names))}"
            todo = "see that they may fire once for each row, or disable them for the run"
            code = "database.trigger"
            notes.append(Note(severity=Severity.WARNING, code=code, subject=table, message=message, todo=todo))
    return notes


_DOCUMENT = re.compile(r"\s*([\[{\"]|null\s*$)")
"""The beginning of JSON that may have a file one day."""
