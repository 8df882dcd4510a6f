"""The words of journals of version 1 and 2, and of reports of schema 1, with those of today. What is not here kept its word.

Nothing here changes any more: journals and reports that were written with these words still exist.
"""

from __future__ import annotations

__all__ = ("OUTCOMES", "RUN_STATES", "STRATEGIES")

RUN_STATES = {"finished": "completed", "stopped": "interrupted", "limited": "limit_reached"}
STRATEGIES = {"swap": "in_place", "take over": "mirror"}
OUTCOMES = {
    "rewritten": "repointed",
    "skipped": "unchanged",
    "purged": "deleted",
    "known": "known_missing",
    "changed": "modified",
    "occupied": "destination_exists",
    "differs": "mismatch",
}
"""As the journal's objects have them. Some jobs have another word, see :mod:`migrate_storage.reporting.schema_1`."""
