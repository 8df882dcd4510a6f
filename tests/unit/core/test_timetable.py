"""A timetable of rates: each entry holds until the next one, over the end of the week too."""

from __future__ import annotations

from datetime import datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.cli.param_types import BANDWIDTH
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.timetable import Timetable, check_bandwidth, current_rate

MONDAY = datetime(2026, 11, 30)  # noqa: DTZ001 - local time
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
K = 1024


def at(text: str, days: int, hours: int, minutes: int = 0) -> int | None:
    found = BANDWIDTH.convert(text, None, None)
    assert isinstance(found, Timetable)
    return found.rate(MONDAY + timedelta(days=days, hours=hours, minutes=minutes))


@pytest.mark.parametrize("day", range(7))
def test_without_a_day_an_entry_is_for_each_day(day: int) -> None:
    text = "08:00,512k 12:00,10M 13:00,512k 18:00,30M 23:00,off"
    hours = [(0, None), (7, None), (8, 512 * K), (12, 10 * K * K), (13, 512 * K), (18, 30 * K * K), (23, None)]
    assert [at(text, day, hour) for hour, _ in hours] == [rate for _, rate in hours]
    assert (at(text, day, 7, 59), at(text, day, 8, 0)) == (None, 512 * K)


def test_with_a_day_an_entry_holds_until_the_next_one_over_the_end_of_the_week() -> None:
    text = "Mon-09:30,512 fri-23:59,10M Saturday-10:00,1M SUN-20:00,off"
    assert [at(text, 0, 9, 29), at(text, 0, 9, 30), at(text, 3, 12), at(text, 4, 23, 59)] == [
        None,
        512,
        512,
        10 * K * K,
    ]
    assert [at(text, 5, 9), at(text, 5, 10), at(text, 6, 19), at(text, 6, 20)] == [10 * K * K, K * K, K * K, None]


entries = st.dictionaries(st.integers(0, 7 * 24 * 60 - 1), st.none() | st.integers(1, 10**9), min_size=1, max_size=20)


@given(entries, st.integers(0, 7 * 24 * 60 - 1))
def test_the_rate_is_that_of_the_latest_entry(given_entries: dict[int, int | None], minute: int) -> None:
    words = [
        f"{DAYS[when // 1440]}-{when % 1440 // 60}:{when % 60:02},{'off' if rate is None else rate}"
        for when, rate in given_entries.items()
    ]
    found = Timetable.parse(" ".join(words), int)
    latest = min(given_entries, key=lambda when: (minute - when) % (7 * 1440))
    assert found.rate(MONDAY + timedelta(minutes=minute)) == given_entries[latest]


@pytest.mark.parametrize(
    "text",
    [
        "24:00,1M", "08:60,1M", "8,1M", "Foo-08:00,1M", "08:00,", "08:00,fast", "08:00,0", "08:00,1M 08:00,2M",
        "Mon-08:00,1M 08:00,2M", "08:00,-1", ",", "08:00,1M,2M", "-08:00,1M",
    ],
)  # fmt: skip
def test_what_is_no_timetable_is_one_line(text: str) -> None:
    with pytest.raises(click.BadParameter) as error:
        BANDWIDTH.convert(text, None, None)
    assert "\n" not in error.value.message
    assert error.value.message


def test_what_was_typed_can_be_typed_again() -> None:
    for text in ("08:00,2M 19:00,off", "Mon-8:00,2M", "10M", "1"):
        assert BANDWIDTH.typed(BANDWIDTH.convert(text, None, None)) == text


def test_a_bandwidth_is_a_number_a_timetable_or_none() -> None:
    always = Timetable.parse("00:00,7", int)
    assert [current_rate(each) for each in (None, 5, always)] == [None, 5, 7]
    check_bandwidth(always)
    check_bandwidth(None)
    with pytest.raises(ConfigurationError, match="more than 0"):
        check_bandwidth(0)
