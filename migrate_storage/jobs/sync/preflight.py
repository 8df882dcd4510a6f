"""The plan of a sync, and the checks of both sides before anything is changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Capabilities, Note, Place, Strategy
from migrate_storage.core.preservation import Preservation
from migrate_storage.engine.compare import nested
from migrate_storage.engine.place_proof import prove_places
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.preserve import note_not_preserved, probe_preservation
from migrate_storage.engine.probe import check_absent, check_source, try_destination
from migrate_storage.engine.server_side_copy import probe_server_side_copy
from migrate_storage.stores.listing import Listing
from migrate_storage.stores.resolved_backend import ResolvedBackend, refuse_own_class
from migrate_storage.stores.retry import Retry
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.translate import same_service

__all__ = ("SyncPreflight", "between", "refuse_nested")

MAX_COPY_SAMPLES = 20
"""Objects of the source that are listed to find one for a probe of the server-side copy."""
DESTINATION_SERVICES = ("s3", "gcs", "azure", "file", "memory")
"""Services to which obstore writes each object whole or not at all; fsspec's memory is one dictionary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncPreflight:
    """What is known before the first object of a sync."""

    route: MigrationPlan
    #: What the destination can do, as probed.
    capabilities: Capabilities
    #: What a person should know.
    notes: tuple[Note, ...]
    #: What copies do not take over from the source.
    not_preserved: tuple[Note, ...]


def between(
    source: ResolvedBackend,
    destination: ResolvedBackend,
    retry: Retry,
    preservation: Preservation = Preservation(),  # noqa: B008 - it is frozen
    *,
    dry_run: bool,
) -> SyncPreflight:
    """Check both sides.

    Args:
        source: the side that is copied.
        destination: where the copies go.
        retry: repeats failed requests.
        preservation: what copies get beside bytes, headers and user metadata.
        dry_run: write no probe object.

    Raises:
        ConfigurationError: the destination is the source, inside of it or around it, or cannot be written whole.
        PreflightError: a side cannot be reached, read or written.
    """
    for side in (source, destination):
        refuse_own_class(side)
    kind = destination.registration.protocol
    if kind not in DESTINATION_SERVICES:
        raise ConfigurationError(
            f"TO {destination.key}: obstore does not reach {kind}, and fsspec would show half-written objects there; "
            "name a folder, or a store of S3, Google Cloud Storage or Azure"
        )
    check_source(source, [source.root], retry)
    shared = refuse_nested(source, destination, retry, dry_run=dry_run)
    capabilities, notes, copiers = Capabilities(), list[Note](), dict[str, ServerSideCopier]()
    preserved = probe_preservation(preservation, source, destination, retry, writes=not dry_run)
    if dry_run:
        check_absent(destination, retry)
    else:
        capabilities, notes = try_destination(destination, retry)
        if not preservation.is_asked:
            samples = _samples(source, destination, retry)
            copiers, found = probe_server_side_copy(source, destination, samples, capabilities, retry)
            notes += found
    route = MigrationPlan(
        source=source,
        destination=destination,
        strategy=Strategy.MIRROR,
        reason="a sync",
        may_encode=False,
        shared=shared,
        copiers=copiers,
        preservation=preservation,
    )
    return SyncPreflight(
        route=route, capabilities=capabilities, notes=(*notes, *preserved),
        not_preserved=note_not_preserved(source, preservation),
    )  # fmt: skip


def refuse_nested(source: ResolvedBackend, destination: ResolvedBackend, retry: Retry, *, dry_run: bool) -> bool:
    """Return whether both sides are on one service; refuse two that are one place or inside each other.

    Raises:
        ConfigurationError: they are, or nothing shows that they are not.
    """
    proof = prove_places(source, destination, (), retry, probe=not dry_run)
    in_doubt = dry_run and same_service(source.root, destination.root) is None
    if nested(source, destination) and (proof.shared or in_doubt):
        raise ConfigurationError(
            f"{source.key} and {destination.key} are one place, or one is inside the other"
            f"{f' ({proof.reason})' if proof.reason else ''}: a sync would copy what it has just copied; name two places apart"
        )
    return proof.shared


def _samples(source: ResolvedBackend, destination: ResolvedBackend, retry: Retry) -> Iterator[Place]:
    """Yield a few objects of the source, where its service may copy them by itself."""
    if destination.copier(source.root) is None:
        return
    listed = Listing.of_backend(source, retry)
    # Where the listing fails, bytes pass through this process; the sync itself reports the failure.
    with suppress(Exception):
        for meta in itertools.islice(listed.store.list(listed.prefix), MAX_COPY_SAMPLES):
            yield replace(source.root, key=meta.path)
