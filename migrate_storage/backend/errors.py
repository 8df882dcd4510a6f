"""Raise errors of obstore as Python's own, with the path and without secrets."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from migrate_storage.backend.odd_objects import is_unreadable
from migrate_storage.core.errors import ConditionFailedError, KeyRefusedError, MissingBucketError
from migrate_storage.stores.failures import Failure, FailureKind, classify

__all__ = ("ErrorTranslator",)

_LIBRARIES = ("obstore", "pyo3_runtime", "pyo3_async_runtimes")


#: What obstore's error has before the reason of a credential provider.
_PROVIDER = "credential provider: "


class ErrorTranslator:
    """Turns obstore's errors into Python's own.

    ::

        with ErrorTranslator("reading", "a.txt", …):

    Args:
        doing: the operation, such as ``reading``.
        path: its object.
        where: the name of the store.
        secrets: texts to mask in messages.
    """

    __slots__ = ("_doing", "_path", "_secrets", "_where")

    def __init__(self, doing: str, path: str, where: str, secrets: Iterable[str]) -> None:
        self._doing, self._path, self._where, self._secrets = doing, path, where, secrets

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None or not _is_of_the_store(error):
            return
        failure = classify(error)
        raise self._translate_error(error, failure) from self._mask_cause(error, failure)

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _mask_cause(self, error: BaseException, failure: Failure) -> BaseException:
        """Return the cause without the secrets that services repeat in their answers."""
        text = self._mask(failure.message)
        try:
            return type(error)(text) if isinstance(error, Exception) else RuntimeError(text)
        except TypeError:
            return OSError(text)

    def _translate_error(self, error: BaseException, failure: Failure) -> Exception:
        doing, path, where = self._doing, self._path, self._where
        name = type(error).__name__
        detail = f"{doing} {path!r} in {where}: {self._mask(failure.message)}"
        if name == "PreconditionError":
            return ConditionFailedError(
                f"{doing} {path!r} in {where}: it is not (or no longer) as the condition requires"
            )
        if name == "NotModifiedError":
            return ConditionFailedError(f"{doing} {path!r} in {where}: it was not modified")
        if name in ("NotSupportedError", "NotImplementedError"):
            return NotImplementedError(detail)
        if name == "InvalidPathError":
            return KeyRefusedError(f"{detail}; a key that obstore cannot address is in its way")
        match failure.kind:
            case FailureKind.NO_BUCKET:
                return MissingBucketError(f"{doing} {path!r}: {where} does not exist; create it or correct its name")
            case FailureKind.MISSING:
                return FileNotFoundError(errno.ENOENT, f"no such object in {where}", path)
            case FailureKind.DENIED if _PROVIDER in failure.message:
                reason = self._mask(failure.message.partition(_PROVIDER)[2])
                return PermissionError(
                    errno.EACCES, f"{doing} in {where}: its credentials could not be had: {reason}", path
                )
            case FailureKind.DENIED:
                return PermissionError(errno.EACCES, f"{doing} was refused by {where}: check its credentials", path)
            case FailureKind.EXISTS:
                return FileExistsError(errno.EEXIST, f"there is such an object already in {where}", path)
            case FailureKind.FULL | FailureKind.TOO_LARGE:
                return OSError(errno.ENOSPC, f"no room is left in {where}", path)
        if is_unreadable(error):
            return OSError(
                errno.EIO,
                f"{detail}; the object is there, but obstore cannot read the answer: read it through fsspec, or "
                "save it again with a plain content encoding and metadata in ASCII",
            )
        text = failure.message.lower()
        if isinstance(error, ValueError):
            return ValueError(detail)
        if isinstance(error, TimeoutError) or "TimedOut" in str(error) or "timed out" in text:
            return TimeoutError(errno.ETIMEDOUT, detail)
        if "error sending request" in text or "connection" in text:
            return ConnectionError(detail)
        if isinstance(error, OSError) and error.errno:
            return OSError(error.errno, detail)
        return OSError(errno.EIO, detail)


def _is_of_the_store(error: BaseException) -> bool:
    module = type(error).__module__.partition(".")[0]
    return module in _LIBRARIES or (
        isinstance(error, OSError | ValueError | NotImplementedError) and module == "builtins"
    )
