"""A small application with files, for tests of the engine: rows made as applications make them, then checked."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.types import GUID, FileObject, StoredObject
from advanced_alchemy.types.file_object import StorageBackend, storages
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from migrate_storage.application import Application
from migrate_storage.events import Event
from migrate_storage.migration import Migration
from migrate_storage.model import Column
from migrate_storage.options import RunOptions
from migrate_storage.report import Report

TYPES = ["text/plain", "image/png", "application/pdf", "application/x-custom; v=1"]


class Base(DeclarativeBase):
    pass


class Document(Base):
    """One file."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(100))
    updated_at: Mapped[int] = mapped_column(default=0, onupdate=sa.text("updated_at + 1"))
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))


class Album(Base):
    """A list of files under a key of bytes."""

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


COLUMNS = (
    Column(table="documents", column="file", key=("id",), backend="old", multiple=False),
    Column(table="albums", column="pictures", key=("id",), backend="old", multiple=True),
    Column(table="notes", column="scan", key=("owner", "number"), backend="old", multiple=False),
    Column(table="notes", column="voice", key=("owner", "number"), backend="old", multiple=False),
)


@dataclass
class World:
    """An application's database and storage, with what each file must hold."""

    url: str
    old: StorageBackend
    new: StorageBackend
    seed: int = 0
    #: filename -> bytes
    contents: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        storages.register_backend(self.old)
        storages.register_backend(self.new)
        self.engine = sa.create_engine(self.url)
        Base.metadata.create_all(self.engine)
        self.random = random.Random(self.seed)

    @property
    def application(self) -> Application:
        return Application(engine=self.engine, columns=COLUMNS, backends={self.old.key: self.old, self.new.key: self.new})

    def file(self, name: str, content: bytes | None = None, content_type: str | None = None) -> FileObject:
        """Save a file as the application does, through the backend that it has."""
        content = self.random.randbytes(self.random.randrange(0, 2000)) if content is None else content
        content_type = content_type or self.random.choice(TYPES)
        self.contents[name], self.types[name] = content, content_type
        made = FileObject(backend=self.old.key, filename=name, content_type=content_type, metadata={"name": name}, content=content)
        self.old.save_object(made, content)
        return FileObject(
            backend=self.old.key, filename=name, content_type=content_type, metadata={"name": name},
            size=made.size, last_modified=made.last_modified, etag=made.etag,
        )  # fmt: skip

    def fill(self, documents: int, albums: int = 0, notes: int = 0, *, prefix: str = "") -> None:
        """Rows of every kind."""
        files = {}
        for i in range(documents):
            files[f"d{i}"] = self.file(f"{prefix}docs/{i % 7}/d{i}.bin")
        with Session(self.engine) as session, session.no_autoflush:
            # The listener would save the files again: they are in place already.
            session.info["enable_file_object_listener"] = False
            session.add_all(Document(id=i + 1, title=f"t{i}", file=files[f"d{i}"]) for i in range(documents))
            for i in range(albums):
                pictures = [self.file(f"{prefix}albums/{i}/{j}.png") for j in range(i % 4)]
                session.add(Album(pictures=pictures))
            shared = self.file(f"{prefix}notes/shared.wav") if notes else None
            for i in range(notes):
                scan = self.file(f"{prefix}notes/{i}.tif") if i % 3 == 0 else None
                session.add(Note(owner=f"o{i % 5}", number=i, scan=scan, voice=shared if i % 2 else None))
            session.commit()

    def run(self, **options: Any) -> Report:
        options = {"source": self.old.key, "destination": self.new.key, "settle": 0.1, **options}
        return Migration(self.application, RunOptions(**options), self.events.append).run()

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

    def check(self, *, backend: str | None = None) -> int:
        """Every row's file opens with its right bytes."""
        count = 0
        for file in self.files():
            name = file.metadata["name"]
            assert file.get_content() == self.contents[name], name
            assert file.content_type == self.types[name]
            if backend is not None:
                assert file.backend.key == backend, name
            count += 1
        return count
