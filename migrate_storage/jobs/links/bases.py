"""What the public addresses of a backend's files begin with: as a person gives it, or as the backend is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from migrate_storage.core.addresses import AddressBase
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.links import LinkBase
from migrate_storage.core.model import Place
from migrate_storage.stores.config.url_check import requested_by_store
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.translate.protocols.s3_hosts import vendor_host
from migrate_storage.translate.registration.requested_url import RequestedUrl

__all__ = ("Bases", "check_addresses", "choose_bases", "to_link_base")

MAX_BUCKETS = 50
"""Buckets of a source without a prefix that have an address each, at most."""
_OTHER_HOST = "another host of the same place"
_SERVICES = ("s3", "gcs", "azure")
_ANY_FILE = "name-of-a-file"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bases:
    """The base addresses of a job."""

    #: Those that are searched; some of them only to be reported.
    old: tuple[AddressBase, ...]
    #: That of the new addresses; ``None`` where none is known.
    new: AddressBase | None
    #: Why there is none.
    reason: str = ""

    @property
    def shown(self) -> tuple[LinkBase, ...]:
        """Those whose addresses are changed, as a value."""
        return tuple(to_link_base(base) for base in self.old if not base.reason)


def to_link_base(base: AddressBase) -> LinkBase:
    """A base address as a value of a report."""
    return LinkBase(address=str(base), folder=base.folder)


def check_addresses(side: ResolvedBackend, option: str) -> None:
    """Check that a backend's own address is known, as far as that does not depend on a file.

    Raises:
        ConfigurationError: it is not, so that the option has to be given.
    """
    if not side.root.root or side.registration.own_class:
        return
    if isinstance(found := _derive_base(side, _ANY_FILE, side.place(_ANY_FILE)), str):
        raise _make_unknown_error(side.key, found, option)


def _make_unknown_error(key: str, reason: str, option: str) -> ConfigurationError:
    return ConfigurationError(
        f"the public address of {key!r} is not known ({reason}): give it with {option} https://HOST/PATH/"
    )


def choose_bases(
    source: ResolvedBackend,
    destination: ResolvedBackend,
    given: tuple[Sequence[str], str | None],
    names: Iterable[str],
    sample: Sequence[tuple[str, str]],
) -> Bases:
    """Choose the addresses that are searched, and that of the new ones.

    Args:
        source: where the objects were.
        destination: where they are.
        given: ``--from-address`` and ``--to-address``, where a person gave them.
        names: the filenames of the moved objects at the source.
        sample: some of them, with those at the destination.

    Raises:
        ConfigurationError: an address that was given is none, or the source has none and none was given.
    """
    places = _sample_places(source, names)
    derived = [_derive_base(source, name, place) for name, place in places]
    found = [base for base in derived if isinstance(base, AddressBase)]
    texts, text = given
    old = [_fit_folder(AddressBase.parse(each, "--from-address"), source, places) for each in texts]
    if not old and not found:
        reason = next((each for each in derived if isinstance(each, str)), "it has no moved object")
        raise _make_unknown_error(source.key, reason, "--from-address")
    aliases = [alias for (_, place), base in zip(places, derived, strict=True) for alias in _list_aliases(place, base)]
    others = [replace(base, reason=_OTHER_HOST) for base in [*(found if old else ()), *aliases]]
    old = old or found
    taken = {(base.host, base.path) for base in old}
    unique = {(base.host, base.path): base for base in reversed(others) if (base.host, base.path) not in taken}
    new, reason = _choose_new(destination, text, sample)
    return Bases(old=(*old, *unique.values()), new=new, reason=reason)


def _choose_new(
    destination: ResolvedBackend, text: str | None, sample: Sequence[tuple[str, str]]
) -> tuple[AddressBase | None, str]:
    if text is not None:
        return AddressBase.parse(text, "--to-address"), ""
    if not sample:
        return None, "no object was moved"
    name = sample[0][1]
    base = _derive_base(destination, name, destination.place(name))
    return (base, "") if isinstance(base, AddressBase) else (None, base)


def _sample_places(source: ResolvedBackend, names: Iterable[str]) -> list[tuple[str, Place]]:
    """One file of each bucket, with its place."""
    found: dict[str, tuple[str, Place]] = {}
    for name in names:
        place = source.place(name)
        found.setdefault(place.root, (name, place))
        if source.root.root or len(found) == MAX_BUCKETS:
            break
    return list(found.values())


def _derive_base(side: ResolvedBackend, name: str, place: Place) -> AddressBase | str:
    """The base address below which a backend has a file, or the reason why none is known."""
    asked = _ask_address(side, place)
    if isinstance(asked, str):
        return asked
    if not asked.path.endswith(f"/{place.key}"):
        return "the address that its store asks does not end with the key"
    path, folder = asked.path.removesuffix(place.key), ""
    if place.key.endswith(name):
        path += place.key.removesuffix(name)
    elif name.endswith(f"/{place.key}"):
        folder = name.removesuffix(place.key)
    else:
        return "its filenames are no part of its addresses"
    if not path.endswith("/") or not path.isascii():
        return "its prefix ends within a name"
    shown = "" if _PORTS.get(asked.scheme) == asked.port else f":{asked.port}"
    return AddressBase(scheme=asked.scheme, host=f"{asked.host.lower()}{shown}", path=path, folder=folder)


def _ask_address(side: ResolvedBackend, place: Place) -> RequestedUrl | str:
    registration = side.registration
    if registration.own_class:
        return f"the class {registration.own_class} of the application decides it"
    if place.service not in _SERVICES:
        return "its files have no public address by themselves"
    asked = registration.requested_url(place)
    if isinstance(asked, RequestedUrl):
        return asked
    config = registration.config_at(place)
    if config is None:
        return asked
    try:
        return requested_by_store(config, place)
    except ConfigurationError as error:
        return str(error)


def _fit_folder(base: AddressBase, source: ResolvedBackend, places: Sequence[tuple[str, Place]]) -> AddressBase:
    """Add the bucket to a base whose host names it, where the filenames begin with it too."""
    if base.folder or source.root.root:
        return base
    for name, place in places:
        if base.host.startswith(f"{place.root}.") and name.startswith(f"{place.root}/"):
            return replace(base, folder=f"{place.root}/")
    return base


def _list_aliases(place: Place, base: AddressBase | str) -> Iterator[AddressBase]:
    """Other hosts under which the services of AWS and Google, and others by their style, serve the same objects."""
    if isinstance(base, str) or place.service not in ("s3", "gcs"):
        return
    bucket, (name, _, port) = place.root, base.host.partition(":")
    suffix = f":{port}" if port else ""
    in_host = name.startswith(f"{bucket}.")
    host = name.removeprefix(f"{bucket}.") if in_host else name
    below = base.path if in_host else f"/{base.path.removeprefix(f'/{bucket}/')}"
    hosts = [f"{host}{suffix}"]
    vendor = vendor_host(host) if place.service == "s3" else None
    if host.endswith("amazonaws.com"):
        region = vendor.region if vendor is not None else ""
        regional = (f"s3.{region}", f"s3-{region}", f"s3.dualstack.{region}") if region else ()
        hosts = [f"{each}.amazonaws.com" for each in ("s3", *regional)]
    elif host == "storage.googleapis.com":
        hosts = [host, "storage.cloud.google.com"]
    for each in hosts:
        for spelled, path in ((f"{bucket}.{each}", below), (each, f"/{bucket}{below}")):
            yield replace(base, host=spelled, path=path)
