"""Memory: ``MemoryFileSystem``, a source inside its own process only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import Option, unmatched_notes
from migrate_storage.translate.places import split

__all__ = ("OPTIONS", "translate")

OPTIONS = (
    Option("global_store", code="option.no_effect", says="each MemoryStore is private"),
    Option("skip_instance_cache", code="option.no_effect"),
)


def translate(options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]) -> Translation:  # noqa: ARG001 - one signature for all
    """Translate the options of a ``MemoryFileSystem``."""
    notes = [note("memory.process"), *unmatched_notes(OPTIONS, options)]
    inner = split("memory", prefix).key.strip("/") if prefix else ""
    return Translation(config=StoreConfig(service="memory", root="", prefix=inner), notes=tuple(notes))
