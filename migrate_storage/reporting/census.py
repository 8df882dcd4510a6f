"""The findings of a census as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrate_storage.core.census import Census, CensusColumn
from migrate_storage.core.text import amount, duration

__all__ = ("census_lines", "describe_census", "name_counts")

_SHOWN = 20
"""Findings in text. All are in the JSON."""


def census_lines(census: Census | None, key: str, label: str = "census") -> Iterator[str]:
    """Yield the lines that a command prints of the latest census, with its age."""
    if census is None:
        yield f"  {label:<10} none yet: 'migrate-storage run' takes one at its end, --census full takes one now"
        return
    age = f", taken {duration(census.age)} ago"
    yield from _indent(describe_census(census, key, age), label)


def describe_census(census: Census, key: str, age: str = "") -> Iterator[str]:
    """Yield what was searched, and each finding: no column that names the key, or that could not be searched, is left out.

    Args:
        census: the census.
        key: the backend key.
        age: how old it is, with a comma; empty for one of this job.
    """
    of = f" of {', '.join(census.narrowed)} only (--census)" if census.narrowed else ""
    searched = f"{amount(census.tables, 'table')}, {amount(census.searched, 'column')}"
    yield f"{searched}, {amount(census.rows, 'row')} searched for {key!r}{of}{age}"
    if census.hidden:
        yield f"the server hides from this role {census.hidden}{' (--visible-tables-only)' if census.hidden_excused else ''}"
    found = [each for each in census.columns if each.rows.get(key) or each.unreadable]
    for each in found[:_SHOWN]:
        yield _describe_finding(each, key)
    if len(found) > _SHOWN:
        yield f"and {amount(len(found) - _SHOWN, 'more column')}"


def _describe_finding(of: CensusColumn, key: str) -> str:
    count = of.rows.get(key, 0)
    kind = (
        "excused"
        if of.excused
        else "a column that the application has"
        if of.known
        else "in no model: move it with --columns"
    )
    named = f"{amount(count, 'row')} {'names' if count == 1 else 'name'} it ({kind})" if count else ""
    unread = f"not searched, or not to its end: {of.unreadable}" if of.unreadable else ""
    return f"{of}: {'; '.join(filter(None, (named, unread)))}"


def name_counts(columns: Sequence[CensusColumn], key: str) -> str:
    """Columns with their counts of rows, such as ``invoice.pdf (3), audit.payload (1)``."""
    shown = [f"{each} ({each.rows[key]:,})" for each in columns[:3]]
    more = f" and {len(columns) - 3:,} more columns" if len(columns) > 3 else ""
    return ", ".join(shown) + more


def _indent(lines: Iterator[str], label: str) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"  {'' if number else label:<10} {line}"
