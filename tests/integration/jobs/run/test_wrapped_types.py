"""A StoredObject inside another type is a column of files like any other, on the databases where the type is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject, StoredObject
from sqlalchemy.dialects.postgresql import ARRAY

from migrate_storage.application.application import running_application
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from tests.support.engine.world import World


class Chosen(sa.TypeDecorator[Any]):
    """A StoredObject by what it says of each database."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(StoredObject(backend="old"))


class Around(sa.TypeDecorator[Any]):
    """A decorator of a decorator."""

    impl = Chosen
    cache_ok = True


def file() -> StoredObject:
    return StoredObject(backend="old")


SINGLE = {
    "variant": sa.JSON().with_variant(file(), "postgresql", "sqlite", "mysql"),
    "chosen": Chosen(),
    "around": Around(),
    "other": file().with_variant(sa.Text(), "oracle"),
}


@pytest.fixture
def wrapped(worlds: World) -> Iterator[tuple[World, sa.Table]]:
    """A table with a column of each type, with five rows."""
    metadata = sa.MetaData()
    kinds: dict[str, Any] = dict(SINGLE)
    if worlds.engine.dialect.name == "postgresql":
        kinds["pages"] = ARRAY(file())
    columns = [sa.Column(name, kind) for name, kind in kinds.items()]
    table = sa.Table("wrapped", metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    metadata.create_all(worlds.engine)
    rows: list[dict[str, Any]] = []
    for number in range(1, 6):
        row: dict[str, Any] = {name: worlds.file(f"{name}/{number}") for name in SINGLE if (number + len(name)) % 3}
        if "pages" in kinds and number > 1:
            row["pages"] = [worlds.file(f"pages/{number}/{i}") for i in range(2, number)] + [None] * (number == 4)
        rows.append({"id": number, **dict.fromkeys(kinds), **row})
    with worlds.engine.begin() as connection:
        connection.execute(sa.insert(table), rows)
    worlds.columns = running_application(worlds.engine, metadata).columns
    yield worlds, table


def files_of(world: World, table: sa.Table) -> list[FileObject]:
    with world.engine.connect() as connection:
        values = [value for row in connection.execute(sa.select(table)) for value in row[1:]]
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [each for value in lists for each in value if each is not None]


def test_they_are_moved_opened_and_put_back(wrapped: tuple[World, sa.Table]) -> None:
    world, table = wrapped
    before = world.sql("SELECT * FROM wrapped ORDER BY id")
    count = len(files_of(world, table))
    assert count == len(world.contents)
    assert len(world.columns) == len(table.columns) - 1
    report = world.run(batch_size=2)
    assert (report.exit_code, report.rows_remaining, report.objects) == (0, 0, count), report
    moved = files_of(world, table)
    assert [each.backend.key for each in moved] == ["new"] * count
    assert all(each.get_content() == world.contents[each.metadata["name"]] for each in moved)
    assert world.run().objects == 0
    reverted = RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()
    assert reverted.exit_code == 0
    assert world.sql("SELECT * FROM wrapped ORDER BY id") == before


def test_an_application_that_writes_a_row_meanwhile_wins(
    wrapped: tuple[World, sa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrate_storage.engine.repoint import RowUpdate

    world, table = wrapped
    name = "pages" if "pages" in table.c else "chosen"
    mine = world.file("mine")
    value = [mine] if name == "pages" else mine
    original, left = RowUpdate.__init__, [1]

    def prepared(self: RowUpdate, *args: Any) -> None:
        original(self, *args)
        if left and self.rows.column.column == name:
            left.pop()
            with world.engine.begin() as connection:
                connection.execute(sa.update(table).where(table.c.id == self.row.pk[0]).values({name: value}))

    monkeypatch.setattr(RowUpdate, "__init__", prepared)
    report = world.run()
    assert (report.rows_remaining, left) == (0, [])
    assert "mine" in {each.metadata["name"] for each in files_of(world, table)}
    assert {each.backend.key for each in files_of(world, table)} == {"new"}
