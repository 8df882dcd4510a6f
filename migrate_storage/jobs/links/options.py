"""The options of a search for public addresses."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.core.addresses import AddressBase
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.census_options import CensusOptions

__all__ = ("LinksOptions",)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinksOptions(CensusOptions):
    """What is searched.

    Raises:
        ConfigurationError: no table is to be searched, an address is none, or two options contradict each other.
    """

    #: What the old addresses begin with; empty asks the source's backend.
    from_address: tuple[str, ...] = ()
    #: What the new ones begin with; ``None`` asks the destination's backend.
    to_address: str | None = None
    #: Change the addresses, or show what would be changed.
    rewrite: bool = False
    #: Really change them; without it a rewrite changes nothing.
    yes: bool = False
    #: Change nothing, whatever else is given.
    dry_run: bool = False
    #: Objects of the destination that are requested at once.
    concurrency: int = 16
    #: URL of another database that has the journal.
    journal: str | None = None
    #: Database schema of the journal's tables.
    journal_schema: str | None = None
    #: Seconds after which a process that died no longer blocks this one.
    lease_ttl: float = 15.0

    @property
    def acts(self) -> bool:
        """Whether texts are changed."""
        return self.rewrite and self.yes and not self.dry_run

    def __post_init__(self) -> None:
        CensusOptions.__post_init__(self)
        if self.census == ("none",):
            raise ConfigurationError("--census none leaves nothing to search: name tables, or leave it out")
        if (self.yes or self.dry_run) and not self.rewrite:
            raise ConfigurationError("--yes and --dry-run are for --rewrite: without it links changes nothing")
        if self.yes and self.dry_run:
            raise ConfigurationError("--yes and --dry-run contradict each other: give one of them")
        for address in self.from_address:
            AddressBase.parse(address, "--from-address")
        if self.to_address is not None:
            AddressBase.parse(self.to_address, "--to-address")
        if self.concurrency < 1:
            raise ConfigurationError(f"--concurrency must be at least 1, not {self.concurrency}")
