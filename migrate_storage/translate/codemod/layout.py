"""Write the new call in the layout of the old one, and keep its comments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import libcst as cst
from libcst import matchers

from migrate_storage.translate.codemod.parse_call import Found

__all__ = ("Argument", "argument_of", "lost_comments", "write_call")


class Argument(NamedTuple):
    """One argument of the new call."""

    keyword: str
    value: cst.BaseExpression
    #: The argument of the old call whose comment it keeps.
    origin: cst.Arg | None


def argument_of(call: cst.Call, name: str, position: int) -> cst.Arg | None:
    """Return the argument of a name or position; ``None`` where it is not given."""
    for number, argument in enumerate(call.args):
        if argument.keyword is not None and argument.keyword.value == name:
            return argument
        if argument.keyword is None and number == position:
            return argument
    return None


def write_call(call: cst.Call, found: Found, name: str, arguments: Sequence[Argument]) -> cst.Call:
    """Return the new call, with one argument a line where the old call had that."""
    layout = next((candidate for candidate in (call, *found.inner) if _is_folded(candidate)), call)
    own = argument_of(call, "key", 0)
    assert own is not None
    everything = [own] + [
        cst.Arg(
            value=value,
            keyword=cst.Name(keyword),
            equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
            comma=origin.comma if origin is not None else cst.MaybeSentinel.DEFAULT,
        )
        for keyword, value, origin in arguments
    ]
    if own.keyword is None:
        everything[0] = own.with_changes(
            keyword=cst.Name("key"), equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        )
    between, last, before = _read_spacing(layout, call)
    laid = [
        argument.with_changes(
            star="", comma=_make_comma(argument.comma, last if argument is everything[-1] else between),
            whitespace_after_arg=cst.SimpleWhitespace(""),
        )
        for argument in everything
    ]  # fmt: skip
    return call.with_changes(func=cst.Name(name), args=laid, whitespace_before_args=before)


def _is_folded(call: cst.Call) -> bool:
    return isinstance(call.whitespace_before_args, cst.ParenthesizedWhitespace)


def _read_spacing(
    layout: cst.Call, call: cst.Call
) -> tuple[
    cst.BaseParenthesizableWhitespace, cst.BaseParenthesizableWhitespace | None, cst.BaseParenthesizableWhitespace
]:
    """Return the spaces between arguments, after the last comma and before the first."""
    if not isinstance(layout.whitespace_before_args, cst.ParenthesizedWhitespace):
        return cst.SimpleWhitespace(" "), None, call.whitespace_before_args
    before = layout.whitespace_before_args
    plain = before.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])
    comma = layout.args[-1].comma
    end = comma.whitespace_after if isinstance(comma, cst.Comma) else layout.args[-1].whitespace_after_arg
    if isinstance(end, cst.ParenthesizedWhitespace):
        return plain, end.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[]), before
    return plain, None, before


def _make_comma(
    old: cst.Comma | cst.MaybeSentinel, space: cst.BaseParenthesizableWhitespace | None
) -> cst.Comma | cst.MaybeSentinel:
    if space is None:
        return cst.MaybeSentinel.DEFAULT
    if isinstance(old, cst.Comma) and isinstance(space, cst.ParenthesizedWhitespace):
        after = old.whitespace_after
        if isinstance(after, cst.ParenthesizedWhitespace) and after.first_line.comment is not None:
            space = space.with_changes(first_line=after.first_line)
    return cst.Comma(whitespace_after=space)


def lost_comments(call: cst.Call, found: Found, new: cst.Call) -> list[cst.Comment]:
    """Return the comments of what is removed that the new call does not have."""
    old: list[cst.Comment] = []
    obsolete_calls = [node for statement in found.obsolete for node in matchers.findall(statement, matchers.Call())]
    for node in (*found.obsolete, *(inner for inner in found.inner if inner not in obsolete_calls), call):
        old += [comment for comment in matchers.findall(node, matchers.Comment()) if isinstance(comment, cst.Comment)]
    kept = [comment.value for comment in matchers.findall(new, matchers.Comment()) if isinstance(comment, cst.Comment)]
    lost: list[cst.Comment] = []
    for comment in old:
        if comment.value in kept:
            kept.remove(comment.value)
        elif comment.value not in [other.value for other in lost]:
            lost.append(comment)
    return lost
