"""The options of a census: what is searched for a backend key, and what does not count."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError

__all__ = ("CensusOptions",)


@dataclass(frozen=True, kw_only=True, slots=True)
class CensusOptions:
    """How a job searches the whole database for the keys that it deals with.

    Raises:
        ConfigurationError: when the rate is out of its range, or ``full`` or ``none`` are among names of tables.
    """

    #: ``("full",)``, ``("none",)`` or names of tables. Empty is ``full``, and for a dry run the latest census.
    census: tuple[str, ...] = ()
    #: Columns that may name an old key, such as audit trails: ``table.column`` or ``schema.table.column``, with ``*``.
    excused: tuple[str, ...] = ()
    #: Whether it is enough to search the tables that the server shows to this role.
    visible_tables_only: bool = False
    #: Rows that are searched in a second; ``None`` sets no limit.
    census_rate: float | None = None

    def __post_init__(self) -> None:
        if self.census_rate is not None and self.census_rate <= 0:
            raise ConfigurationError(
                f"--census-rate must be more than 0, not {self.census_rate}; leave it out for no limit"
            )
        if len(self.census) > 1 and {"full", "none"} & set(self.census):
            raise ConfigurationError("--census is full, or none, or names of tables: give one of them")
