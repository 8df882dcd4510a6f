"""Tables of options: what each one is called, what becomes of it. The translation reads them, and so do the docs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.notes import note

__all__ = ("NO_EFFECT", "Option", "leftovers", "mapping", "printable", "text", "truth")

#: Options of every fsspec filesystem, about its caches and its event loop.
NO_EFFECT = (
    *("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"),
    *("asynchronous", "loop", "batch_size"),
)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a filesystem. ``name`` is dotted where options nest, such as ``client_kwargs.region_name``."""

    name: str
    #: obstore's word for it; empty where there is none.
    becomes: str = ""
    #: Code of the note that it always causes; empty for none, or where the value decides.
    code: str = ""
    #: One line for the documentation, and the reason in the note.
    says: str = ""


def leftovers(
    table: Iterable[Option], options: Mapping[str, Any], *, parent: str = "", unknown: str = "option.unknown"
) -> Iterator[Note]:
    """Yield the notes of options that have no counterpart, and of those that no table knows.

    Options whose value is ``None`` were not given. Values are never looked at otherwise.

    Args:
        table: The options that are known.
        options: Those that were given.
        parent: What nested names begin with.
        unknown: Code of the note for an option that is not in the table.
    """
    known = {option.name: option for option in table}
    for key, value in options.items():
        if value is None:
            continue
        name = f"{parent}{key}"
        option = known.get(name)
        if option is None:
            if any(other.startswith(f"{name}.") for other in known):
                yield from leftovers(known.values(), mapping(value), parent=f"{name}.", unknown=unknown)
            else:
                yield note(unknown, printable(name))
        elif option.code:
            yield note(option.code, name, why=f": {option.says}" if option.says else "")


def printable(name: str) -> str:
    """An option's name as it may be shown: names are no secrets, but may be anything."""
    return "".join(character if character.isprintable() else "?" for character in name[:80])


def mapping(value: Any) -> Mapping[str, Any]:
    """The value as a mapping with text keys; empty where it is none."""
    if not isinstance(value, Mapping):
        return {}
    return {str(key): item for key, item in value.items()}


def text(value: Any) -> str:
    """The value as text where it is text or a number; empty otherwise."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, int | float) else ""


def truth(value: Any) -> bool:
    """Python's truth, as the filesystems ask it: ``"false"`` from an INI file is true."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - any object may stand in an option; one without a truth is not set
        return False
