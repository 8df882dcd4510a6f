"""The path rule of a re-key, where it is one prefix in place of another."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from migrate_storage.core.model import Way
from migrate_storage.engine.plan import MigrationPlan

__all__ = (
    "PLAIN_KEY",
    "PrefixRule",
    "rule_of",
)

_TAIL = "[A-Za-z0-9_=@+-][A-Za-z0-9_.=@+-]*(/[A-Za-z0-9_=@+-][A-Za-z0-9_.=@+-]*)*"
"""Names that every library and database spells alike: what is between slashes begins with no dot."""
PLAIN_KEY = re.compile(_TAIL)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixRule:
    """The path rule of a re-key, where it is as simple as this: what comes in front of a plain name."""

    #: In a row's filename before.
    old: str
    #: In a row's filename after.
    new: str
    #: In the bucket.
    key: str


def rule_of(route: MigrationPlan, filenames: Iterable[str]) -> PrefixRule | None:
    """The rule of a re-key.

    Args:
        route: from where to where.
        filenames: of some rows.

    Returns:
        The one that most of them follow; ``None`` where it is no re-key within one bucket, or none of them follows any.
    """
    here, there = route.source, route.destination
    root = there.root
    if (
        route.way is not Way.REKEY
        or route.filters
        or route.encode
        or root.service not in ("s3", "gcs", "azure", "file")
    ):
        return None
    found: Counter[PrefixRule] = Counter()
    for filename in filenames:
        place = here.place(filename)
        if (place.service, place.endpoint, place.root) != (root.service, root.endpoint, root.root):
            continue
        new = route.destination_path(filename)
        tail = _common(filename, place.key, new)
        if PLAIN_KEY.fullmatch(tail) is not None and there.place(new) == place:
            found[PrefixRule(old=filename[: -len(tail)], new=new[: -len(tail)], key=place.key[: -len(tail)])] += 1
    return next((rule for rule, _ in found.most_common(1)), None)


def _common(*names: str) -> str:
    """The longest end that all have in common, of whole parts between slashes."""
    parts = zip(*(reversed(name.split("/")) for name in names), strict=False)
    return "/".join(reversed([each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, parts)]))
