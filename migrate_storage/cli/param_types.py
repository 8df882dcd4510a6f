"""Types of option values: names, patterns, bytes, times and ages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import patterns_in
from migrate_storage.core.timetable import Bandwidth, Timetable

__all__ = ("BANDWIDTH", "BYTES", "PATTERNS", "SECONDS", "Age", "Line", "Names", "Typed")


_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas; the configuration file gives them as a list.

    Args:
        split: Splits the text of the command line.
    """

    name = "names"

    def __init__(self, split: Callable[[str], tuple[str, ...]] | None = None) -> None:
        self._split = split or (lambda text: tuple(part.strip() for part in text.split(",") if part.strip()))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        del param, ctx
        return tuple(map(str, value)) if isinstance(value, list | tuple) else self._split(str(value))

    def split_envvar_value(self, rv: str) -> tuple[str, ...]:
        """Return the text of an environment variable, which :meth:`convert` splits."""
        return (rv,)


PATTERNS = Names(patterns_in)
"""Patterns of filenames, separated by commas outside of braces. They are not parsed here."""


class Line(click.ParamType):  # type: ignore[type-arg]
    """A text of an option that may be given several times; an environment variable has one on each line."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        del param, ctx
        return str(value)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split an environment variable into its lines."""
        return [line for line in rv.splitlines() if line.strip()]


class Typed(click.ParamType):  # type: ignore[type-arg]
    """A type whose values can be typed again."""

    @staticmethod
    def typed(value: float) -> str:
        """Return the text of a value."""
        raise NotImplementedError


class _Bytes(Typed):
    """A number of bytes with an optional unit: ``64MiB``, ``1G``, ``67108864``."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} is no number of bytes, such as 64MiB", param, ctx)
        return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))

    @staticmethod
    def typed(value: float) -> str:
        """Return the bytes in the largest unit of which they are a whole number, such as ``2M``."""
        power = max(power for power in range(5) if value % 1024**power == 0) if value else 0
        return f"{value // 1024**power:.0f}{' KMGT'[power].strip()}"


class _Bandwidth(Typed):
    """Bytes in a second, or a timetable of them."""

    name = "bandwidth"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Bandwidth:
        if isinstance(value, Timetable) or "," not in str(value):
            return value if isinstance(value, Timetable) else BYTES.convert(value, param, ctx)
        try:
            return Timetable.parse(str(value), lambda text: BYTES.convert(text, param, ctx))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)

    @staticmethod
    def typed(value: float | Timetable) -> str:
        """Return the text of a timetable, or the bytes in a unit."""
        return value.text if isinstance(value, Timetable) else _Bytes.typed(value)


class _Seconds(Typed):
    """A time with units, or in seconds: ``2h``, ``1h30m``, ``90``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
        if not text or match is None:
            self.fail(f"{value!r} is no time, such as 2h, 1h30m or 90s", param, ctx)
        return sum(int(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))

    @staticmethod
    def typed(value: float) -> str:
        """Return the time in its units, such as ``1h30m``."""
        if value % 1 or not value:
            return f"{value:.15g}"
        hours, minutes, seconds = int(value) // 3600, int(value) // 60 % 60, int(value) % 60
        return "".join(f"{count}{unit}" for count, unit in zip((hours, minutes, seconds), "hms", strict=True) if count)


class _WorkerCount(Typed):
    """A number of processes from 1 to 256, or ``auto``, which is 0 here."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value in ("auto", AUTO_WORKERS):
            return AUTO_WORKERS
        if not re.fullmatch(r"\d{1,3}", str(value).strip()) or not 1 <= int(value) <= 256:
            self.fail(f"{value!r} is no number of processes: write auto, or a number from 1 to 256", param, ctx)
        return int(value)

    @staticmethod
    def typed(value: float) -> str:
        """Return the number, or ``auto``."""
        return "auto" if value == AUTO_WORKERS else f"{value:.0f}"


AUTO_WORKERS = 0
"""The number of processes that means ``auto``."""
BANDWIDTH, BYTES, SECONDS, WORKERS = _Bandwidth(), _Bytes(), _Seconds(), _WorkerCount()


class Age(Typed):
    """A time span such as ``30d``, ``12h`` or ``45`` seconds."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the span in seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no time span: write 30d, 12h, 90m or 45s", param, ctx)
        return float(match.group(1)) * _UNIT_SECONDS[match.group(2) or "s"]

    @staticmethod
    def typed(value: float) -> str:
        """Return the span in the largest unit of which it is a whole number."""
        fitting = [(unit, letter) for letter, unit in _UNIT_SECONDS.items() if value % unit == 0]
        unit, letter = max(fitting, default=(1.0, "s")) if value else (1.0, "s")
        return f"{value / unit:g}{letter}"
