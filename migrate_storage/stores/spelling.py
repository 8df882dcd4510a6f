"""Spellings that a disk takes for one name: ``Foo`` and ``foo``, or one letter with its accent composed or not.

The disks of macOS and Windows do so by default. Their file is listed by the spelling with which it was made.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Place
from migrate_storage.translate.places import resolve_links

__all__ = ("refuse_other_spelling", "resolve_names")


def resolve_names(place: Place) -> Place:
    """Resolve links and spellings of a place on a disk: two names of one file are one place."""
    place = resolve_links(place)
    if place.service != "file":
        return place
    return replace(place, key=_spell_as_listed(place.key))


def refuse_other_spelling(place: Place) -> None:
    """Refuse a place on a disk that shows its file, or a folder of it, by another spelling.

    Args:
        place: where a file exists.

    Raises:
        KeyRefusedError: the disk takes two spellings for one name.
    """
    if place.service != "file":
        return
    listed = _spell_as_listed(place.key)
    if listed != place.key:
        raise KeyRefusedError(
            f"the disk has /{listed} already, and takes this name for another spelling of it: "
            "give one of them a name that differs in more than case or accents"
        )


def _spell_as_listed(path: str) -> str:
    """Return a path as the listings of its folders spell it; ``path`` where there is no such file.

    Args:
        path: from the root of the disk, without a slash in front.
    """
    names: list[str] = []
    for name in path.split("/"):
        folder = Path("/", *names)
        names.append(_find_listed(folder, name) if name and _is_one_of_two(folder, name) else name)
    return "/".join(names)


def _is_one_of_two(folder: Path, name: str) -> bool:
    """Whether another spelling of a name is the same file. Where it is not, nothing is listed."""
    return any(_is_same_file(folder / name, folder / other) for other in _spell_otherwise(name))


def _spell_otherwise(name: str) -> Iterator[str]:
    forms = (name.swapcase(), *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    return (form for form in dict.fromkeys(forms) if form != name)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _find_listed(folder: Path, name: str) -> str:
    try:
        listed = _list_by_form(folder, folder.stat().st_mtime_ns).get(_to_form(name), ())
    except OSError:
        return name
    same = (other for other in listed if _is_same_file(folder / other, folder / name))
    return name if name in listed else next(same, name)


@lru_cache(maxsize=64)
def _list_by_form(folder: Path, changed: int) -> dict[str, list[str]]:
    """List a folder, until it changes, by what its names have in common with their other spellings."""
    del changed  # part of the cache's key
    found: dict[str, list[str]] = {}
    for name in list_names(folder):
        found.setdefault(_to_form(name), []).append(name)
    return found


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return [entry.name for entry in folder.iterdir()]


def _to_form(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
