"""What a run would take, said before it: bytes, requests, time, and with a file of prices what it would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from migrate_storage.core.text import amount, duration, size

__all__ = ("Cost", "Estimate", "lines")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One line of a bill."""

    #: What is paid for, and how much of it.
    what: str
    #: In the currency of the file of prices.
    amount: float
    #: Each month from then on, instead of once.
    monthly: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a run would take, counted for all objects; requests that have to be repeated are not in it."""

    #: Objects to be copied, and their bytes.
    objects: int = 0
    bytes: int = 0
    #: How many of them are written in parts.
    in_parts: int = 0
    #: GET and HEAD at the source, at most, and bytes that leave it.
    source_reads: int = 0
    source_bytes: int = 0
    #: Objects whose source tells no digest, so that they are read twice.
    twice: int = 0
    #: PUT and POST at the destination, each part of a large object included.
    destination_writes: int = 0
    #: GET and HEAD at the destination, at most, and bytes that are read back from it, at most.
    destination_reads: int = 0
    destination_bytes: int = 0
    #: Whether the service may copy by itself, so that less passes.
    by_service: bool = False
    #: Objects that were read to see how fast that goes, their bytes, and the seconds that it took.
    probed: int = 0
    probed_bytes: int = 0
    probed_seconds: float = 0.0
    #: Seconds that reading takes at that rate; ``None`` where none was read.
    seconds: float | None = None
    #: Filenames of objects among those tried that are archived, and must be restored before they can be read.
    archived: tuple[str, ...] = ()
    #: Currency of the costs, and the date of the prices.
    currency: str = ""
    priced: str = ""
    costs: tuple[Cost, ...] = ()

    def times(self, factor: float) -> Estimate:
        """Return the estimate for so many times as many objects of the same kind."""
        return replace(self, **{name: round(getattr(self, name) * factor) for name in _COUNTED})

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as values that JSON can hold."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        costs = [{"what": each.what, "amount": each.amount, "monthly": each.monthly} for each in self.costs]
        return {**told, "archived": list(self.archived), "costs": costs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Return the estimate that :meth:`to_dict` was called on."""
        return cls(
            **{**data, "archived": tuple(data["archived"]), "costs": tuple(Cost(**each) for each in data["costs"])}
        )


_COUNTED = (
    *("objects", "bytes", "in_parts", "source_reads", "source_bytes", "twice"),
    *("destination_writes", "destination_reads", "destination_bytes"),
)


def lines(estimate: Estimate) -> Iterator[str]:
    """Return the estimate as lines of text."""
    parts = f", {estimate.in_parts:,} of them in parts" if estimate.in_parts else ""
    yield f"  {'to copy':<12} {amount(estimate.objects, 'object')}, {size(estimate.bytes)}{parts}"
    twice = (
        f", {amount(estimate.twice, 'object')} read twice, because nothing tells their digest" if estimate.twice else ""
    )
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
