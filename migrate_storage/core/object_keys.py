"""Keys that obstore can address exactly, and an encoding for the others.

obstore refuses other keys, or normalises them into another object's key: ``/a`` and ``a/`` become ``a``. This was
tested on S3, Azure, local and memory stores with the keys of ``tests/support/translate/hostile_keys.py``.
"""

from __future__ import annotations

import re
import urllib.parse

__all__ = ("decode_key", "encode_key", "is_unfinished_upload", "unaddressable")

#: LocalStore stages an upload of ``x`` as ``x#1``, and hides and refuses names with only digits after the first ``#``.
_STAGING_NAME = re.compile(r"[^#]*#[0-9]+")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

#: File systems allow 255 bytes for a name, and LocalStore needs two of them for ``#1``.
_MAX_LOCAL_NAME_BYTES = 253


def unaddressable(key: str, *, local: bool = False) -> str | None:
    r"""Return why obstore cannot address a key exactly.

    Args:
        key: The raw key as obstore would get it, not percent-encoded.
        local: Whether the store is a directory on a local disk, which has two more rules.

    Returns:
        The reason in a few words, without the key; ``None`` when the key can be read and written as it is.

    Examples:
        >>> unaddressable("a/b c#?%41.txt") is None
        True
        >>> unaddressable("a//b")
        'has an empty path segment'
    """
    if key == "":
        return "is empty"
    if key[0] == "/":
        return "starts with a slash"
    if key[-1] == "/":
        return "ends with a slash"
    for segment in key.split("/"):
        if segment == "":
            return "has an empty path segment"
        if segment in (".", ".."):
            return f"has a path segment {segment!r}"
    if _CONTROL.search(key):
        return "has a control character"
    if _SURROGATE.search(key):
        return "is not valid Unicode"
    if local:
        return _check_file_name(key)
    return None


def is_unfinished_upload(key: str) -> bool:
    """Whether a file has a name under which LocalStore writes an upload, which a killed process leaves."""
    return _STAGING_NAME.fullmatch(key.rpartition("/")[2]) is not None


def _check_file_name(key: str) -> str | None:
    *folders, name = key.split("/")
    if _STAGING_NAME.fullmatch(name):
        return "has a file name that a local store keeps for uploads under way"
    if len(name.encode()) > _MAX_LOCAL_NAME_BYTES:
        return f"has a file name longer than {_MAX_LOCAL_NAME_BYTES} bytes"
    if any(len(folder.encode()) > 255 for folder in folders):
        return "has a folder name longer than 255 bytes"
    return None


def encode_key(key: str, *, local: bool = False) -> str:
    r"""Give a key that obstore cannot address a name that it can: the ``encode`` rule.

    Only what cannot be addressed is percent-encoded (RFC 3986, over UTF-8), and ``%`` itself, so that
    :func:`decode_key` gives the key back. A key that can be addressed stays as it is, and so does one that no encoding
    helps: an empty key, or a name that is too long for a disk.

    Args:
        key: The raw key as obstore would get it.
        local: Whether the store is a directory on a local disk.

    Examples:
        >>> encode_key("a//b/../50%\n")
        'a/%2Fb/%2E%2E/50%25%0A'
        >>> encode_key("100% fine")
        '100% fine'
    """
    if unaddressable(key, local=local) is None:
        return key
    # An empty segment has no spelling of its own: the slash that follows it becomes a part of the next segment's name.
    lead = len(key) - len(key.lstrip("/"))
    text = key[lead:].replace("%", "%25")
    text = _SLASHES.sub(lambda found: found[0][:1] + "%2F" * (len(found[0]) - 1), text)
    if text.endswith("/"):
        text = f"{text[:-1]}%2F"
    segments = [_encode_segment(segment) for segment in ("%2F" * lead + text).split("/")]
    encoded = "/".join(segments)
    if local and _STAGING_NAME.fullmatch(segments[-1]):
        encoded = "/".join((*segments[:-1], segments[-1].replace("#", "%23", 1)))
    return encoded


def decode_key(encoded: str) -> str:
    """The key that :func:`encode_key` changed into this one."""
    return urllib.parse.unquote_to_bytes(encoded.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


_SLASHES = re.compile(r"/{2,}")


def _encode_segment(segment: str) -> str:
    if segment in (".", ".."):
        return segment.replace(".", "%2E")
    return "".join(
        "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        if ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) <= 0xDFFF
        else character
        for character in segment
    )
