"""A column's type is a StoredObject of an engine's database, however it is wrapped."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types.file_object import StoredObject
from sqlalchemy.dialects import postgresql

from migrate_storage.application.columns import described_columns

ENGINES = {
    name: sa.create_engine(f"{name}://") for name in ("sqlite", "postgresql+psycopg", "mysql+pymysql")
}  # they connect to nothing
ALL = {"sqlite", "postgresql", "mysql"}


def file() -> StoredObject:
    return StoredObject(backend="old")


class HasClass(sa.TypeDecorator[Any]):
    """Its arguments make the StoredObject."""

    impl = StoredObject
    cache_ok = True


class HasInstance(sa.TypeDecorator[Any]):
    impl = StoredObject(backend="old")
    cache_ok = True


class Chooses(sa.TypeDecorator[Any]):
    """What it is, it says for each database."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(file() if dialect.name == "postgresql" else sa.JSON())


class ChoosesClass(sa.TypeDecorator[Any]):
    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return HasInstance() if dialect.name != "sqlite" else sa.JSON().with_variant(file(), "sqlite")


class Nested(sa.TypeDecorator[Any]):
    impl = HasInstance
    cache_ok = True


class Own(StoredObject):
    """An application's own kind of StoredObject."""

    cache_ok = True


class NeverWhole(sa.TypeDecorator[Any]):
    """It is a StoredObject by its ``impl``, and plain text in every database."""

    impl = StoredObject(backend="old")
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(sa.Text())


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (file(), ALL), (Own(backend="old"), ALL), (HasClass(backend="old"), ALL), (HasInstance(), ALL), (Nested(), ALL),
        (Chooses(), {"postgresql"}), (ChoosesClass(), ALL), (NeverWhole(), set()), (sa.JSON(), set()),
        (sa.JSON().with_variant(file(), "postgresql"), {"postgresql"}),
        (sa.JSON().with_variant(file(), "mysql", "sqlite"), {"mysql", "sqlite"}),
        (sa.JSON().with_variant(Nested(), "sqlite"), {"sqlite"}),
        (sa.Text().with_variant(Chooses(), "postgresql", "sqlite"), {"postgresql"}),
        (file().with_variant(sa.Text(), "sqlite"), {"postgresql", "mysql"}),
        (HasInstance().with_variant(sa.JSON(), "mysql"), {"postgresql", "sqlite"}),
    ],
)  # fmt: skip
def test_a_stored_object_is_found_in_the_databases_where_it_is_one(kind: Any, where: set[str]) -> None:
    metadata = sa.MetaData()
    sa.Table("doc", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("file", kind))
    found = {
        name.partition("+")[0]
        for name, engine in ENGINES.items()
        for _ in described_columns(metadata.sorted_tables, engine)
    }
    assert found == where


@pytest.mark.parametrize(
    ("kind", "multiple"),
    [
        (sa.ARRAY(file()), True), (postgresql.ARRAY(file()), True), (postgresql.ARRAY(Nested()), True),
        (sa.JSON().with_variant(postgresql.ARRAY(file()), "postgresql"), True),
        (file(), False), (StoredObject(backend="old", multiple=True), True),
    ],
)  # fmt: skip
def test_the_items_of_an_array_are_files(kind: Any, multiple: bool) -> None:
    metadata = sa.MetaData()
    sa.Table("doc", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("file", kind))
    [(column, _)] = described_columns(metadata.sorted_tables, ENGINES["postgresql+psycopg"])
    assert (column.backend, column.multiple, column.nested) == ("old", multiple, False)
