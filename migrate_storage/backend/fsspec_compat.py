"""Move from fsspec to obstore at run time, one backend or all of them.

One changed import line moves an application::

    from migrate_storage.backend.fsspec_compat import FSSpecBackend
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from advanced_alchemy.types.file_object.base import StorageBackend

from migrate_storage.backend.locators import BucketLocator, reason_to_keep
from migrate_storage.backend.obstore import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Note
from migrate_storage.core.text import one_line
from migrate_storage.translate.registration import Registration, protocol_registration, read

__all__ = ("Conversion", "FSSpecBackend", "FallbackWarning", "convert_registrations")


class FallbackWarning(UserWarning):
    """A backend has no counterpart in obstore and continues to use fsspec."""


class FSSpecBackend(ObstoreBackend):
    """Advanced-alchemy's ``FSSpecBackend``, through obstore.

    Where there is no counterpart, calling the class returns advanced-alchemy's own ``FSSpecBackend`` and warns once.
    A protocol's name is translated without making its filesystem, so that s3fs, gcsfs or adlfs need not be installed.

    Args:
        key: the backend's key.
        fs: a filesystem, or a protocol's name.
        prefix: joined before every filename.
        **kwargs: arguments of the filesystem, with a protocol's name.

    Warns:
        FallbackWarning: with the reason.
    """

    def __new__(cls, key: str, fs: Any, prefix: str | None = None, **kwargs: Any) -> Any:
        """Make one, or advanced-alchemy's own class."""
        found = _read_registration(key, fs, prefix, kwargs)
        if reason := reason_to_keep(found.translation):
            warnings.warn(f"the backend {key!r} stays on fsspec: {reason}", FallbackWarning, stacklevel=2)
            return _import_upstream()(key=key, fs=fs, prefix=prefix, **kwargs)
        return super().__new__(cls)

    def __init__(self, key: str, fs: Any, prefix: str | None = None, **kwargs: Any) -> None:
        super().__init__(key, BucketLocator(_read_registration(key, fs, prefix, kwargs)))
        self._arguments = (key, fs, prefix, kwargs)
        self.prefix = prefix

    def __reduce__(self) -> Any:
        key, fs, prefix, kwargs = self._arguments
        return partial(type(self), **kwargs), (key, fs, prefix)


def _read_registration(key: str, fs: Any, prefix: str | None, kwargs: Mapping[str, Any]) -> Registration:
    if isinstance(fs, str):
        return protocol_registration(key, fs, kwargs, prefix, os.environ)
    # A backend with these arguments that is read without being made.
    return read(SimpleNamespace(driver="fsspec", key=key, fs=fs, prefix=prefix))


def _import_upstream() -> Any:
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend as Upstream

    return Upstream


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """The result for one registration."""

    key: str
    #: The backend that is registered now.
    backend: StorageBackend
    #: Whether it was replaced.
    converted: bool
    #: Why it was not replaced, in one line; empty where it was, or where it was an obstore backend already.
    reason: str = ""
    notes: tuple[Note, ...] = ()


def convert_registrations(storages: Any) -> tuple[Conversion, ...]:
    """Replace every fsspec registration that translates, under the same key.

    Call it right after the registrations, before the first row is loaded: columns and files keep the backend that they
    resolved first. A backend that a column was given as an object is in no registry, and is not replaced.

    Args:
        storages: advanced-alchemy's registry of storage backends.

    Returns:
        The result for each registration, in the order of the registry. Nothing is raised for one that is not replaced.
    """
    return tuple(_convert_registration(storages, key) for key in storages.registered_backends())


def _convert_registration(storages: Any, key: str) -> Conversion:
    backend = storages.get_backend(key)
    if backend.driver != "fsspec":
        return Conversion(key=key, backend=backend, converted=False)
    translation = read(backend).translation
    reason = reason_to_keep(translation)
    if not reason:
        try:
            replacement = ObstoreBackend.from_fsspec(backend)
        except ConfigurationError as error:
            reason = one_line(error)
        else:
            storages.register_backend(replacement)
            return Conversion(key=key, backend=replacement, converted=True, notes=translation.notes)
    return Conversion(key=key, backend=backend, converted=False, reason=reason, notes=translation.notes)
