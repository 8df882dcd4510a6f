"""One writer process of the live application: it inserts, re-points, replaces, deletes and restores through the ORM.

Run as ``python -m tests.support.engine.writer``, told by ``WRITER`` in the environment. It owns every row whose number leaves its
own remainder, does one thing after the other, and keeps a model of what it was acknowledged: row by row the bytes that
must be there. It looks for two files: ``calm``, from which on nothing is replaced under its own name, and ``stop``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.config import SQLAlchemySyncConfig
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from tests.support.engine import registrations as places
from tests.support.engine.world import Document


class Writer:
    """What one process does, and what must be true of its rows."""

    def __init__(self, told: dict[str, Any]) -> None:
        for each in told["backends"]:
            storages.register_backend(places.Registration(**each).build())
        engine = sa.create_engine(
            told["url"], **({"connect_args": {"timeout": 30}} if told["url"].startswith("sqlite") else {})
        )
        self.config = SQLAlchemySyncConfig(engine_instance=engine)
        self.number, self.of, self.keys = told["number"], told["of"], told["keys"]
        self.random = random.Random(f"{told['seed']}/{self.number}")
        self.folder = Path(told["folder"])
        #: Row to the content that was acknowledged last; None when it was deleted.
        self.model: dict[int, str | None] = dict.fromkeys(range(self.number, told["rows"], self.of), "")
        self.next = told["rows"] + self.number
        self.count = 0
        self.late = 5
        self.replaced: set[str] = set()
        #: Filename and key of rows that were deleted.
        self.graves: dict[int, str] = {}
        self.done: dict[str, int] = {}
        #: Files that were loaded a while ago and are saved later, by row.
        self.stale: dict[int, FileObject] = {}

    @property
    def calm(self) -> bool:
        return (self.folder / "calm").exists()

    def content(self, row: int) -> str:
        self.count += 1
        return f"row {row}, write {self.count} of writer {self.number} " * self.random.randrange(1, 40)

    def fresh(self, row: int, content: str) -> FileObject:
        key = self.random.choice(self.keys)
        if self.calm:
            # The application is being moved to the new key: the job ends when no more rows come at the old one.
            self.late -= key == "old"
            key = key if self.late > 0 else "new"
        return FileObject(
            backend=key, filename=f"live/{row}-{self.count}.txt", content_type="text/plain", content=content.encode()
        )

    def alive(self) -> int | None:
        rows = [row for row, content in self.model.items() if content is not None]
        return self.random.choice(rows) if rows else None

    # -- what it does; each returns when the application has its answer

    def insert(self, session: Session) -> None:
        row, self.next = self.next, self.next + self.of
        content = self.content(row)
        session.add(Document(id=row, title="live", file=self.fresh(row, content)))
        session.commit()
        self.model[row] = content

    def repoint(self, session: Session) -> None:
        row = self.alive()
        if row is None:
            return
        content = self.content(row)
        session.get_one(Document, row).file = self.fresh(row, content)
        session.commit()
        self.model[row] = content
        self.stale.pop(row, None)

    def delete(self, session: Session) -> None:
        row = self.alive()
        if row is None:
            return
        document = session.get_one(Document, row)
        name = document.file.filename
        session.delete(document)
        session.commit()
        self.model[row] = None
        self.graves[row] = name
        self.stale.pop(row, None)

    def restore(self, session: Session) -> None:
        """A deleted row comes back, under its old name while that may still be replaced."""
        if not self.graves:
            return
        row = self.random.choice(list(self.graves))
        name = self.graves.pop(row)
        content = self.content(row)
        file = self.fresh(row, content)
        if not self.calm and name not in self.replaced:
            self.replaced.add(name)
            file = FileObject(backend="old", filename=name, content_type="text/plain", content=content.encode())
        session.add(Document(id=row, title="restored", file=file))
        session.commit()
        self.model[row] = content

    def load(self, session: Session) -> None:
        """Load a file that is saved later, whether or not its row changes meanwhile."""
        row = self.alive()
        if row is not None:
            self.stale[row] = session.get_one(Document, row).file

    def replace(self, session: Session) -> None:
        """New content under the same name, without SQL. Each name once: see docs/protocol.md."""
        if self.calm:
            return
        if self.stale and self.random.random() < 0.5:
            row, file = self.stale.popitem()
        else:
            row = self.alive()
            if row is None:
                return
            file = session.get_one(Document, row).file
            self.stale.pop(row, None)
        if file.filename in self.replaced:
            return
        self.replaced.add(file.filename)
        content = self.content(row)
        file.save(content.encode())
        self.model[row] = content

    def run(self) -> None:
        works = [
            self.insert,
            self.repoint,
            self.repoint,
            self.delete,
            self.restore,
            self.load,
            self.replace,
            self.replace,
        ]
        (self.folder / f"ready-{self.number}").touch()
        while not (self.folder / "stop").exists():
            work = self.random.choice(works)
            try:
                with self.config.get_session() as session:
                    work(session)
            except OperationalError as error:
                if "locked" not in str(error) and "deadlock" not in str(error):
                    raise
                self.done["locked"] = self.done.get("locked", 0) + 1
                continue
            self.done[work.__name__] = self.done.get(work.__name__, 0) + 1
            marker = self.folder / f"calm-{self.number}"
            if self.calm and not marker.exists():
                marker.touch()
            time.sleep(self.random.random() * 0.03)
        (self.folder / f"model-{self.number}.json").write_text(json.dumps({"model": self.model, "done": self.done}))


if __name__ == "__main__":
    try:
        Writer(json.loads(os.environ["WRITER"])).run()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise
