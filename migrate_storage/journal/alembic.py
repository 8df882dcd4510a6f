"""For ``env.py`` of an application that uses Alembic: keep autogenerate away from our tables."""

from __future__ import annotations

from migrate_storage.journal.schema import PREFIX

__all__ = ("include_object",)


def include_object(object_: object, name: str | None, type_: str, *_: object) -> bool:
    """Exclude our tables from Alembic, by ``context.configure(include_object=include_object)``.

    Without it autogenerate writes an ``op.drop_table`` for each of our tables, because no model declares them.

    Returns:
        ``False`` for our tables, their columns and indexes, ``True`` for everything else.
    """
    if type_ == "table":
        return not (name or "").startswith(PREFIX)
    table = getattr(object_, "table", None)
    return not (table is not None and str(table.name).startswith(PREFIX))
