"""Refuse to use obstore in a process that was forked after obstore was used.

obstore runs on one runtime of threads for the whole process. Threads do not survive ``fork``. A child of a process that
had already used obstore would therefore wait for ever, even with a store of its own. Constructing a store starts no
threads: a store that was made before the fork and is first used after it works.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ("ForkedAfterUseError", "touch")

_used = False
_cut_off = False


_ADVICE = (
    "obstore was used before this process was forked, and cannot work in the child: make the first request after the fork "
    "(constructing backends before it is fine), or start the process by spawn"
)


class ForkedAfterUseError(RuntimeError):
    """obstore was used before the fork, so every call would hang for ever."""

    def __init__(self, message: str = _ADVICE) -> None:
        super().__init__(message)


def touch() -> None:
    """Record that obstore is used.

    Call it before every operation, never when constructing a store.

    Raises:
        ForkedAfterUseError: the operation would hang.
    """
    global _used
    if _cut_off:
        raise ForkedAfterUseError
    _used = True


def _note_use_before_fork() -> None:
    """Record use of obstore by other code, such as an application's own store."""
    global _used
    _used = _used or _is_runtime_running()


def _is_runtime_running() -> bool:
    """Whether a runtime of Rust threads runs in this process; known on Linux only.

    Other libraries name their threads alike: in doubt an error is better than waiting for ever.
    """
    try:
        with os.scandir("/proc/self/task") as tasks:
            names = [Path(task.path, "comm").read_text() for task in tasks]
    except OSError:
        return False
    return any(name.startswith("tokio-") for name in names)


def _cut_off_child() -> None:
    global _cut_off
    _cut_off = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_use_before_fork, after_in_child=_cut_off_child)
