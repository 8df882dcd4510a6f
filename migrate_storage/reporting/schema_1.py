"""Reports of schema 1, and the words that schema 2 replaced.

The journal of an earlier version has these reports, and the words in its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.core.earlier_words import OUTCOMES, RUN_STATES, STRATEGIES
from migrate_storage.core.proofs import (
    AS_WRITTEN,
    BY_OPTION,
    CONTENT_COMPARED,
    COPIED_BACK,
    COPY_VERIFIED,
    CUTOVER,
    DELETED_BEFORE,
    DESTINATION_DIGEST,
    DESTINATION_READBACK,
    DRY_RUN,
    JOURNAL_SHA256,
    LOCAL_SOURCE,
    ROW_DELETED,
    ROW_SHA256,
    SAME_OBJECT,
    SAME_OBJECT_LISTING,
    SERVER_SIDE_COPY,
    SIZE_AND_TIME,
    SOURCE_DIGEST,
    SOURCE_REREAD,
    join_proofs,
    split_proof,
)

__all__ = ("PROOFS", "upgrade_outcome", "upgrade_proof", "upgrade_report")

_OUTCOMES_OF_JOBS = {
    "revert": {"rewritten": "reverted"},
    "purge": {"skipped": "kept"},
    "orphans": {"skipped": "in_use"},
}
"""The new words for outcomes where a job has another one."""

PROOFS = {
    "same place": SAME_OBJECT,
    "same place, listed": SAME_OBJECT_LISTING,
    "source digest": SOURCE_DIGEST,
    "local source": LOCAL_SOURCE,
    "read twice": SOURCE_REREAD,
    "by option": BY_OPTION,
    "destination digest": DESTINATION_DIGEST,
    "read back": DESTINATION_READBACK,
    "both read": CONTENT_COMPARED,
    "copied by the service, equal digests": SERVER_SIDE_COPY,
    "copied back": COPIED_BACK,
    "journal's SHA-256": JOURNAL_SHA256,
    "row's SHA-256": ROW_SHA256,
    "size and time": SIZE_AND_TIME,
    "dry run": DRY_RUN,
    "copy verified again": COPY_VERIFIED,
    "row deleted": ROW_DELETED,
    "still what we put": AS_WRITTEN,
    "deleted before": DELETED_BEFORE,
}
"""The tokens for the texts that named a proof."""

_REASONS_IN_USE = {
    "named by a row or list": "referenced by a row or list",
    "needed by a run's journal": "needed for revert, resume or purge",
    "named by now": "a row or list references it by now",
    "in quarantine": "in quarantine",
    "a link": "a link",
    "of unknown age": "of unknown age",
    "younger than --min-age": "younger than --min-age",
    "an unfinished upload of a killed job": "an unfinished upload of a killed job",
}
"""The reasons why an object is no orphan, which were among the proofs."""


_FIELDS = {
    "way": "strategy",
    "way_reason": "strategy_reason",
    "rows_moved": "rows_repointed",
    "rows_left": "rows_remaining",
    "rows_filtered": "rows_excluded",
    "rows_known": "rows_known_missing",
    "bytes_moved": "bytes_copied",
    "evidence": "verified_by",
    "not_carried": "not_preserved",
    "listed": "problems",
    "listed_total": "problem_count",
}
"""The new names of fields."""


def upgrade_report(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of schema 1 as one of schema 2."""
    kind, counted = data["kind"], dict(data["evidence"])
    in_use = {_REASONS_IN_USE[how]: counted.pop(how) for how in tuple(counted) if how in _REASONS_IN_USE}
    return {
        **{_FIELDS.get(name, name): value for name, value in data.items()},
        "schema": 2,
        "state": RUN_STATES.get(data["state"], data["state"]),
        "strategy": STRATEGIES.get(data["way"], data["way"]),
        "counts": {upgrade_outcome(word, kind): count for word, count in data["counts"].items()},
        "verified_by": {upgrade_proof(how): count for how, count in counted.items()},
        "in_use": in_use,
        "problems": [
            {**each, "kind": upgrade_outcome(each["kind"], kind), "verified_by": upgrade_proof(each["evidence"])}
            for each in data["listed"]
        ],
    }


def upgrade_outcome(word: str, job: str = "run") -> str:
    """Return the new word for an outcome in a job of this kind."""
    return _OUTCOMES_OF_JOBS.get(job, {}).get(word) or OUTCOMES.get(word, word)


def upgrade_proof(text: str) -> str:
    """Return the tokens for the text of a proof, which had several parts with ``, `` between them."""
    if text.startswith("cutover: "):
        return join_proofs(CUTOVER, upgrade_proof(text.removeprefix("cutover: ")))
    return PROOFS.get(text) or join_proofs(*(PROOFS.get(part, part) for part in split_proof(text)))
