"""What ACME has before a page begins: uploads, and their rows."""

import os
from typing import Any

import sqlalchemy as sa
from acme.models import Upload
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from sqlalchemy.orm import Session


def fill(fs: Any, prefix: str | None, folder: str, *, key: str = "uploads", first: int = 0, count: int = 40) -> None:
    """Save them through fsspec, with ``folder`` in their filenames."""
    backend = FSSpecBackend(key=key, fs=fs, prefix=prefix)
    storages.register_backend(backend)
    engine = sa.create_engine(os.environ["DATABASE_URL"])
    Upload.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(first, first + count):
            file = FileObject(backend=backend, filename=f"{folder}{number:03}.png", content_type="image/png")
            file.save(b"picture " * (number + 1))
            session.add(Upload(name=f"{number:03}", file=file))
        session.commit()
