"""Options of a read, by obstore's names and by fsspec's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.backend.ranges import FromEnd
from migrate_storage.core.errors import UnknownOptionError

__all__ = ("get_options",)

_OBSTORE = frozenset({"if_match", "if_none_match", "if_modified_since", "if_unmodified_since", "range", "version"})
#: Options of a save, which advanced-alchemy's own class accepts for a read too.
_SAVE_OPTIONS = frozenset({"use_multipart", "chunk_size", "max_concurrency"})


def get_options(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the options for obstore's ``get``.

    Args:
        options: obstore's own, and fsspec's ``start`` and ``end``.

    Returns:
        ``None`` where the range is empty, which obstore refuses.

    Raises:
        UnknownOptionError: a name is none of these.
        ValueError: a range is invalid.
    """
    wanted = {name: value for name, value in options.items() if name in _OBSTORE and value is not None}
    for name in options:
        if name not in _OBSTORE and name not in _SAVE_OPTIONS and name not in ("start", "end"):
            raise UnknownOptionError(f"{name!r} is no option of a read; use start, end, {', '.join(sorted(_OBSTORE))}")
    start, end = options.get("start"), options.get("end")
    if start is not None or end is not None:
        if "range" in wanted:
            raise ValueError("a range is given twice, as range and as start and end; keep one")
        wanted["range"] = _read_range(start, end)
    asked = wanted.get("range")
    if isinstance(asked, tuple | list):
        if len(asked) != 2 or asked[0] < 0 or asked[1] < asked[0]:
            raise ValueError(f"range={asked!r} is not (start, end) with 0 <= start <= end")
        if asked[0] == asked[1]:
            return None
        wanted["range"] = tuple(asked)
    elif isinstance(asked, Mapping) and asked.get("suffix") == 0:
        return None
    return wanted


def _read_range(start: int | None, end: int | None) -> Any:
    if start is not None and start < 0 and end is None:
        return {"suffix": -start}
    if (start is not None and start < 0) or (end is not None and end < 0):
        return FromEnd(start, end)
    if end is None:
        return {"offset": start}
    return (start or 0, end)
