"""Encode content type and user metadata so that a store returns them exactly.

obstore reads a metadata key spelled ``Content-Type``, ``cachecontrol`` or ``Storage-Class`` as the header itself. Some
stores change the case of a name, the blanks of a value or characters outside ASCII. All pairs that would not be
returned exactly are sent together, as JSON in ASCII, under one reserved key.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Attributes

__all__ = ("RESERVED", "decode", "encode")

RESERVED = "metadata_json"
"""The user metadata key of all pairs that a store would not return exactly."""

#: Azure accepts C# identifiers only; S3 returns every name in lower case.
_PLAIN_KEY = re.compile(r"[a-z_][a-z0-9_]*")
#: No blank at an end (it would be trimmed), no two together (they break the signature on some servers).
_PLAIN_VALUE = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
#: Names that obstore reads as a header, in any case and with or without hyphens.
_HEADERS = {
    "contenttype": "content_type",
    "contentencoding": "content_encoding",
    "contentlanguage": "content_language",
    "contentdisposition": "content_disposition",
    "cachecontrol": "cache_control",
}
_RESERVED_NAMES = frozenset({*_HEADERS, "storageclass", RESERVED})

#: Bytes of user metadata, names and values together, that a service keeps for one object. Sources: Amazon S3 User
#: Guide, "Working with object metadata"; Cloud Storage "Quotas & limits"; Azure REST "Setting and retrieving properties
#: and metadata".
_MAX_METADATA_BYTES = {"s3": 2048, "gcs": 8192, "azure": 8192}


def encode(content_type: str | None, metadata: Mapping[str, Any] | None, service: str) -> dict[str, str] | None:
    """Return the attributes for obstore's ``put``.

    Args:
        content_type: the header; ``None`` or empty for none.
        metadata: user metadata with values of any JSON type; ``None`` or empty for none.
        service: ``s3``, ``gcs``, ``azure``, ``memory``, ``file`` or ``http``.

    Returns:
        The attributes; ``None`` where there are none, or the service keeps none (local disk, plain HTTP).

    Raises:
        ConfigurationError: no store could keep them; nothing was written.
    """
    attributes: dict[str, str] = {}
    if content_type:
        if not _is_header(content_type):
            raise ConfigurationError(f"content type {content_type!r}: only printable ASCII can be a header; correct it")
        attributes["Content-Type"] = content_type
    if metadata:
        user = _encode_metadata(metadata)
        most = _MAX_METADATA_BYTES.get(service)
        size = sum(len(key) + len(value) for key, value in user.items())
        if most is not None and size > most:
            raise ConfigurationError(
                f"metadata of {size} bytes is more than the {most} that {service} keeps; shorten it, or keep it in the "
                "row only with store_metadata=False"
            )
        attributes.update(user)
    return attributes or None if service not in ("file", "http") else None


@functools.lru_cache(maxsize=256)
def _is_header(text: str) -> bool:
    return _PLAIN_VALUE.fullmatch(text) is not None


def _encode_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    user: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for key, value in metadata.items():
        plain = (
            isinstance(key, str)
            and isinstance(value, str)
            and _PLAIN_KEY.fullmatch(key)
            and _PLAIN_VALUE.fullmatch(value)
        )
        if plain and key not in _RESERVED_NAMES:
            user[key] = value
        else:
            rest[key] = value
    if rest:
        try:
            text = json.dumps(rest, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"metadata cannot be written as JSON: {error}; use JSON types only") from None
        if json.loads(text) != rest:
            raise ConfigurationError(
                "metadata would not come back the same from JSON: use text for keys, lists for tuples"
            )
        user[RESERVED] = text.replace(" ", "\\u0020").replace("\x7f", "\\u007f")
    return user


def decode(found: Mapping[Any, str]) -> Attributes:
    """Return the attributes of a ``GetResult``; the inverse of :func:`encode`."""
    named: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    for key, value in found.items():
        field = _HEADERS.get(str(key).lower().replace("-", ""))
        if field:
            named[field] = value
        elif str(key).lower() not in ("storage-class", "storageclass"):
            metadata[str(key)] = value
    if RESERVED in metadata:
        try:
            rest = json.loads(metadata[RESERVED])
        except ValueError:
            rest = None
        if isinstance(rest, dict):
            del metadata[RESERVED]
            metadata.update(rest)
    return Attributes(**named, metadata=metadata)
