"""A timetable of rates over the week, in the form of rclone's ``--bwlimit``.

``08:00,512k 19:00,10M 23:00,off`` applies on each day, ``Mon-08:00,1M Fri-18:00,off`` over the week, in local time. Each rate applies
until the next entry. The form is from rclone's page "Global flags"; a number without a unit is bytes here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from migrate_storage.core.errors import ConfigurationError

__all__ = ("Bandwidth", "Timetable", "check_bandwidth", "current_rate")

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_ENTRY = re.compile(r"(?:([a-z]{3})[a-z]*-)?(\d{1,2}):(\d{2}),(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates over the week."""

    #: As it was typed.
    text: str
    #: The minute of the week, from Monday 00:00, from which on a rate in bytes per second applies; ``None`` is no limit.
    entries: tuple[tuple[int, int | None], ...]

    @classmethod
    def parse(cls, text: str, parse_bytes: Callable[[str], int]) -> Timetable:
        """Read a timetable.

        Args:
            text: its entries, separated by spaces.
            parse_bytes: reads a number of bytes with a unit.

        Raises:
            ConfigurationError: an entry is none, or two have one time.
        """
        entries: dict[int, int | None] = {}
        for word in text.split():
            found = _ENTRY.fullmatch(word)
            day = found and found[1] and found[1].lower()
            if found is None or (day and day not in _DAYS) or int(found[2]) > 23 or int(found[3]) > 59:
                raise ConfigurationError(f"{word!r} is no entry of a timetable, such as 08:00,512k or Mon-08:00,off")
            rate = None if found[4].lower() == "off" else parse_bytes(found[4])
            if rate == 0:
                raise ConfigurationError(f"{word!r}: a rate must be more than 0; 'off' means no limit")
            minute = int(found[2]) * 60 + int(found[3])
            for number in [_DAYS.index(day)] if day else range(7):
                if number * _DAY_MINUTES + minute in entries:
                    raise ConfigurationError(f"{word!r}: the timetable has another entry at that time")
                entries[number * _DAY_MINUTES + minute] = rate
        if not entries:
            raise ConfigurationError("a timetable needs an entry, such as 08:00,512k")
        return cls(text, tuple(sorted(entries.items())))

    def rate(self, now: datetime | None = None) -> int | None:
        """Return the bytes per second at a local time; without one, now. ``None`` is no limit."""
        now = now or datetime.now()  # noqa: DTZ005 - a timetable is of the local time
        minute = now.weekday() * _DAY_MINUTES + now.hour * 60 + now.minute
        # Before the first entry of the week, the last one applies.
        return self.entries[bisect_right(self.entries, minute, key=lambda entry: entry[0]) - 1][1]


Bandwidth = int | Timetable
"""Bytes per second, always the same or by a timetable."""


def current_rate(bandwidth: float | Timetable | None) -> float | None:
    """Return the bytes per second that a bandwidth means now; ``None`` is no limit."""
    return bandwidth.rate() if isinstance(bandwidth, Timetable) else bandwidth


def check_bandwidth(bandwidth: Bandwidth | None) -> None:
    """Check a bandwidth that a user gives.

    Raises:
        ConfigurationError: it is 0 or less.
    """
    if isinstance(bandwidth, int) and bandwidth <= 0:
        raise ConfigurationError(f"--bandwidth must be more than 0, not {bandwidth}; leave it out for no limit")
