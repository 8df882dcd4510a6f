"""The costs of an estimate, by the prices in a file of the user.

::

    currency = "USD"
    source = "old"            # the service of each side
    destination = "new"

    [service.old]
    date = 2026-11-24         # day on which the prices were valid
    reads = 0.0004            # 1,000 GET or HEAD requests
    egress = 0.09             # a GiB read from it

    [service.new]
    date = 2026-11-24
    writes = 0.005            # 1,000 PUT or POST requests, parts included
    reads = 0.0004
    egress = 0.09             # a GiB that is read back, where this process runs elsewhere
    storage = 0.023           # a GiB in a month

``[source]`` and ``[destination]`` may contain the prices themselves, with one ``date`` for both. A missing price is 0.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import size, visible
from migrate_storage.reporting import Cost, Estimate

__all__ = ("Prices", "load_prices")

_GIB_BYTES = 1024**3
_NAMES = {"source": ("reads", "egress"), "destination": ("writes", "reads", "egress", "storage")}
_SERVICE_NAMES = ("date", *_NAMES["destination"])
"""Names in the table of a service, which may be either side."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The prices of the two sides, for 1,000 requests and for 1 GiB."""

    currency: str
    #: The day on which the prices were valid; the older one of the two sides.
    date: str
    source: Mapping[str, float]
    destination: Mapping[str, float]

    def add_costs(self, estimate: Estimate) -> Estimate:
        """Return the estimate with its costs, without those of 0."""
        source, destination, amounts = self.source, self.destination, estimate
        costs = (
            (f"{size(amounts.source_bytes)} leave the source", amounts.source_bytes / _GIB_BYTES * source.get("egress", 0), False),
            (f"{amounts.source_reads:,} reads at the source", amounts.source_reads / 1000 * source.get("reads", 0), False),
            (f"{amounts.destination_writes:,} writes at the destination", amounts.destination_writes / 1000 * destination.get("writes", 0), False),
            (f"{amounts.destination_reads:,} reads at the destination, at most", amounts.destination_reads / 1000 * destination.get("reads", 0), False),
            (f"{size(amounts.destination_bytes)} read back, at most", amounts.destination_bytes / _GIB_BYTES * destination.get("egress", 0), False),
            (f"{size(amounts.bytes)} kept at the destination", amounts.bytes / _GIB_BYTES * destination.get("storage", 0), True),
        )  # fmt: skip
        positions = tuple(Cost(what=what, amount=price, monthly=monthly) for what, price, monthly in costs if price)
        return replace(estimate, currency=self.currency, priced=self.date, costs=positions)


def load_prices(path: Path) -> Prices:
    """Read a price file.

    Raises:
        ConfigurationError: the file cannot be read, or does not contain prices.
    """
    shown = f"--prices {visible(str(path))}"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{shown}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{shown}: is no TOML: {visible(str(error))}") from None
    for name in data:
        if name not in (*_NAMES, "currency", "date", "service"):
            raise ConfigurationError(
                f"{shown}: {visible(name)!r} is not known: write currency, date, source, destination, [service.NAME]"
            )
    services = data.get("service", {})
    if not isinstance(services, dict):
        raise ConfigurationError(f"{shown}: service is a table of tables: write [service.NAME]")
    known = {
        name: _read_prices(shown, f"service.{visible(name)}", table, _SERVICE_NAMES) for name, table in services.items()
    }
    sides, dates = {}, [data["date"]] if "date" in data else []
    for side, names in _NAMES.items():
        given = data.get(side, {})
        if not isinstance(given, str):
            sides[side] = _read_prices(shown, side, given, names)
        elif given in known:
            sides[side] = known[given]
            dates.extend(str(date) for date in [services[given].get("date")] if date is not None)
        else:
            raise ConfigurationError(f"{shown}: {side} = {visible(given)!r}: there is no [service.{visible(given)}]")
    date = min(map(str, dates), default="an unknown day")
    return Prices(currency=visible(str(data.get("currency", ""))), date=visible(date), **sides)


def _read_prices(shown: str, place: str, table: Any, names: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{shown}: {place} is a table: write [{place}]")
    for name, price in table.items():
        if name not in names:
            raise ConfigurationError(f"{shown}: [{place}] {visible(name)}: there is {', '.join(names)}")
        if name == "date":
            continue
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            raise ConfigurationError(f"{shown}: [{place}] {name} is a number, 0 or more, such as 0.09")
    return {name: float(price) for name, price in table.items() if name != "date"}
