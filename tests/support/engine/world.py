"""A small application with files, for tests of the engine: rows made as applications make them, then checked."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.config import SQLAlchemySyncConfig
from advanced_alchemy.types import GUID, FileObject, StoredObject
from advanced_alchemy.types.file_object import StorageBackend, storages
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from migrate_storage.application.application import Application
from migrate_storage.core.events import Event
from migrate_storage.core.model import Column
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, ObjectRecord
from migrate_storage.reporting import Report

TYPES = ["text/plain", "image/png", "application/pdf", "application/x-custom; v=1"]


class Base(DeclarativeBase):
    pass


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


class Document(Base):
    """One file."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(100))
    updated_at: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True), default=_now, onupdate=_now)
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))


class Album(Base):
    """A list of files under a UUID."""

    __tablename__ = "albums"
    id: Mapped[uuid.UUID] = mapped_column(GUID, primary_key=True, default=uuid.uuid4)
    pictures = mapped_column(StoredObject(backend="old", multiple=True))


class Note(Base):
    """A composite key, two file columns, mostly empty."""

    __tablename__ = "notes"
    owner: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    scan: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))
    voice: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))


class Page(Base):
    """A key of text."""

    __tablename__ = "pages"
    slug: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    image: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))


COLUMNS = (
    Column(table="documents", column="file", key=("id",), backend="old", multiple=False),
    Column(table="albums", column="pictures", key=("id",), backend="old", multiple=True),
    Column(table="notes", column="scan", key=("owner", "number"), backend="old", multiple=False),
    Column(table="notes", column="voice", key=("owner", "number"), backend="old", multiple=False),
    Column(table="pages", column="image", key=("slug",), backend="old", multiple=False),
)


@dataclass
class World:
    """An application's database and storage, with the right bytes of each file."""

    url: str
    old: StorageBackend
    new: StorageBackend
    seed: int = 0
    #: name in the file's own metadata -> bytes
    contents: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    #: What the migration is given; the application's own engine when None.
    other_engine: sa.Engine | AsyncEngine | None = None
    columns: tuple[Column, ...] = COLUMNS

    def __post_init__(self) -> None:
        storages.register_backend(self.old)
        storages.register_backend(self.new)
        self.engine = sa.create_engine(self.url)
        Base.metadata.create_all(self.engine)
        self.random = random.Random(self.seed)

    def close(self) -> None:
        self.engine.dispose()

    @property
    def application(self) -> Application:
        backends = {self.old.key: self.old, self.new.key: self.new}
        return Application(engine=self.other_engine or self.engine, columns=self.columns, backends=backends)

    # -- what the application does

    def file(self, name: str, content: bytes | None = None, content_type: str | None = None) -> FileObject:
        """Save a file as the application does, through the backend that it has."""
        made = self._named(name, content, content_type)
        saved = FileObject(backend=self.old.key, filename=name, content_type=made.content_type)
        self.old.save_object(saved, self.contents[name])
        made.size, made.last_modified, made.etag = saved.size, saved.last_modified, saved.etag
        return made

    def files_at_once(self, names: list[str]) -> list[FileObject]:
        """Save many; their rows know no size and no etag, as those that the session's listener saves."""
        made = [self._named(name, None, None) for name in names]
        objects = {self.old._prepare_path(name): self.contents[name] for name in names}
        if hasattr(self.old.fs, "_pipe"):
            # One by itself first: many at once would each make the filesystem's session, and sometimes never end.
            for path in list(objects)[:1]:
                self.old.fs.pipe(path, objects.pop(path))
            self.old.fs.pipe(objects, batch_size=32)
        else:
            for path, content in objects.items():
                self.old.fs.pipe(path, content)
        return made

    def _named(self, name: str, content: bytes | None, content_type: str | None) -> FileObject:
        content = self.random.randbytes(self.random.randrange(0, 2000)) if content is None else content
        content_type = content_type or self.random.choice(TYPES)
        self.contents[name], self.types[name] = content, content_type
        return FileObject(backend=self.old.key, filename=name, content_type=content_type, metadata={"name": name})

    def add(self, *rows: Base) -> None:
        """Insert rows whose files are in place already, so that the session's listener must not save them again."""
        with Session(self.engine) as session:
            session.add_all(rows)
            session.commit()

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session of the live application: its listener saves and deletes files when it commits."""
        with SQLAlchemySyncConfig(engine_instance=self.engine).get_session() as session:
            yield session

    def fill(self, documents: int, albums: int = 0, notes: int = 0, *, prefix: str = "") -> None:
        """Rows of every kind."""
        files = self.files_at_once([f"{prefix}docs/{i % 7}/d{i}.bin" for i in range(documents)])
        rows: list[Base] = [Document(id=i + 1, title=f"t{i}", file=file) for i, file in enumerate(files)]
        rows.extend(
            Album(pictures=[self.file(f"{prefix}albums/{i}/{j}.png") for j in range(i % 4)]) for i in range(albums)
        )
        shared = self.file(f"{prefix}notes/shared.wav") if notes else None
        for i in range(notes):
            scan = self.file(f"{prefix}notes/{i}.tif") if i % 3 == 0 else None
            rows.append(Note(owner=f"o{i % 5}", number=i, scan=scan, voice=shared if i % 2 else None))
        self.add(*rows)

    # -- the migration

    def migration(self, **options: Any) -> RunJob:
        options = {"source": self.old.key, "destination": self.new.key, "settle_time": 0.1, **options}
        return RunJob(self.application, RunOptions(**options), self.events.append)

    def run(self, **options: Any) -> Report:
        return self.migration(**options).run()

    @property
    def journal(self) -> dict[str, ObjectRecord]:
        """The journal's lines of objects, by the name of the source."""
        from migrate_storage.database.connection import Database

        with contextlib.closing(Database(self.url)) as database:
            journal = Journal(database)
            found = {}
            for run in journal.runs.latest():
                for batch in journal.objects.of_run(run.id):
                    found.update({entry.source_path: entry for entry in batch})
            return found

    # -- what is there now

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run a statement as another program would."""
        with self.engine.begin() as connection:
            result = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table with every row, as the database has it."""
        tables = sa.inspect(self.engine).get_table_names()
        return {table: sorted(self.sql(f"SELECT * FROM {table}"), key=repr) for table in sorted(tables)}

    def raw(self, table: str = "documents", column: str = "file") -> list[Any]:
        """The JSON values of a column in key order, without anybody's types in between."""
        key = next(each.key for each in COLUMNS if (each.table, each.column) == (table, column))
        rows = self.sql(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {', '.join(key)}")
        return [json.loads(value) if isinstance(value, str) else value for (value,) in rows]

    def files(self) -> Iterable[FileObject]:
        """Every file that a row names, through the ORM."""
        with Session(self.engine) as session:
            for document in session.scalars(sa.select(Document)):
                if document.file is not None:
                    yield document.file
            for album in session.scalars(sa.select(Album)):
                yield from album.pictures or []
            for note in session.scalars(sa.select(Note)):
                yield from [file for file in (note.scan, note.voice) if file is not None]
            for page in session.scalars(sa.select(Page)):
                if page.image is not None:
                    yield page.image

    def check(self, *, backend: str | None = None) -> int:
        """Every row's file opens with its right bytes; returns how many there are."""
        count = 0
        for file in self.files():
            name = file.metadata["name"]
            assert file.get_content() == self.contents[name], name
            assert file.content_type == self.types[name]
            if backend is not None:
                assert file.backend.key == backend, name
            count += 1
        return count
