"""Tables of the options of filesystems and of their counterparts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.core.text import printable
from migrate_storage.translate.notes import note

__all__ = ("Option", "mapping", "text", "truth", "unmatched_notes", "without_effect")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a filesystem.

    ``name`` is dotted where options nest, such as ``client_kwargs.region_name``.
    """

    name: str
    #: obstore's name of it; empty where there is none.
    becomes: str = ""
    #: Code of the note that it always causes; empty for none, or where the value decides.
    code: str = ""
    #: One line for the documentation, and the reason in the note.
    says: str = ""


def without_effect(*names: str) -> tuple[Option, ...]:
    """Return the options of every filesystem, about its caches and its event loop, and those of one filesystem."""
    common = ("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache", "asynchronous", "loop")
    return tuple(Option(name, code="option.no_effect") for name in (*common, "batch_size", *names))


def unmatched_notes(
    table: Iterable[Option], options: Mapping[str, Any], *, parent: str = "", unknown: str = "option.unknown"
) -> Iterator[Note]:
    """Yield notes for options without a counterpart and for unknown options.

    An option whose value is ``None`` was not given. Values are not read otherwise.

    Args:
        table: the known options.
        options: the given options.
        parent: the prefix of nested names.
        unknown: code of the note for an option that is not in the table.
    """
    known = {option.name: option for option in table}
    for key, value in options.items():
        if value is None:
            continue
        name = f"{parent}{key}"
        option = known.get(name)
        if option is None:
            if any(other.startswith(f"{name}.") for other in known):
                yield from unmatched_notes(known.values(), mapping(value), parent=f"{name}.", unknown=unknown)
            else:
                yield note(unknown, printable(name[:80]))
        elif option.code:
            yield note(option.code, name, why=f": {option.says}" if option.says else "")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value as a mapping with text keys; an empty one for any other value."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def text(value: Any) -> str:
    """Return a value as text where it is text or a number; an empty text otherwise."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, int | float) else ""


def truth(value: Any) -> bool:
    """Return the truth of a value, as the filesystems do: ``"false"`` is true."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - an option may be any object; one without a truth is not set
        return False
