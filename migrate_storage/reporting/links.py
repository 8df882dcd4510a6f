"""The public addresses that `links` found, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from migrate_storage.core.links import LinkColumn, LinkFindings
from migrate_storage.core.text import amount

__all__ = ("describe_links_end", "link_lines")

_SHOWN = 20
"""Columns in text. All are in the JSON."""


def describe_links_end(links: LinkFindings, problems: int, *, dry_run: bool) -> str:
    """Return how a finished search or rewrite ended, without a full stop."""
    left = sum(each.left for each in links.columns if not each.excused)
    stay = (
        f"; {amount(left, 'address', 'addresses')} of moved objects {'stays' if left == 1 else 'stay'}" if left else ""
    )
    if not links.rewrites:
        count = links.moved + sum(sum(each.unchanged.values()) for each in links.columns)
        if not count:
            return f"Finished: no address that was found names a moved object{_describe_unseen(links)}"
        return f"Finished: {amount(count, 'address', 'addresses')} {'names' if count == 1 else 'name'} a moved object{_describe_unseen(links)}"
    if dry_run:
        return f"A plan, nothing was changed: {amount(links.rewritten, 'address', 'addresses')} to change{stay}{_describe_unseen(links)}"
    failed = f", with {amount(problems, 'problem')}" if problems else ""
    return f"Finished{failed}: {amount(links.rewritten, 'address', 'addresses')} changed{stay}{_describe_unseen(links)}"


def _describe_unseen(links: LinkFindings) -> str:
    unseen = sum(1 for each in links.columns if each.unreadable and not each.excused)
    said = [f"{amount(unseen, 'column')} could not be searched"] if unseen else []
    said += (
        [f"only {', '.join(links.narrowed)} {'was' if len(links.narrowed) == 1 else 'were'} searched"]
        if links.narrowed
        else []
    )
    said += ["the server hides tables from this role"] if links.hidden and not links.hidden_excused else []
    return f" ({'; '.join(said)})" if said else ""


def link_lines(links: LinkFindings) -> Iterator[str]:
    """Yield what was searched, and each column with a finding."""
    searched = f"{amount(links.tables, 'table')}, {amount(links.searched, 'column')}, {amount(links.rows, 'row')}"
    lines = [f"{searched} searched for addresses of {amount(links.objects, 'moved object')}"]
    lines += [f"from {each}{f' to {links.new}' if links.new else ''}" for each in links.old]
    if links.hidden:
        lines.append(
            f"the server hides from this role {links.hidden}{' (--visible-tables-only)' if links.hidden_excused else ''}"
        )
    lines += map(_describe_column, links.columns[:_SHOWN])
    if len(links.columns) > _SHOWN:
        lines.append(f"and {amount(len(links.columns) - _SHOWN, 'more column')}")
    for number, line in enumerate(lines):
        yield f"  {'' if number else 'addresses':<10} {line}"


def _describe_column(of: LinkColumn) -> str:
    found = ""
    if of.addresses:
        kinds = [f"{of.moved:,} of moved objects"] if of.moved else []
        kinds += [f"{count:,} of moved objects, not changed ({reason})" for reason, count in of.unchanged.items()]
        kinds += [f"{of.unmoved:,} of no moved object"] if of.unmoved else []
        found = f"{amount(of.addresses, 'address', 'addresses')} in {amount(of.rows, 'row')}: {', '.join(kinds)}"
    obstacle = f"cannot be changed: {of.obstacle}" if of.obstacle else ""
    unread = f"not searched, or not to its end: {of.unreadable}" if of.unreadable else ""
    excused = "excused" if of.excused else ""
    return f"{of}: {'; '.join(filter(None, (found, obstacle, unread, excused)))}"
