"""Classify the errors of stores, and clean their messages.

obstore gives the HTTP status only inside the text of an error. fsspec's filesystems give it as an attribute of the
error or of its cause. Only this module reads either of them.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import ObjectMeta

__all__ = ("Failure", "FailureKind", "ObjectCheckError", "classify", "is_missing")


class ObjectCheckError(Exception):
    """A check of one object failed; the same request would fail again."""

    #: What was written before that and is at the destination, as the answer to the request described it.
    left: ObjectMeta | None = None


class FailureKind(enum.StrEnum):
    """What a failed request means for its sender."""

    MISSING = "missing"
    """There is no such object."""
    NO_BUCKET = "no bucket"
    """There is no such bucket or container: no request to this store can work."""
    DENIED = "denied"
    """The credentials are refused, or lack a right."""
    ARCHIVED = "archived"
    """The object must be restored from an archive class first."""
    EXISTS = "exists"
    """There is an object already, and the request must not replace it."""
    SLOW_DOWN = "slow down"
    """The service asks for fewer requests: wait, then send fewer at once."""
    TRANSIENT = "transient"
    """The same request may work later."""
    FULL = "full"
    """The store has no space left, or its quota is used up: no further object fits."""
    TOO_LARGE = "too large"
    """The disk takes no file of this size. Smaller ones may fit."""
    PERMANENT = "permanent"
    """The same request will fail again."""

    @property
    def retriable(self) -> bool:
        """Whether the same request is worth sending again."""
        return self in (FailureKind.SLOW_DOWN, FailureKind.TRANSIENT)

    @property
    def is_store_wide(self) -> bool:
        """Whether it concerns the whole store, so that other objects will fail too."""
        return self.retriable or self.is_final or self in (FailureKind.DENIED, FailureKind.TOO_LARGE)

    @property
    def is_final(self) -> bool:
        """Whether no other object can succeed, so that the job ends at once."""
        return self in (FailureKind.NO_BUCKET, FailureKind.FULL)


@dataclass(frozen=True, slots=True)
class Failure:
    """A store's error, classified."""

    kind: FailureKind
    #: One line without control characters, query strings or credentials.
    message: str


_MAX_CAUSES = 6
_MAX_MESSAGE_CHARACTERS = 400
_STATUS = re.compile(r"status code: (\d{3})|\bHTTP (\d{3})\b")
_QUERY = re.compile(r"\?[^\s\"'>,]*")
_USERINFO = re.compile(r"://[^/\s@]+@")
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_NOISE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_NO_BUCKET = (
    "NoSuchBucket", "ContainerNotFound",
    "The specified bucket does not exist", "The specified container does not exist",
)  # fmt: skip
_ARCHIVED = ("InvalidObjectState", "BlobArchived")
_FULL = ("no space left", "disk quota exceeded")
_TRANSIENT_TEXTS = (
    "error sending request", "connection", "timed out", "timeout", "reset by peer", "incomplete", "body error",
    "decoding response", "broken pipe", "end of file", "eof", "payload is not completed", "truncated", "temporarily",
    "invalid list response",
)  # fmt: skip
_EXISTS_TYPES = ("AlreadyExistsError", "PreconditionError")
_DENIED_TYPES = ("PermissionDeniedError", "UnauthenticatedError")
_TRANSIENT_TYPES = (
    "ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "FSTimeoutError", "ServerTimeoutError",
)  # fmt: skip


def classify(error: BaseException) -> Failure:
    """Classify an error of obstore, fsspec or the operating system.

    Args:
        error: what was raised; also a Rust panic, which derives from ``BaseException``.
    """
    text = str(error)
    head = text.split("\n\nDebug source:", 1)[0]
    message = describe(head) or type(error).__name__
    status = _read_http_status(error, head)
    if any(word in head for word in _NO_BUCKET):
        return Failure(FailureKind.NO_BUCKET, message)
    if any(word in head for word in _ARCHIVED) and (status in (None, 403, 409)):
        return Failure(FailureKind.ARCHIVED, message)
    return Failure(_classify_kind(error, head.lower(), status), message)


def is_missing(error: FileNotFoundError) -> bool:
    """Whether :func:`classify` gives :attr:`FailureKind.MISSING`, at a low cost: most of these errors are expected."""
    text = str(error)
    return not any(word in text for word in (*_NO_BUCKET, *_ARCHIVED)) or classify(error).kind is FailureKind.MISSING


def describe(text: str) -> str:
    """Return a message as one line without query strings and control characters."""
    code = _CODE.search(text)
    line = text.split("<?xml", 1)[0].split("<Error", 1)[0]
    line = _NOISE.sub(" ", _USERINFO.sub("://", _QUERY.sub("", line))).strip(" :-")
    return (f"{line} ({code.group(1)})" if code else line)[:_MAX_MESSAGE_CHARACTERS]


def _classify_kind(error: BaseException, text: str, status: int | None) -> FailureKind:
    name = type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FailureKind.MISSING
    if isinstance(error, FileExistsError) or name in _EXISTS_TYPES or status in (409, 412):
        return FailureKind.EXISTS
    if isinstance(error, PermissionError) or name in _DENIED_TYPES or status in (401, 403):
        return FailureKind.DENIED
    if status in (429, 503) or "slowdown" in text or "slow down" in text:
        return FailureKind.SLOW_DOWN
    number = getattr(error, "errno", None)
    if status == 507 or number in (errno.ENOSPC, errno.EDQUOT) or any(words in text for words in _FULL):
        return FailureKind.FULL
    if number == errno.EFBIG or "file too large" in text:
        return FailureKind.TOO_LARGE
    if status is not None and (status >= 500 or status == 408) and status != 501:
        return FailureKind.TRANSIENT
    if status is None and _is_transient(error, text, name):
        return FailureKind.TRANSIENT
    return FailureKind.PERMANENT


def _is_transient(error: BaseException, text: str, name: str) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError)) or name in _TRANSIENT_TYPES:
        return True
    return isinstance(error, (OSError, EOFError)) | (name in ("GenericError", "JoinError")) and any(
        words in text for words in _TRANSIENT_TEXTS
    )


def _read_http_status(error: BaseException, text: str) -> int | None:
    found = _STATUS.search(text)
    if found:
        return int(found.group(1) or found.group(2))
    for link in _iterate_causes(error):
        for name in ("status", "status_code", "code"):
            value = getattr(link, name, None)
            if isinstance(value, int) and 100 <= value <= 599:
                return value
        response: Any = getattr(link, "response", None)
        if isinstance(response, dict):
            value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(value, int):
                return value
    return None


def _iterate_causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__
