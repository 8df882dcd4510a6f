"""The path rule of a re-key whose filenames change by one prefix only."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from migrate_storage.core.model import Strategy
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.journal import RekeyRule

__all__ = ("PLAIN_KEY", "find_prefix_rule")

PLAIN_KEY = re.compile("[A-Za-z0-9_=@+-][A-Za-z0-9_.=@+-]*(/[A-Za-z0-9_=@+-][A-Za-z0-9_.=@+-]*)*")
"""Names that every library and database spells alike: no part between slashes begins with a dot."""


def find_prefix_rule(plan: MigrationPlan, filenames: Iterable[str]) -> RekeyRule | None:
    """Find the rule of a re-key.

    Args:
        plan: the source and the destination.
        filenames: of some rows.

    Returns:
        The rule that most of them follow; ``None`` where the plan is no re-key within one bucket, or none follows a rule.
    """
    source, destination = plan.source, plan.destination
    root = destination.root
    if (
        plan.strategy is not Strategy.REKEY
        or plan.filters
        or plan.encode
        or root.service not in ("s3", "gcs", "azure", "file")
    ):
        return None
    found: Counter[RekeyRule] = Counter()
    for filename in filenames:
        place = source.place(filename)
        if (place.service, place.endpoint, place.root) != (root.service, root.endpoint, root.root):
            continue
        new = plan.destination_path(filename)
        tail = _common_end(filename, place.key, new)
        if PLAIN_KEY.fullmatch(tail) is not None and destination.place(new) == place:
            rule = RekeyRule(
                source_key=source.key, destination_key=destination.key, old=filename[: -len(tail)], new=new[: -len(tail)],
                place=replace(place, key=place.key[: -len(tail)]),
            )  # fmt: skip
            found[rule] += 1
    return next((rule for rule, _ in found.most_common(1)), None)


def _common_end(*names: str) -> str:
    """Return the longest common end of all names, of whole parts between slashes."""
    parts = zip(*(reversed(name.split("/")) for name in names), strict=False)
    return "/".join(reversed([each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, parts)]))
