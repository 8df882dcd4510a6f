"""The options of a search for public addresses."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.census_options import CensusOptions

__all__ = ("LinksOptions",)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinksOptions(CensusOptions):
    """What is searched.

    Raises:
        ConfigurationError: no table is to be searched.
    """

    #: What the old addresses begin with; empty asks the source's backend.
    from_address: tuple[str, ...] = ()
    #: What the new ones begin with; ``None`` asks the destination's backend.
    to_address: str | None = None
    #: URL of another database that has the journal.
    journal: str | None = None
    #: Database schema of the journal's tables.
    journal_schema: str | None = None

    def __post_init__(self) -> None:
        CensusOptions.__post_init__(self)
        if self.census == ("none",):
            raise ConfigurationError("--census none leaves nothing to search: name tables, or leave it out")
