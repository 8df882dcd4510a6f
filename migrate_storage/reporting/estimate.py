"""The estimate of a run: bytes, requests, time, and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from migrate_storage.core.text import amount, duration, size

__all__ = ("Cost", "Estimate", "lines")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One position of the costs."""

    #: The item and its quantity.
    what: str
    #: The price, in the currency of the price file.
    amount: float
    #: Whether it is due every month instead of once.
    monthly: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Bytes, requests and time of a run, for all objects, without repeated requests."""

    #: Objects to copy, and their bytes.
    objects: int = 0
    bytes: int = 0
    #: Objects among them that are uploaded in parts.
    in_parts: int = 0
    #: GET and HEAD requests to the source, at most, and bytes read from it.
    source_reads: int = 0
    source_bytes: int = 0
    #: Objects that are read twice, because their source has no digest.
    twice: int = 0
    #: PUT and POST requests to the destination, including each part of a large object.
    destination_writes: int = 0
    #: GET and HEAD requests to the destination, and bytes read back from it, at most.
    destination_reads: int = 0
    destination_bytes: int = 0
    #: Whether server-side copy may be possible, which reads fewer bytes.
    by_service: bool = False
    #: Objects that were read to measure the rate, their bytes, and the seconds that it took.
    probed: int = 0
    probed_bytes: int = 0
    probed_seconds: float = 0.0
    #: Seconds for all bytes at that rate; ``None`` if nothing was measured.
    seconds: float | None = None
    #: Filenames of archived objects among those tried. They must be restored before a run.
    archived: tuple[str, ...] = ()
    #: Currency and date of the prices.
    currency: str = ""
    priced: str = ""
    costs: tuple[Cost, ...] = ()

    def times(self, factor: float) -> Estimate:
        """Return the estimate scaled by a factor."""
        return replace(self, **{name: round(getattr(self, name) * factor) for name in _SCALED})

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as values that JSON can represent."""
        values = {attribute.name: getattr(self, attribute.name) for attribute in fields(self)}
        costs = [{"what": cost.what, "amount": cost.amount, "monthly": cost.monthly} for cost in self.costs]
        return {**values, "archived": list(self.archived), "costs": costs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Return the estimate of :meth:`to_dict`."""
        return cls(
            **{**data, "archived": tuple(data["archived"]), "costs": tuple(Cost(**cost) for cost in data["costs"])}
        )


_SCALED = (
    *("objects", "bytes", "in_parts", "source_reads", "source_bytes", "twice"),
    *("destination_writes", "destination_reads", "destination_bytes"),
)


def lines(estimate: Estimate) -> Iterator[str]:
    """Return the estimate as lines of text."""
    parts = f", {estimate.in_parts:,} of them in parts" if estimate.in_parts else ""
    yield f"  {'to copy':<12} {amount(estimate.objects, 'object')}, {size(estimate.bytes)}{parts}"
    digestless = amount(estimate.twice, "object")
    twice = f", {digestless} read twice, because no store reports their digest" if estimate.twice else ""
    yield f"  {'source':<12} {amount(estimate.source_reads, 'read')} (GET, HEAD) at most, {size(estimate.source_bytes)} leave it{twice}"
    back = f", {size(estimate.destination_bytes)} read back at most" if estimate.destination_bytes else ""
    yield (
        f"  {'destination':<12} {amount(estimate.destination_writes, 'write')} (PUT, POST, parts), "
        f"{amount(estimate.destination_reads, 'read')} at most{back}"
    )
    if estimate.by_service:
        yield f"  {'':<12} less where the service copies by itself: a run tries that first"
    if estimate.seconds is not None:
        read = f"{amount(estimate.probed, 'object')} ({size(estimate.probed_bytes)}) in {duration(estimate.probed_seconds)}"
        how = f"{read} were read to measure; writing was not tried" if estimate.probed else "at the limits that are set"
        yield f"  {'time':<12} at least {duration(estimate.seconds)}: {how}"
    if estimate.archived:
        tried = f"{len(estimate.archived):,} of {estimate.probed + len(estimate.archived):,} that were tried"
        yield f"  {'archived':<12} {tried}: restore them first, or they are listed"
        for name in estimate.archived[:5]:
            yield f"  {'':<12} {name}"
    for cost in estimate.costs:
        yield f"  {'cost':<12} {cost.amount:,.2f} {estimate.currency}{' a month' if cost.monthly else ''}: {cost.what}"
    if estimate.costs:
        total = sum(cost.amount for cost in estimate.costs if not cost.monthly)
        yield f"  {'':<12} {total:,.2f} {estimate.currency} once, at the prices of {estimate.priced}"
