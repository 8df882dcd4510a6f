"""Conditions on rows by the order of their keys, in the form for which every database can use an index."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from migrate_storage.database.dialects.base import untyped

__all__ = ("after_key", "up_to_key")

_Operator = Callable[[Any, Any], ColumnElement[Any]]


def after_key(columns: Sequence[ColumnElement[Any]], key: Sequence[Any], name: str = "after") -> ColumnElement[Any]:
    """Whether a row comes after a key.

    Args:
        columns: of the key.
        key: as the database gave it.
        name: of the parameters, which a number follows.
    """
    return _compare_key(columns, key, name, operator.gt, operator.gt, operator.ge)


def up_to_key(columns: Sequence[ColumnElement[Any]], key: Sequence[Any], name: str = "until") -> ColumnElement[Any]:
    """Whether a row comes before a key or has it; see :func:`after_key`."""
    return _compare_key(columns, key, name, operator.lt, operator.le, operator.le)


def _compare_key(
    columns: Sequence[ColumnElement[Any]],
    key: Sequence[Any],
    name: str,
    each: _Operator,
    last: _Operator,
    first: _Operator,
) -> ColumnElement[Any]:
    """``(column, ...) < key``.

    Args:
        columns: of the key.
        key: to compare with.
        name: of the parameters, which a number follows.
        each: compares a column if all columns before it are equal.
        last: compares the last column.
        first: compares the first column alone.
    """
    clauses: list[ColumnElement[bool]] = []
    for depth, part in enumerate(columns):
        equal = [columns[i] == untyped(f"{name}{i}", key[i]) for i in range(depth)]
        compare = last if depth == len(columns) - 1 else each
        clauses.append(and_(*equal, compare(part, untyped(f"{name}{depth}", key[depth]))))
    exact = or_(*clauses)
    return exact if len(columns) == 1 else and_(first(columns[0], untyped(f"{name}0", key[0])), exact)
