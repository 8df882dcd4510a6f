"""Made-up schemas: tables and models of any shape, with rows that name files in columns known and unknown."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import StorageBackend, storages
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, mapped_column

from migrate_storage.application.application import Application, from_database, running_application
from tests.support.jobs.file_texts import all_files, make_document, whole_files, write_json, write_text

KEYS = {
    "integer": "id INTEGER PRIMARY KEY",
    "uuid": "id {uuid} PRIMARY KEY",
    "text": "id VARCHAR(60) PRIMARY KEY",
    "composite": "owner VARCHAR(20) NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (owner, id)",
    "unique": "id INTEGER NOT NULL UNIQUE",
    "nullable": "id INTEGER UNIQUE",
    "not enforced": "id INTEGER",
}
DOUBTFUL = {"nullable": None, "not enforced": 1}
"""Keys that may occur in a row that cannot be told from another one."""
TYPES = {
    "sqlite": {"model": ("JSON", "TEXT"), "json": ("JSON", "TEXT"), "text": ("TEXT", "BLOB", "VARCHAR(9)", "ANYTHING")},
    "postgresql": {
        "model": ("JSONB", "JSON"), "json": ("JSONB", "JSON", "TEXT", "JSONB[]"),
        "text": ("TEXT", "VARCHAR(4000)", "BYTEA", "TEXT[]", "JSONB", "JSON", "JSON[]"),
    },
    "mysql": {"model": ("JSON", "LONGTEXT"), "json": ("JSON", "TEXT"), "text": ("TEXT", "BLOB", "VARCHAR(4000)", "JSON")},
}  # fmt: skip
"""Types of columns by who writes them: a StoredObject, a program that writes JSON, any program."""


class Chosen(sa.TypeDecorator[Any]):
    """A StoredObject by what it says of each database."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(StoredObject(backend="old"))


@dataclass(eq=False)
class MadeUpColumn:
    """One column."""

    name: str
    type: str
    #: ``model``, ``listed`` (named by ``--columns``) or ``hidden``.
    kind: str
    multiple: bool = False
    model: Any = None


@dataclass(eq=False)
class MadeUpTable:
    """One table."""

    name: str
    key: str
    columns: list[MadeUpColumn] = field(default_factory=list)


class MadeUp:
    """An application with a schema that a seed decides.

    Args:
        url: an empty database.
        folder: an empty folder for the files.
        seed: decides everything.
        stores: the old and the new backend, of two folders below it.
    """

    def __init__(self, url: str, folder: Path, seed: int, stores: tuple[StorageBackend, StorageBackend]) -> None:
        self.random, self.folder, self.url = random.Random(seed), folder, url
        self.stores = {store.key: store for store in stores}
        for store in stores:
            storages.register_backend(store)
        self.engine = sa.create_engine(url)
        self.contents: dict[str, bytes] = {}
        self.tables: list[MadeUpTable] = []
        self.models = type("Base", (DeclarativeBase,), {"metadata": sa.MetaData()})
        make = (self._make_table, self._make_table, self._make_table, self._make_joined, self._make_single)
        for number in range(self.random.randrange(2, 5)):
            self.random.choice(make if number else make[-2:])(f"t{number}")
        for table in self.tables:
            self._fill(table)

    def close(self) -> None:
        self.engine.dispose()

    @property
    def application(self) -> Application:
        described: tuple[Any, ...] = ()
        if any(column.kind == "model" for table in self.tables for column in table.columns):
            described = running_application(self.engine, self.models.metadata).columns
        names = [f"{t.name}.{column.name}" for t in self.tables for column in t.columns if column.kind == "listed"]
        listed = from_database(self.url, names, {}).columns if names else ()
        return Application(engine=self.engine, columns=(*described, *listed), backends=self.stores)

    # -- tables

    def _types(self, kind: str) -> tuple[str, ...]:
        return TYPES[self.engine.dialect.name][kind]

    def _schema(self) -> str:
        if self.engine.dialect.name != "postgresql" or self.random.random() < 0.6:
            return ""
        self.sql("CREATE SCHEMA IF NOT EXISTS elsewhere")
        return "elsewhere."

    def _create(self, table: MadeUpTable) -> None:
        made = KEYS[table.key].format(uuid="UUID" if self.engine.dialect.name == "postgresql" else "CHAR(36)")
        parts = [made.split(", PRIMARY")[0]]
        for column in table.columns:
            null = " NOT NULL" if column.kind != "model" and self.random.random() < 0.3 else ""
            parts.append(f"{column.name} {column.type}{null}")
        parts += [f"PRIMARY{rest}" for rest in made.split(", PRIMARY")[1:]]
        self.sql(f"CREATE TABLE {table.name} ({', '.join(parts)})")
        self.tables.append(table)

    def _make_columns(self, kinds: tuple[str, ...], *, most: int = 3) -> list[MadeUpColumn]:
        return [
            self._make_column(f"c{number}", self.random.choice(kinds))
            for number in range(self.random.randrange(1, most + 1))
        ]

    def _make_column(self, name: str, kind: str) -> MadeUpColumn:
        rng = self.random
        if kind != "model":
            return MadeUpColumn(name, rng.choice(self._types("json" if kind == "listed" else "text")), kind)
        if self.engine.dialect.name == "postgresql" and rng.random() < 0.2:
            return MadeUpColumn(name, "JSONB[]", kind, True, ARRAY(StoredObject(backend="old")))
        multiple = rng.random() < 0.3
        stored = StoredObject(backend="old", multiple=multiple)
        wrapped = sa.JSON().with_variant(StoredObject(backend="old"), "postgresql", "sqlite", "mysql")
        model = stored if multiple else rng.choice((stored, wrapped, Chosen()))
        return MadeUpColumn(name, rng.choice(self._types("model")), kind, multiple, model)

    def _make_table(self, name: str) -> None:
        """A table with or without a model, and with columns that the model has or has not."""
        key = self.random.choice(list(KEYS))
        has_key = key in ("integer", "uuid", "text", "composite")
        kinds = ("model", "model", "hidden", *(("listed",) if has_key else ()))
        table = MadeUpTable(f"{self._schema()}{name}", key, self._make_columns(kinds))
        self._create(table)
        of_model = [column for column in table.columns if column.kind == "model"]
        if of_model:
            keys = [sa.Column("id", sa.String(60), primary_key=True)]
            if key == "composite":
                keys.insert(0, sa.Column("owner", sa.String(20), primary_key=True))
            schema, _, bare = table.name.rpartition(".")
            columns = [sa.Column(column.name, column.model) for column in of_model]
            sa.Table(bare, self.models.metadata, *keys, *columns, schema=schema or None)

    def _make_joined(self, name: str) -> None:
        """A model with a file, and one that inherits from it with a table and a file of its own."""
        for number, of in enumerate((f"{name}_parent", f"{name}_child")):
            made = MadeUpTable(
                of, "integer", [self._make_column("c0", "model"), *self._make_columns(("hidden",), most=1)]
            )
            made.columns[1].name = "c1"
            self._create(made)
            parent = [sa.ForeignKey(f"{name}_parent.id")] if number else []
            body = {"__tablename__": of, "id": mapped_column(sa.Integer, *parent, primary_key=True)}
            base = getattr(self, "_parent", self.models) if number else self.models
            body["c0" if not number else "child_c0"] = mapped_column("c0", made.columns[0].model)
            self._parent = type(of, (base,), body)

    def _make_single(self, name: str) -> None:
        """A model with a file, and one that adds a file to the same table."""
        table = MadeUpTable(name, "integer", [self._make_column("c0", "model"), self._make_column("c1", "model")])
        self._create(table)
        first = {"__tablename__": name, "id": mapped_column(sa.Integer, primary_key=True)}
        parent = type(name, (self.models,), {**first, "c0": mapped_column(table.columns[0].model)})
        type(f"{name}_special", (parent,), {"c1": mapped_column(table.columns[1].model)})

    # -- rows

    def _fill(self, table: MadeUpTable) -> None:
        for number in range(1, self.random.randrange(3, 7)):
            self._insert(table, f"{uuid.UUID(int=number)}" if table.key == "uuid" else number)
        if table.key in DOUBTFUL and self.random.random() < 0.6:
            self._insert(table, DOUBTFUL[table.key])

    def _insert(self, table: MadeUpTable, key: Any) -> None:
        values: dict[str, Any] = {"id": f"k{key}" if table.key == "text" else key}
        if table.key == "composite":
            values["owner"] = "ö'1"
        placed = dict.fromkeys(values, "")
        for column in table.columns:
            values[column.name], placed[column.name] = self._make_value(column)
        written = [f"CAST(:{name} AS {cast})" if cast else f":{name}" for name, cast in placed.items()]
        self.sql(f"INSERT INTO {table.name} ({', '.join(values)}) VALUES ({', '.join(written)})", **values)

    def _make_value(self, column: MadeUpColumn) -> tuple[Any, str]:
        """A value, and the type to which PostgreSQL casts it."""
        rng, type_ = self.random, column.type
        array, cast = type_.endswith("[]"), ""
        if self.engine.dialect.name == "postgresql" and type_ not in ("BYTEA", "TEXT", "VARCHAR(4000)"):
            cast = type_
        if column.kind == "model":
            if rng.random() < 0.15:
                return None, cast
            files = [self._make_file() for _ in range(rng.randrange(3))] if column.multiple else self._make_file()
            if array:
                return [write_json(each, rng) for each in files], cast
            return write_json(files, rng), cast
        file = self._make_file()
        document = make_document(file, rng) if rng.random() < 0.8 else {"backend": "old", "note": "no file"}
        json_only = column.kind == "listed" or "JSON" in type_
        text = write_json(document, rng) if json_only else write_text(document, rng)
        if type_ in ("BYTEA", "BLOB"):
            return text.encode(), cast
        return ([text, write_json({"second": 1}, rng)] if array else text), cast

    def _make_file(self) -> dict[str, Any]:
        """A file that the application has saved, as its JSON; sometimes with another one in its metadata."""
        rng, metadata = self.random, {}
        if rng.random() < 0.2:
            metadata = {"thumbnail": self._save(), "size": [1, 2]}
        elif rng.random() < 0.1:
            metadata = {"event": write_json({"preview": self._save()}, rng)}
        return {**self._save(), "metadata": metadata}

    def _save(self) -> dict[str, Any]:
        if self.contents and self.random.random() < 0.15:
            name = self.random.choice(list(self.contents))
        else:
            name = f"{self.random.choice(('', 'old/', 'ä ', 'a-'))}{len(self.contents)}.bin"
            self.contents[name] = self.random.randbytes(self.random.randrange(50))
            path = self.folder / "old" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.contents[name])
        return FileObject(backend="old", filename=name, content_type="text/plain").to_dict()

    # -- what is there

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run a statement as another program would."""
        with self.engine.begin() as connection:
            result = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def texts(self) -> dict[tuple[str, MadeUpColumn], list[str]]:
        """The values of each column, not NULL, as text."""
        return {(t.name, c): self._read(t.name, c) for t in self.tables for c in t.columns}  # type: ignore[misc]

    def _read(self, table: str, column: MadeUpColumn) -> list[str]:
        rows = self.sql(f"SELECT {column.name} FROM {table} WHERE {column.name} IS NOT NULL")
        return [
            bytes(value).decode() if isinstance(value, bytes | memoryview) else value if isinstance(value, str) else json.dumps(value)
            for (value,) in rows
        ]  # fmt: skip

    def remove_doubtful_rows(self) -> None:
        """Do what a refusal asks for."""
        for table in self.tables:
            self.sql(f"DELETE FROM {table.name} WHERE id IS NULL")
            if table.key == "not enforced":
                self.sql(f"DELETE FROM {table.name} WHERE id = 1")

    def naming(self, key: str) -> dict[str, set[str]]:
        """The filenames that each column names under a key, in whatever way."""
        found: dict[str, set[str]] = {}
        for (table, column), texts in self.texts().items():
            # Where an escape is taken away too often there are names that no file has.
            names = {name for text in texts for at, name in all_files(text) if at == key} & self.contents.keys()
            if names:
                found[f"{table}.{column.name}"] = names
        return found

    def left_in_known_columns(self) -> set[str]:
        """The filenames that columns known to the application name under the old key, in whole JSON."""
        known = {at: texts for at, texts in self.texts().items() if at[1].kind != "hidden"}
        files = (file for texts in known.values() for text in texts for file in whole_files(text))
        return {file["filename"] for file in files if file["backend"] == "old"}

    def check_opens(self, without: set[str] | frozenset[str] = frozenset()) -> int:
        """Each file in the database has its bytes, but for those of some columns; returns how many there are."""
        count = 0
        for key, store in self.stores.items():
            for column, names in self.naming(key).items():
                for name in names if column not in without else ():
                    assert store.get_content(name) == self.contents[name], f"{column} names {key}:{name}"
                    count += 1
        return count
