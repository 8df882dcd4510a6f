"""The application whose files are moved. Every contestant in Python imports it.

The environment variable ``BENCH`` contains the database's URL and the backends as JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import storages
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.engine.registrations import Registration


class Base(DeclarativeBase):
    pass


class Document(Base):
    """One file."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(100))
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="old"))


TYPES = ("text/plain", "image/png", "application/pdf", "image/jpeg")
"""Content types of the rows, in turn."""


def name_of(number: int) -> str:
    """The filename of the row with that number."""
    return f"customers/{number % 100:02}/{number:08}.bin"


def type_of(number: int) -> str:
    """Its content type."""
    return TYPES[number % len(TYPES)]


def value_of(number: int, size: int, backend: str = "old") -> str:
    """The JSON that FileObject writes into that row after the file was saved."""
    return json.dumps(
        {
            "filename": name_of(number), "backend": backend, "content_type": type_of(number), "size": size, "checksum": None,
            "etag": None, "last_modified": None, "version_id": None, "metadata": {},
        }
    )  # fmt: skip


def environment_for(url: str, *backends: Registration, **more: Any) -> dict[str, str]:
    """The environment of a contestant in Python."""
    return {"BENCH": json.dumps({"url": url, "backends": [each.to_dict() for each in backends], **more})}


if "BENCH" in os.environ:
    _told = json.loads(os.environ["BENCH"])
    for _each in _told["backends"]:
        storages.register_backend(Registration(**_each).build())
    engine = sa.create_engine(_told["url"])
