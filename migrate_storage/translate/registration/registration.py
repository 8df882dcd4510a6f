"""A registered backend as a value, with its path rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from migrate_storage.core.model import Place
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.places import resolve_links
from migrate_storage.translate.registration.requested_url import RequestedUrl

__all__ = ("Registration",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """One registered backend, read."""

    key: str
    #: ``fsspec``, ``obstore``, or another backend's own name.
    driver: str
    #: Canonical protocol: ``s3``, ``gcs``, ``azure``, ``file``, ``memory``, ``http``, or fsspec's own name of another.
    protocol: str
    #: The backend as an obstore configuration.
    translation: Translation
    #: The backend's own prefix, as given.
    prefix: str | None = None
    #: Bucket, container or ``/``; empty when each row names its own.
    root: str = ""
    #: The prefix of every key, with the slash; empty for none.
    below: str = ""
    #: The application's class whose public methods read the files; empty where the filesystem or the store is read.
    own_class: str = ""
    #: Methods for reading, keys and deleting that are not those of a library's backend.
    overrides: tuple[str, ...] = ()
    #: The live fsspec filesystem below all wrappers, caches included; ``None`` for an obstore backend.
    filesystem: Any = field(default=None, repr=False, compare=False)
    #: Returns the path of a row's filename in :attr:`filesystem`.
    path: Callable[[str], str] = field(default=lambda filename: filename, repr=False, compare=False)
    #: Returns the store for the root of one of its places, without a prefix: the place's key is then the key in it.
    #: ``None`` where obstore has no counterpart, and for the memory of a process.
    config_at: Callable[[Place], StoreConfig | None] = field(default=lambda _: None, repr=False, compare=False)
    #: Returns the URL that the filesystem asks for one of its places; a text with the reason where none can be known.
    requested_url: Callable[[Place], RequestedUrl | str] = field(
        default=lambda _: "its files are not read through a known filesystem", repr=False, compare=False
    )
    #: The same of the URL that it signs.
    signed_url: Callable[[Place], RequestedUrl | str] = field(
        default=lambda _: "its filesystem signs no URL", repr=False, compare=False
    )
    _place: Callable[[str], Place] = field(
        default=lambda filename: Place(service="", endpoint="", root="", key=filename), repr=False, compare=False
    )

    @property
    def base(self) -> Place:
        """The place below which all files are, ending in a slash; no root if per row."""
        place = self._place("x")
        if not self.root:
            return replace(place, root="", key="")
        return resolve_links(replace(place, root=self.root, key=self.below))

    def place(self, filename: str) -> Place:
        """Return where the bytes of a row's filename physically are.

        Args:
            filename: as in the row.

        Returns:
            The place with the full key; links on a local disk are resolved. obstore may be unable to address that key:
            see :func:`migrate_storage.translate.unaddressable`.
        """
        return resolve_links(self._place(filename))

    def relative(self, filename: str, place: Place | None = None) -> str:
        """Return the key without the registration's bucket and prefix.

        A row has it as the filename in a destination.

        Args:
            filename: as in the row.
            place: what :meth:`place` returned for it, where that is known.

        Returns:
            The key below the registration's root. A file outside of it keeps its name.
        """
        if place is None or place.service == "file":  # whose links are resolved there
            place = self._place(filename)
        if not self.below:
            return place.key
        if not place.key.startswith(self.below):
            return filename
        return place.key[len(self.below) :]

    def contains(self, filename: str) -> bool:
        """Whether a filename stays below the prefix: ``../x`` on a disk does not."""
        return self._place(filename).key.startswith(self.below)
