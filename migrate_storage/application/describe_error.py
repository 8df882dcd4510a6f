"""Describe an error that the application raised, in one line with its place."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path

from migrate_storage.core.text import masked, one_line, visible

__all__ = ("describe_error",)

MAX_FIELDS = 5
"""Fields of a failed validation that a message names."""


def describe_error(error: BaseException) -> str:
    """Return an error's type and message in one line, with the fields that are wrong, and file and line in the application."""
    parts = [one_line(error), *_list_fields(error)]
    place = _find_place(error)
    return "; ".join(parts) + (f" ({place})" if place else "")


def _list_fields(error: BaseException) -> list[str]:
    """Return the fields of a validation error of pydantic, each with its reason but without its value."""
    read = getattr(error, "errors", None)
    try:
        found = list(read()) if callable(read) else []
    except Exception:  # noqa: BLE001 - a method of another library, with any signature
        return []
    lines = [
        visible(f"{'.'.join(map(str, each['loc']))} ({masked(str(each['msg']))})")
        for each in found
        if isinstance(each, Mapping) and {"loc", "msg"} <= each.keys()
    ]
    more = [f"and {len(lines) - MAX_FIELDS} more fields"] if len(lines) > MAX_FIELDS else []
    advice = [f"a settings file such as .env is read from {visible(str(Path.cwd()))}"] if lines else []
    return lines[:MAX_FIELDS] + more + advice


def _find_place(error: BaseException) -> str:
    """Return file and line of the innermost frame in the application's own code; empty where there is none."""
    known = sysconfig.get_paths()
    libraries = {str(Path(known[name]).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own = str(Path(__file__).resolve().parent.parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith("<"):
            continue
        path = Path(frame.filename).resolve()
        if str(path).startswith(f"{own}/") or any(str(path).startswith(f"{library}/") for library in libraries):
            continue
        here = Path.cwd()
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        return visible(f"{shown}, line {frame.lineno}")
    return ""
