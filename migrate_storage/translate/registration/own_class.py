"""Find storage backends of the application's own classes, whose files are read through their public methods.

A subclass of a library's backend that reads in its own way may change bytes (decrypt, decompress) or keys (a folder for each
tenant). Reading its filesystem or store directly would then read something else than the application does.
"""

from __future__ import annotations

from typing import Any

from migrate_storage.core.model import Place
from migrate_storage.translate.model import Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.registration.registration import Registration

__all__ = ("DIRECT", "SERVICE", "find_overrides", "own_registration", "prefers_async", "reads_its_own_way")

SERVICE = "own"
"""The service of a place in a backend of the application's own class. Its endpoint is the backend key."""
DIRECT = "migrate_storage_direct"
"""An attribute of this name, if true, declares that what a class overrides changes neither bytes nor keys."""
_READS = ("get_content", "get_content_async")
_KEYS = ("_to_path",)
"""Rules for keys; ``_prepare_path`` of an ``FSSpecBackend`` is called, so that it may be overridden."""
_DELETES = ("delete_object", "delete_object_async")
_LIBRARIES = ("advanced_alchemy", "migrate_storage")
"""Packages whose backends are read through their filesystem or store."""
_MISSING = 1_000_000


def find_overrides(backend: Any) -> tuple[str, ...]:
    """Return which methods for reading, for keys and for deleting are not those of a library's backend.

    Args:
        backend: any storage backend.

    Returns:
        Their names; none where the class declares by :data:`DIRECT` that they change nothing.
    """
    if getattr(backend, DIRECT, False):
        return ()
    keys = () if getattr(backend, "driver", None) == "fsspec" else _KEYS
    return tuple(name for name in (*_READS, *keys, *_DELETES) if _is_overridden(backend, name))


def reads_its_own_way(overrides: tuple[str, ...]) -> bool:
    """Whether one of these methods decides which bytes the application reads."""
    return bool(_names_of_reads(overrides))


def prefers_async(backend: Any) -> bool:
    """Whether the asynchronous method is the one that the application wrote, or wrote last."""
    return _find_depth(backend, "get_content_async") < _find_depth(backend, "get_content")


def own_registration(key: str, backend: Any, overrides: tuple[str, ...]) -> Registration:
    """Read a backend of the application's own class.

    Args:
        key: the backend's key.
        backend: the backend.
        overrides: as :func:`find_overrides` returned them.
    """
    name = type(backend).__name__
    driver = str(getattr(backend, "driver", "") or name)
    return Registration(
        key=key,
        driver=name if driver in ("fsspec", "obstore") else driver,
        protocol=SERVICE,
        translation=Translation(
            config=None, notes=(note("backend.own", name, methods=" and ".join(_names_of_reads(overrides))),)
        ),
        own_class=name,
        overrides=overrides,
        _place=lambda filename: Place(service=SERVICE, endpoint=key, root="", key=filename),
    )


def _names_of_reads(overrides: tuple[str, ...]) -> list[str]:
    return [name for name in overrides if name not in _DELETES]


def _is_overridden(backend: Any, name: str) -> bool:
    if name in getattr(backend, "__dict__", {}):
        return True
    definer = _find_definer(backend, name)
    return definer is not None and definer.__module__.partition(".")[0] not in _LIBRARIES


def _find_definer(backend: Any, name: str) -> type | None:
    return next((each for each in type(backend).__mro__ if name in vars(each)), None)


def _find_depth(backend: Any, name: str) -> int:
    """Return how far from the instance a method is defined: -1 for the instance itself."""
    if name in getattr(backend, "__dict__", {}):
        return -1
    definer = _find_definer(backend, name)
    return _MISSING if definer is None else type(backend).__mro__.index(definer)
