"""A file of prices that the user keeps, and what an estimate costs by it.

::

    currency = "USD"
    date = 2026-11-24

    [source]
    reads = 0.0004        # 1,000 GET or HEAD requests
    egress = 0.09         # a GiB that leaves it

    [destination]
    writes = 0.005        # 1,000 PUT or POST requests, parts included
    reads = 0.0004
    egress = 0.09         # a GiB that is read back, where this process runs elsewhere
    storage = 0.023       # a GiB in a month

What is left out costs nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migrate_storage.errors import ConfigurationError
from migrate_storage.report import Cost, Estimate
from migrate_storage.text import size, visible

__all__ = ("Prices", "load_prices")

_GIB = 1024**3
_NAMES = {"source": ("reads", "egress"), "destination": ("writes", "reads", "egress", "storage")}


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What the two sides charge: requests by the thousand, bytes by the GiB."""

    currency: str
    #: Of the day when somebody last looked.
    date: str
    source: Mapping[str, float]
    destination: Mapping[str, float]

    def of(self, estimate: Estimate) -> Estimate:
        """Return the estimate with its costs; what costs nothing is left out."""
        source, destination, each = self.source, self.destination, estimate
        costs = (
            (f"{size(each.source_bytes)} leave the source", each.source_bytes / _GIB * source.get("egress", 0), False),
            (f"{each.source_reads:,} reads at the source", each.source_reads / 1000 * source.get("reads", 0), False),
            (f"{each.destination_writes:,} writes at the destination", each.destination_writes / 1000 * destination.get("writes", 0), False),
            (f"{each.destination_reads:,} reads at the destination, at most", each.destination_reads / 1000 * destination.get("reads", 0), False),
            (f"{size(each.destination_bytes)} read back, at most", each.destination_bytes / _GIB * destination.get("egress", 0), False),
            (f"{size(each.bytes)} kept at the destination", each.bytes / _GIB * destination.get("storage", 0), True),
        )  # fmt: skip
        told = tuple(Cost(what=what, amount=price, monthly=monthly) for what, price, monthly in costs if price)
        return replace(estimate, currency=self.currency, priced=self.date, costs=told)


def load_prices(path: Path) -> Prices:
    """Read a file of prices.

    Raises:
        ConfigurationError: it cannot be read, or holds something else than prices.
    """
    shown = f"--prices {visible(str(path))}"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{shown}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{shown}: is no TOML: {visible(str(error))}") from None
    for name in data:
        if name not in (*_NAMES, "currency", "date"):
            raise ConfigurationError(
                f"{shown}: {visible(name)!r} is not known: write currency, date, [source], [destination]"
            )
    sides = {side: _side(shown, side, data.get(side, {})) for side in _NAMES}
    return Prices(
        currency=visible(str(data.get("currency", ""))), date=visible(str(data.get("date", "an unknown day"))), **sides
    )


def _side(shown: str, side: str, table: Any) -> dict[str, float]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{shown}: {side} is a table: write [{side}]")
    for name, price in table.items():
        if name not in _NAMES[side]:
            raise ConfigurationError(f"{shown}: [{side}] {visible(name)}: there is {', '.join(_NAMES[side])}")
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            raise ConfigurationError(f"{shown}: [{side}] {name} is a number, 0 or more, such as 0.09")
    return {name: float(price) for name, price in table.items()}
