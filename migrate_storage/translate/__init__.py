"""Translate an fsspec configuration into an obstore configuration.

Pure functions of values: no filesystem, SDK or obstore is imported, nothing is opened, nothing is sent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.core.object_keys import decode_key, encode_key, unaddressable
from migrate_storage.core.text import printable
from migrate_storage.translate.model import Translation
from migrate_storage.translate.notes import CODES, note
from migrate_storage.translate.option_tables import mapping
from migrate_storage.translate.places import same_service
from migrate_storage.translate.protocols import azure, gcs, http, local, memory, s3
from migrate_storage.translate.protocols.s3_address import Resolver
from migrate_storage.translate.protocols.unsupported import ARCHIVES, SOURCE_ONLY
from migrate_storage.translate.wrappers import Unwrapped, unwrap, unwrap_url

__all__ = (
    "CODES", "PROTOCOLS", "decode_key", "encode_key", "same_service", "translate", "translate_url", "unaddressable",
)  # fmt: skip

#: Every protocol with a counterpart, and its service.
PROTOCOLS: dict[str, str] = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "adl": "azure", "azure": "azure", "file": "file", "local": "file", "memory": "memory", "http": "http",
    "https": "http",
}  # fmt: skip

_TRANSLATORS: dict[str, Callable[[Mapping[str, Any], str | None, Mapping[str, str]], Translation]] = {
    "s3": s3.translate, "gcs": gcs.translate, "azure": azure.translate,
    "file": local.translate, "memory": memory.translate, "http": http.translate,
}  # fmt: skip


def translate(
    protocol: str,
    storage_options: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    environment: Mapping[str, str] = {},
    resolver: Resolver | None = None,
) -> Translation:
    """Translate an fsspec configuration into an obstore one.

    Args:
        protocol: fsspec's name of the filesystem, such as ``s3``.
        storage_options: the arguments of the filesystem.
        prefix: the prefix of the ``FSSpecBackend``, with the bucket where it has one.
        environment: environment variables that the filesystem would read.
        resolver: knows the addresses that an ``S3FileSystem`` asks; ``None`` for botocore's rules without a session.

    Returns:
        The configuration, or ``None`` where there is no counterpart, and a note for each option without one. Never
        raises: what cannot be read becomes a note.
    """
    return _translate_unwrapped(lambda: unwrap(protocol, mapping(storage_options), prefix), environment, resolver)


def translate_url(
    url: str, storage_options: Mapping[str, Any] | None = None, environment: Mapping[str, str] = {}
) -> Translation:
    """Translate a URL, also a chained one, with the options of ``url_to_fs``.

    Args:
        url: for example ``s3://bucket/folder`` or ``simplecache::s3://bucket``.
        storage_options: options of the first protocol; those of further ones under their names.
        environment: environment variables that the filesystem would read.

    Returns:
        As :func:`translate`.
    """
    return _translate_unwrapped(lambda: unwrap_url(url, mapping(storage_options)), environment)


def _translate_unwrapped(
    find: Callable[[], Unwrapped], environment: Mapping[str, str], resolver: Resolver | None = None
) -> Translation:
    try:
        found = find()
        translator = _TRANSLATORS.get(PROTOCOLS.get(found.protocol, ""))
        if translator is None:
            return Translation(config=None, notes=(*found.notes, _note_no_counterpart(found.protocol)))
        if resolver is not None:
            translator = functools.partial(s3.translate, resolver=resolver)
        translation = translator(found.options, found.prefix, environment)
        return replace(translation, notes=(*found.notes, *translation.notes))
    except Exception as error:  # noqa: BLE001 - an option may be any object; the answer is a note, never a traceback
        return Translation(config=None, notes=(note("translation.failed", why=type(error).__name__),))


def _note_no_counterpart(protocol: str) -> Note:
    if protocol in ARCHIVES:
        return note("protocol.archive", protocol)
    if protocol == "generic":
        return note("wrapper.generic")
    known = SOURCE_ONLY.get(protocol)
    return note("protocol.source_only", printable(protocol[:80]), why=f" ({known})" if known else "")
