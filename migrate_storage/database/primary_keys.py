"""Primary keys as the journal stores them and as a person types them."""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import functools
import hashlib
import ipaddress
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column

__all__ = (
    "digest_of",
    "dump_key",
    "dump_parts",
    "load_key",
    "load_parts",
    "row_head",
    "row_id",
    "row_id_of",
    "spellings",
)

_MICROSECOND = datetime.timedelta(microseconds=1)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump_key(pk: Sequence[Any]) -> str:
    """A primary key as JSON that keeps the types of its parts, for the journal."""
    return _encode(dump_parts(pk))


def dump_parts(pk: Sequence[Any]) -> list[Any]:
    """The parts of a primary key in types that JSON has."""
    return [_dump_part(part) for part in pk]


def load_key(dumped: str) -> tuple[Any, ...]:
    """The primary key that :func:`dump_key` wrote."""
    return load_parts(json.loads(dumped))


def load_parts(parts: Sequence[Any]) -> tuple[Any, ...]:
    """The primary key of which :func:`dump_parts` made these."""
    return tuple(_load_part(part) for part in parts)


def row_id(of: Column, pk: Sequence[Any]) -> str:
    """The journal's id of one column of one row: a digest."""
    return row_id_of(of, dump_key(pk))


def row_id_of(of: Column, dumped: str) -> str:
    """The same for a key that :func:`dump_key` wrote."""
    return digest_of(f"{row_head(of)}{_encode(dumped)}]")


@functools.cache
def row_head(of: Column) -> str:
    """The JSON list of a row's id up to its key, which follows as JSON text."""
    return json.dumps([of.schema, of.table, of.column], ensure_ascii=False)[:-1] + ", "


def digest_of(name: str) -> str:
    """A short digest of a text. PostgreSQL can compute it too."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _dump_part(part: Any) -> Any:
    if isinstance(part, bool) or part is None or isinstance(part, (int, str)):
        return part
    for kind, (types, dump, _) in _KINDS.items():
        if isinstance(part, types):
            return {kind: dump(part)}
    raise ConfigurationError(
        f"a primary key of type {type(part).__name__} cannot be journaled: leave this table out with --columns"
    )


def _load_part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    ((kind, value),) = part.items()
    return _KINDS[kind][2](value)


_KINDS: dict[str, tuple[tuple[type, ...], Callable[[Any], str], Callable[[str], Any]]] = {
    "float": ((float,), float.hex, float.fromhex),
    "bytes": (
        (bytes, bytearray, memoryview), lambda part: base64.b64encode(bytes(part)).decode(), base64.b64decode,
    ),
    "uuid": ((uuid.UUID,), str, uuid.UUID),
    "decimal": ((decimal.Decimal,), str, decimal.Decimal),
    # Before "date", for a datetime is a date.
    "datetime": ((datetime.datetime,), lambda part: str(part.isoformat()), datetime.datetime.fromisoformat),
    "date": ((datetime.date,), lambda part: str(part.isoformat()), datetime.date.fromisoformat),
    "time": ((datetime.time,), lambda part: str(part.isoformat()), datetime.time.fromisoformat),
    "microseconds": (
        (datetime.timedelta,), lambda part: str(part // _MICROSECOND), lambda text: int(text) * _MICROSECOND,
    ),
    # Before "address", for an interface is an address.
    "interface": ((ipaddress.IPv4Interface, ipaddress.IPv6Interface), str, ipaddress.ip_interface),
    "address": ((ipaddress.IPv4Address, ipaddress.IPv6Address), str, ipaddress.ip_address),
    "network": ((ipaddress.IPv4Network, ipaddress.IPv6Network), str, ipaddress.ip_network),
}  # fmt: skip
"""By JSON key: types of a key's part, and how such a part is written and read."""


def spellings(typed: str) -> Iterator[Any]:
    """The values that a typed key may be in the database."""
    if typed.lstrip("-").isdigit():
        yield int(typed)
    yield typed
    try:
        number = uuid.UUID(typed)
    except ValueError:
        pass
    else:
        yield from (number, number.bytes, number.hex, str(number))
    with contextlib.suppress(ValueError):
        yield bytes.fromhex(typed)
