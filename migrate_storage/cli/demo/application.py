"""A small application with files. The demo copies it to its folder as app.py.

``python app.py`` saves one more file under the old key, as an application that still runs would.
"""

from pathlib import Path

import fsspec
from advanced_alchemy.config import SQLAlchemySyncConfig
from advanced_alchemy.types.file_object import FileObject, FileObjectList, StoredObject, storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from migrate_storage.backend import ObstoreBackend

HERE = Path(__file__).resolve().parent

storages.register_backend(
    FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(HERE / "old"))
)
storages.register_backend(ObstoreBackend(key="new", fs=f"file://{HERE}/new"))


class Base(DeclarativeBase):
    """The base of the models."""


class Module(Base):
    """One file."""

    __tablename__ = "module"
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[FileObject] = mapped_column(StoredObject(backend="old"))


class Package(Base):
    """A list of files."""

    __tablename__ = "package"
    name: Mapped[str] = mapped_column(primary_key=True)
    sources: Mapped[FileObjectList] = mapped_column(StoredObject(backend="old", multiple=True))


class Author(Base):
    """A file, or none."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    sample: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))


database = SQLAlchemySyncConfig(engine_instance=create_engine(f"sqlite:///{HERE / 'app.db'}"))


def save_one_more() -> str:
    """Save one more file under the old key, and return its name."""
    with database.get_session() as session:
        name = f"late/{session.query(Module).count()}.txt"
        session.add(Module(source=FileObject(backend="old", filename=name, content=b"saved while the job was over\n")))
        session.commit()
    return name


if __name__ == "__main__":
    print(f"Saved {save_one_more()} under the key 'old'.")  # noqa: T201
