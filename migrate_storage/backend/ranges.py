"""Ranges of an object as fsspec has them: from either end, past the end, and of an empty object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ("FromEnd", "is_past_end", "slice_of")


@dataclass(frozen=True, slots=True)
class FromEnd:
    """A range that needs the size of the object: one of its ends counts from the end."""

    start: int | None
    end: int | None

    def within(self, size: int) -> tuple[int, int]:
        """Return the range, end exclusive; both are equal where it is empty."""
        return _clip(self.start, self.end, size)


def _clip(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


def is_past_end(asked: Any, size: int) -> bool:
    """Whether a range of obstore begins at or past the end of an object."""
    first, last = _bounds(asked, size)
    return first >= last


def slice_of(content: bytes, asked: Any) -> bytes:
    """Return the range of a content that was read as a whole; all of it without a range."""
    if asked is None:
        return content
    first, last = asked.within(len(content)) if isinstance(asked, FromEnd) else _bounds(asked, len(content))
    return content[first:last]


def _bounds(asked: Any, size: int) -> tuple[int, int]:
    if isinstance(asked, Mapping):
        if "suffix" in asked:
            return max(0, size - asked["suffix"]), size
        return min(asked.get("offset") or 0, size), size
    return min(asked[0], size), min(asked[1], size)
