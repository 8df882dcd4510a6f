"""Prove whether two sides reach one storage, through the filesystem that the application uses.

Configurations are no proof: a profile, an environment variable, an alias of a bucket or a mount may lead elsewhere.
An object that was written through one side is requested through the other, and existing objects are compared.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from migrate_storage.core.errors import KeyRefusedError, PreflightError
from migrate_storage.core.model import Attributes, Evidence, ObjectMeta, Place
from migrate_storage.core.parallel import SideBySide, parallel_map
from migrate_storage.engine.probe import (
    SCRATCH,
    describe_destination,
    explain_unusable,
    open_filesystem,
    remove_scratch_folder,
)
from migrate_storage.engine.verify import consistent_with, proven_unchanged, sha256_of_opened
from migrate_storage.stores.base import ObjectAt, Opened
from migrate_storage.stores.config.url_check import find_url_difference
from migrate_storage.stores.failures import FailureKind, classify
from migrate_storage.stores.listing import Listing
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate import same_service, unaddressable
from migrate_storage.translate.places import resolve_links

__all__ = (
    "PlaceProof", "are_local", "check_translated_urls", "compare_ways", "find_buckets", "is_same_object", "prove_by_probe",
    "prove_in_place", "prove_places", "prove_translation", "write_probe",
)  # fmt: skip

_SERVER_CACHE_SECONDS = 1.5
"""Seconds after which a server of a disk shows a file that was written to the disk directly."""
MAX_COMPARED = 20
"""Existing objects that are compared through both ways, at most."""
_MAX_COMPARED_BYTES = 1024 * 1024
"""Up to this size the content is compared too."""
_ASKED_AT_ONCE = 8
"""Places at which a probe object is requested at once."""
_ROUNDS = 6
"""How often two objects are compared before they count as different.

The application may write one meanwhile, a server may show a new object late, and a bit may flip on the way here.
"""
_FIRST_WAIT_SECONDS = 0.02
"""The wait before the second comparison; each later one waits twice as long."""
_MAX_BUCKETS = 20
"""Buckets of a source in which a probe object of the destination is requested, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceProof:
    """How two sides are related."""

    #: Whether both reach one storage, so that an equal place is the same object.
    shared: bool
    #: How that was found out, where the registrations do not show it.
    reason: str = ""
    #: Whether nothing could be written: each object must then be compared by tag, date, version and content.
    by_objects: bool = False


def prove_translation(side: ResolvedBackend, filenames: Iterable[str], retry: Retry) -> int:
    """Compare existing objects, as the application's filesystem reads them and as obstore does.

    Args:
        side: a side that reads the files of an fsspec filesystem through obstore; nothing is compared for any other.
        filenames: of some rows. Where none of them exists, a few listed objects are compared instead.
        retry: how a failed request is sent again.

    Returns:
        How many objects are equal; 0 where nothing exists.

    Raises:
        PreflightError: they reach different storage, or nothing shows that they reach the same.
    """
    chosen = list(islice(dict.fromkeys(filenames), MAX_COMPARED))
    check_translated_urls(side, chosen)
    return compare_ways(side, chosen, retry)


def check_translated_urls(side: ResolvedBackend, filenames: Sequence[str]) -> None:
    """CheckJob, without a request, that obstore asks the URLs that the application's filesystem asks.

    Raises:
        PreflightError: it asks another URL.
    """
    if side.is_translated and (difference := find_url_difference(side.registration, filenames[:1])):
        raise PreflightError(f"the translation of {side.key!r} does not ask what its filesystem asks: {difference}")


def compare_ways(side: ResolvedBackend, filenames: Sequence[str], retry: Retry) -> int:
    """Do the requests of :func:`prove_translation`, which has the arguments and errors."""
    if not side.is_translated:
        return 0
    proved, doubt = 0, ""
    chosen = list(islice(dict.fromkeys(filenames), MAX_COMPARED))
    open_filesystem(side, chosen)
    at_once = 1 if are_local(side) else MAX_COMPARED
    for filename, (equal, reason) in parallel_map(lambda name: _compare_ways(side, name, retry), chosen, at_once):
        if equal is False:
            raise PreflightError(_describe_two_places(side, f"{filename!r} {reason}"))
        proved, doubt = proved + bool(equal), doubt or reason
    if not proved:
        equal, reason = _compare_listed(side, retry)
        if equal is False:
            raise PreflightError(_describe_two_places(side, reason))
        proved, doubt = int(equal or 0), "" if equal else doubt or reason
    if doubt and not proved:
        raise PreflightError(
            f"nothing shows that obstore reaches the storage that the filesystem of {side.key!r} reaches: {doubt}; "
            "compare both with 'migrate-storage translate --check'"
        )
    return proved


def _describe_two_places(side: ResolvedBackend, reason: str) -> str:
    return (
        f"the filesystem of {side.key!r} reaches other storage than its options name, through which obstore would read: {reason}; "
        "give the filesystem its endpoint and credentials as arguments, and compare with 'migrate-storage translate --check'"
    )


def _compare_ways(side: ResolvedBackend, filename: str, retry: Retry) -> tuple[bool | None, str]:
    try:
        place = side.place(filename)
        if unaddressable(place.key, local=place.service == "file") is not None:
            # Every request for it goes through fsspec.
            return None, ""
        live, translated = side.resolve_live(filename), side.resolve_place(place)
    except (KeyRefusedError, ValueError):
        return None, ""
    if translated is None or live.store is translated.store:
        return None, ""
    return _compare_objects(live, translated, retry)


def _compare_listed(side: ResolvedBackend, retry: Retry) -> tuple[bool | None, str]:
    """Compare listed objects, where none that a row names exists."""
    config = side.registration.translation.config
    if not side.root.root or config is None or side.root.service == "http":
        return None, ""
    local, doubt = side.root.service == "file", ""
    try:
        listing = Listing.of_backend(side, retry)
        listed = [
            meta.path.lstrip("/") if local else meta.path
            for meta in islice(listing.store.list(listing.prefix), MAX_COMPARED)
        ]
    except Exception:  # noqa: BLE001 - a listing that breaks off has a key that obstore cannot address
        return None, ""
    for key in listed:
        if unaddressable(key, local=local) is not None:
            continue
        place = replace(side.root, key=key)
        live, translated = side.resolve_live_place(place), side.resolve_place(place)
        if live is None or translated is None:
            continue
        equal, reason = _compare_objects(live, translated, retry)
        if equal is not None:
            return equal, "" if equal else f"{key!r} {reason}"
        doubt = doubt or reason
    return None, doubt


def _compare_objects(one: ObjectAt, other: ObjectAt, retry: Retry, *, dated: bool = False) -> tuple[bool | None, str]:
    """Compare an object that two ways may reach.

    Returns:
        Whether it is the same, and why not. ``None`` where neither has it, or one cannot read it: then the reason is why.
    """
    equal: bool | None = None
    reason = ""
    for number in range(_ROUNDS):
        if number:
            time.sleep(_FIRST_WAIT_SECONDS * 2 ** (number - 1))
        try:
            equal, reason = retry.call(partial(_compare_once, one, other, dated=dated))
        except StoreRequestError as error:
            if isinstance(error.__cause__, KeyRefusedError):
                # A file that both refuse, behind a link for example, shows nothing.
                return None, "" if _refuses(one) and _refuses(other) else str(error)
            if error.failure.kind is FailureKind.PERMANENT:
                # obstore cannot read every object that fsspec can.
                return None, ""
            return None, f"{one.key!r} cannot be read both ways: {error.failure.message}"
        if equal is not False:
            break
    if equal is False and _is_decoded(one, retry):
        return None, ""
    return equal, reason


def _is_decoded(at: ObjectAt, retry: Retry) -> bool:
    """Whether Google Cloud Storage may decode an object for one library and not for the other."""
    try:
        meta, attributes = retry.call(at.head_with_attributes)
    except StoreRequestError:
        return False
    return meta.md5 is not None and attributes.content_encoding is not None


def _refuses(at: ObjectAt) -> bool:
    try:
        at.head()
    except KeyRefusedError:
        return True
    except Exception:  # noqa: BLE001 - only a refusal counts
        return False
    return False


def _compare_once(one: ObjectAt, other: ObjectAt, *, dated: bool) -> tuple[bool | None, str]:
    first, second = _open_existing(one), _open_existing(other)
    if first is None or second is None:
        if first is second:
            return None, ""
        present, absent = (one, other) if second is None else (other, one)
        return False, f"exists through {present.store.name} and not through {absent.store.name}"
    here, there = first.meta, second.meta
    if here.size != there.size:
        return False, f"has {here.size} bytes through {one.store.name} and {there.size} through {other.store.name}"
    seen = _comparable(here, there, local=one.store.is_local)
    if not dated:
        seen = replace(seen[0], last_modified=None), replace(seen[1], last_modified=None)
    if not consistent_with(*seen):
        what = "tag, date or version" if dated else "tag or version"
        return False, f"has another {what} through {one.store.name} than through {other.store.name}"
    small = here.size <= _MAX_COMPARED_BYTES
    if small and sha256_of_opened(first, one.key) != sha256_of_opened(second, other.key):
        return False, f"has other bytes through {one.store.name} than through {other.store.name}"
    return True, ""


def _open_existing(at: ObjectAt) -> Opened | None:
    """Open an object; ``None`` where there is none."""
    try:
        return at.open()
    except Exception as error:
        if classify(error).kind is FailureKind.MISSING:
            return None
        raise


def is_same_object(here: ObjectMeta, there: ObjectMeta, *, local: bool) -> bool:
    """Whether tag, date and version of two HEADs show one object, and at least one of them is known on both sides.

    Args:
        here: through the filesystem.
        there: through obstore.
        local: whether it is a file on a disk.
    """
    return proven_unchanged(*_comparable(here, there, local=local))


def _comparable(here: ObjectMeta, there: ObjectMeta, *, local: bool) -> tuple[Evidence, Evidence]:
    if local or here.md5 is not None:
        # fsspec and obstore report the tag of a disk, and that of Google Cloud Storage, in different forms.
        return replace(here.evidence, e_tag=None), replace(there.evidence, e_tag=None)
    return here.evidence, there.evidence


def are_local(*sides: ResolvedBackend) -> bool:
    """Whether all sides are on disks of this machine or in its memory, where no request waits for a network."""
    return all(side.root.service in ("file", "memory") for side in sides)


def prove_places(
    source: ResolvedBackend, destination: ResolvedBackend, filenames: Sequence[str], retry: Retry, *, probe: bool
) -> PlaceProof:
    """Prove that both sides reach one storage, or that they reach two, and that the source's translation reaches its own.

    Args:
        source: the side that rows name.
        destination: the side that gets a probe object.
        filenames: of some rows of the source.
        retry: how a failed request is sent again.
        probe: whether an object may be written; without it only existing objects are compared.

    Raises:
        PreflightError: neither is proved, or one storage is reached in two ways.
    """
    check_translated_urls(source, filenames)
    open_filesystem(source, filenames)
    with SideBySide(2, in_turn=are_local(source, destination)) as beside:
        translation = beside.start(lambda: compare_ways(source, filenames, retry))
        proof = beside.start(lambda: prove_by_probe(source, destination, filenames, retry, probe=probe))
        translation()
        return proof()


def prove_by_probe(
    source: ResolvedBackend, destination: ResolvedBackend, filenames: Sequence[str], retry: Retry, *, probe: bool
) -> PlaceProof:
    """Prove what :func:`prove_places` proves, which has the arguments, but not that a translation reaches its own storage.

    Raises:
        PreflightError: neither is proved, or one storage is reached in two ways.
    """
    known = same_service(source.root, destination.root)
    if not probe:
        return PlaceProof(
            shared=bool(known), reason="" if known is not None else "not provably so: a dry run writes no probe"
        )
    if "memory" in (source.root.service, destination.root.service) and not known:
        return PlaceProof(shared=False)
    buckets = find_buckets(source, filenames)
    what = describe_destination(destination)
    name = f"{SCRATCH}/{uuid.uuid4().hex}"
    at = destination.resolve(name)
    place = resolve_links(destination.place(name))
    try:
        try:
            write_probe(at, retry)
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.DENIED and known:
                return PlaceProof(shared=True, by_objects=True)
            raise PreflightError(explain_unusable(what, "writing a probe object", error)) from error
        open_filesystem(destination, [name])
        with SideBySide(3, in_turn=are_local(source, destination)) as beside:
            own_view = beside.start(lambda: _check_own_view(destination, name, retry))
            directly = beside.start(
                lambda: place.service == source.root.service and _request_directly(source, place, retry)
            )
            elsewhere = beside.start(lambda: _is_seen_elsewhere(source, place, buckets, retry, waits=known is None))
            own_view()
            seen, is_elsewhere = directly(), elsewhere()
        if is_elsewhere:
            raise PreflightError(
                f"{what} and the source {source.key!r} are one storage reached in two ways: nothing moves between them; "
                "register both by the same way, and 'run' re-points the rows"
            )
    finally:
        at.try_delete()
        remove_scratch_folder(destination, name)
    return _conclude(source, destination, _Seen(seen, known, place.root in buckets), filenames, retry)


@dataclass(frozen=True, slots=True)
class _Seen:
    #: Whether the source shows the destination's probe object at its place; ``None`` where it refuses to answer.
    directly: bool | None
    #: What the registrations show.
    known: bool | None
    #: Whether the source has files in the destination's bucket.
    same_bucket: bool


def _conclude(
    source: ResolvedBackend, destination: ResolvedBackend, seen: _Seen, filenames: Sequence[str], retry: Retry
) -> PlaceProof:
    names = f"{describe_destination(destination)} and the source {source.key!r}"
    if seen.directly is None:
        if seen.same_bucket:
            raise PreflightError(
                f"{names} are proved neither one storage nor two: the source does not answer whether it has an object of the destination; "
                "let the source's credentials read the destination's prefix"
            )
        return PlaceProof(
            shared=seen.known is not False, reason="" if seen.known is not None else "in doubt: taken for the same"
        )
    equal, reason = _compare_existing(source, destination, filenames, retry) if seen.same_bucket else (None, "")
    if seen.directly and equal is False:
        raise PreflightError(
            f"{names} are proved neither one storage nor two: a probe object is seen through both, but {reason}"
        )
    if not seen.directly and equal:
        raise PreflightError(
            f"{names} are proved neither one storage nor two: a probe object at the destination is not seen through the source, "
            "but the same objects with the same dates are; if one is a replica of the other, let the rows move to an empty bucket"
        )
    told = seen.known is not None and seen.directly is seen.known
    sight = "is seen" if seen.directly else "is not seen"
    return PlaceProof(
        shared=seen.directly, reason="" if told else f"a probe object at the destination {sight} through the source"
    )


def prove_in_place(
    source: ResolvedBackend, deployed: ResolvedBackend, filenames: Sequence[str], retry: Retry
) -> PlaceProof:
    """Prove that a translation reaches the storage that the application's filesystem reaches.

    Args:
        source: the registration that the application has.
        deployed: the registration that replaces it under the same key.
        filenames: of some rows.
        retry: how a failed request is sent again.

    Raises:
        PreflightError: it reaches other storage.
    """
    check_translated_urls(source, filenames)
    open_filesystem(source, filenames)
    with SideBySide(2, in_turn=are_local(source)) as beside:
        translation = beside.start(lambda: compare_ways(source, filenames, retry))
        proof = beside.start(lambda: _prove_deployed(source, deployed, filenames, retry))
        translation()
        return proof()


def _prove_deployed(
    source: ResolvedBackend, deployed: ResolvedBackend, filenames: Sequence[str], retry: Retry
) -> PlaceProof:
    """Prove that an object which is written through a translation is seen through the application's filesystem."""
    for root in find_buckets(source, filenames).values():
        name = f"{SCRATCH}/{uuid.uuid4().hex}"
        place = replace(root, key=(source.root.key if source.root.root else "") + name)
        at, live = deployed.resolve_place(place), source.resolve_live_place(place)
        whole_disk = root.service == "file" and not source.root.key
        if at is None or live is None or root.service == "http" or whole_disk:
            return PlaceProof(shared=True, by_objects=True)
        try:
            write_probe(at, retry)
            seen = _may_exist(live, retry)
        except StoreRequestError as error:
            if error.failure.kind in (FailureKind.DENIED, FailureKind.PERMANENT, FailureKind.FULL):
                return PlaceProof(shared=True, by_objects=True)
            raise PreflightError(
                explain_unusable(f"the source {source.key!r}", "writing a probe object", error)
            ) from error
        finally:
            at.try_delete()
            _remove_folder(place)
        if not seen:
            raise PreflightError(
                _describe_two_places(
                    source, "an object that was written through obstore is not seen through the filesystem"
                )
            )
    return PlaceProof(shared=True)


def write_probe(at: ObjectAt, retry: Retry) -> None:
    """Write a small object, whether or not there is one."""
    retry.call(lambda: at.store.put(at.key, b"probe", attributes=Attributes(), create=False, part_size=None))


def _check_own_view(side: ResolvedBackend, name: str, retry: Retry) -> None:
    """Check that the filesystem of a destination shows what obstore wrote there."""
    if not side.is_translated:
        return
    if not _may_exist(side.resolve_live(name), retry):
        raise PreflightError(
            _describe_two_places(side, "an object that was written through obstore is not seen through the filesystem")
        )


def find_buckets(source: ResolvedBackend, filenames: Iterable[str]) -> dict[str, Place]:
    """Return the source's own bucket, or those of some rows' files."""
    if source.root.root:
        return {source.root.root: source.root}
    found: dict[str, Place] = {}
    for filename in filenames:
        place = source.place(filename)
        if len(found) < _MAX_BUCKETS and place.root:
            found.setdefault(place.root, replace(place, key=""))
    return found


def _request_directly(source: ResolvedBackend, place: Place, retry: Retry) -> bool | None:
    """Whether the source shows an object at the place that the destination has it."""
    if place.service == "file":
        return Path("/", place.key).exists()
    at = source.resolve_live_place(replace(source.root, root=place.root, key=place.key))
    if at is None:
        return None
    return _exists(at, retry)


def _is_seen_elsewhere(
    source: ResolvedBackend, place: Place, buckets: Iterable[str], retry: Retry, *, waits: bool
) -> bool:
    """Whether the source shows the destination's object at another place: an alias, a mount, a disk that a server serves."""
    for seconds in (0.0, _SERVER_CACHE_SECONDS) if waits and place.service != source.root.service else (0.0,):
        time.sleep(seconds)
        if source.root.service == "file":
            direct = Path("/", place.key).resolve() if place.service == "file" else None
            if any(path.exists() and path.resolve() != direct for path in _candidate_files(source.root, place)):
                return True
        elif _any_may_exist(_candidate_objects(source, place, buckets), retry):
            return True
    return False


def _any_may_exist(candidates: Iterable[ObjectAt], retry: Retry) -> bool:
    return any(seen for _, seen in parallel_map(lambda at: _may_exist(at, retry), candidates, _ASKED_AT_ONCE))


def _candidate_files(folder: Place, place: Place) -> Iterator[Path]:
    """Yield files of a folder that an object of the other side may be."""
    parts = [part for part in (place.root.strip("/"), *place.key.split("/")) if part]
    for start in range(len(parts)):
        yield Path("/", folder.key, *parts[start:])


def _candidate_objects(source: ResolvedBackend, place: Place, buckets: Iterable[str]) -> Iterator[ObjectAt]:
    """Yield objects of a source that an object of the other side may be: each end of its path may be the key."""
    parts = [part for part in (*place.root.split("/"), *place.key.split("/")) if part]
    direct = f"{place.root}/{place.key}" if place.service == source.root.service else None
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    for bucket in (*buckets, *([] if source.root.root else [""])):
        for key in dict.fromkeys((*tails, *(source.root.key + tail for tail in tails))):
            if f"{bucket}/{key}".lstrip("/") == direct:
                continue
            at = source.resolve_live_place(replace(source.root, root=bucket, key=key))
            if at is not None:
                yield at


def _exists(at: ObjectAt, retry: Retry) -> bool | None:
    """Whether an object exists; ``None`` where the store refuses to answer."""
    try:
        retry.call(at.head)
    except StoreRequestError as error:
        refused = isinstance(error.__cause__, KeyRefusedError)
        return False if refused or error.failure.kind in (FailureKind.MISSING, FailureKind.NO_BUCKET) else None
    return True


def _may_exist(at: ObjectAt, retry: Retry) -> bool:
    return _exists(at, retry) is not False


def _compare_existing(
    source: ResolvedBackend, destination: ResolvedBackend, filenames: Iterable[str], retry: Retry
) -> tuple[bool | None, str]:
    """Compare the source's objects with those that the destination has at the same places."""
    proved: bool | None = None
    for filename in islice(dict.fromkeys(filenames), MAX_COMPARED):
        try:
            place = source.place(filename)
            if place.root != destination.root.root or not place.key.startswith(destination.root.key):
                continue
            there = destination.resolve_place(replace(destination.root, key=place.key))
            if there is None:
                continue
            equal, reason = _compare_objects(source.resolve_live(filename), there, retry, dated=True)
        except (KeyRefusedError, ValueError):
            continue
        if equal is False:
            return False, f"{filename!r} {reason}"
        proved = proved or equal
    return proved, ""


def _remove_folder(place: Place) -> None:
    if place.service == "file":
        with contextlib.suppress(OSError):
            Path("/" + place.key).parent.rmdir()
