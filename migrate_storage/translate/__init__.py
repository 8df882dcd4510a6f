"""What an fsspec configuration is in obstore's terms.

Pure: values in, a value out. No filesystem, SDK or obstore is imported, nothing is opened, nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from migrate_storage.model import Translation
from migrate_storage.translate import local, memory, s3
from migrate_storage.translate.keys import unaddressable
from migrate_storage.translate.notes import CODES, note
from migrate_storage.translate.places import same_service

__all__ = ("CODES", "PROTOCOLS", "same_service", "translate", "unaddressable")

_Translator = Callable[[Mapping[str, Any], str | None, Mapping[str, str]], Translation]

#: Every protocol with a counterpart, and the service that it stands for.
PROTOCOLS: dict[str, str] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "adl": "azure",
    "azure": "azure",
    "file": "file",
    "local": "file",
    "memory": "memory",
    "http": "http",
    "https": "http",
}

_TRANSLATORS: dict[str, _Translator] = {
    "s3": s3.translate,
    "file": local.translate,
    "memory": memory.translate,
}


def translate(
    protocol: str,
    storage_options: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    environment: Mapping[str, str] = {},
) -> Translation:
    """Translate an fsspec configuration into an obstore one.

    Args:
        protocol: fsspec's name of the filesystem, such as ``s3``.
        storage_options: What the filesystem is constructed with.
        prefix: The prefix of the ``FSSpecBackend``, with the bucket where it holds one.
        environment: Environment variables that the filesystem would read.

    Returns:
        The configuration, or ``None`` where there is no counterpart, and notes about all that has none. Never raises:
        what cannot be understood is a note.
    """
    options = {str(key): value for key, value in (storage_options or {}).items()}
    translator = _TRANSLATORS.get(PROTOCOLS.get(protocol, ""))
    if translator is None:
        return Translation(config=None, notes=(note("protocol.source_only", protocol),))
    try:
        return translator(options, prefix, environment)
    except Exception as error:  # noqa: BLE001 - any object may stand in an option; the answer is a note, never a traceback
        return Translation(config=None, notes=(note("translation.failed", why=type(error).__name__),))
