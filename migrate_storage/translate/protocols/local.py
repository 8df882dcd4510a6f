"""Local disks: ``LocalFileSystem`` to ``LocalStore``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import Option, unmatched_notes, without_effect
from migrate_storage.translate.places import split

__all__ = ("OPTIONS", "translate")

OPTIONS = (
    Option("auto_mkdir", "mkdir", says="obstore creates missing folders, always"),
    *without_effect(),
)


def translate(options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]) -> Translation:  # noqa: ARG001 - one signature for all
    """Translate the options of a ``LocalFileSystem``."""
    notes = list(unmatched_notes(OPTIONS, options))
    if not prefix:
        notes.append(note("place.per_row", root="folder"))
    root = "/" + split("file", prefix).key if prefix else "/"
    config = StoreConfig(service="file", root=root, options={"mkdir": True})
    return Translation(config=config, notes=tuple(notes))
