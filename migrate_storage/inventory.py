"""What the stores of backends hold, listed whole and kept on disk: each physical object once, whichever keys reach it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from fsspec.implementations.local import LocalFileSystem

from migrate_storage.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.journal import digest
from migrate_storage.model import Location, ObjectMeta, Place
from migrate_storage.plan import actual
from migrate_storage.references import Services
from migrate_storage.stores.base import Store
from migrate_storage.stores.failure import classify
from migrate_storage.stores.files import FsspecStore
from migrate_storage.stores.side import Side

__all__ = ("Held", "Inventory", "Lister")

_BUCKETED = frozenset({"s3", "gcs", "azure"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One object that a store holds."""

    #: The key of a backend that reaches it, and what a row of that backend would have to name it.
    location: Location
    place: Place
    meta: ObjectMeta
    #: It is a link to another file of the disk, not an object of its own.
    link: bool = False


@dataclass(frozen=True, slots=True)
class Lister:
    """How everything of one backend is listed.

    Args:
        side: the backend.

    Raises:
        ConfigurationError: it has no bucket or folder of its own, so that there is nothing to list.
    """

    side: Side

    def __post_init__(self) -> None:
        root = self.side.root
        bucketed = root.service in _BUCKETED
        nothing = not root.root if bucketed else root.service != "memory" and not self._below[0].strip("/")
        if nothing or root.service in ("", "http"):
            raise ConfigurationError(
                f"the backend {self.side.key!r} has no bucket or folder of its own, so it cannot be listed: name others with --key"
            )

    @property
    def _below(self) -> tuple[str, Place]:
        """What stands before every filename in a path, and the place of that."""
        place = self.side.place("x")
        path = self._asked("x")[1]
        if path[-1:] != "x" or place.key[-1:] != "x":
            raise ConfigurationError(
                f"the backend {self.side.key!r} gives its files names of its own: it cannot be listed"
            )
        return path[:-1], replace(place, key=place.key[:-1])

    def _asked(self, filename: str) -> tuple[Store, str]:
        """The store that lists, and a path in it. Of a disk, obstore would leave out names such as ``x#1``."""
        if self.side.root.service != "file":
            return self.side.at(filename)
        folder = f"/{self.side.root.key}"
        other = self.side.fallback(filename)
        name = f"{self.side.key} (file)"
        return other or (FsspecStore(LocalFileSystem(), name, root=folder), folder + filename)

    def __call__(self, tell: Callable[[str], None]) -> Iterator[Held]:
        """List everything.

        Args:
            tell: told in one line when the listing had to be begun again with another library.

        Raises:
            RunError: the listing broke off: nobody knows what it had not come to.
            StoppedError: told to stop while waiting for a limit.
        """
        lead, base = self._below
        store, _ = self._asked("x")
        try:
            yield from self._from(store, lead, base)
        except (RunError, StoppedError):
            raise
        except Exception as error:
            failure = classify(error)
            other = self.side.fallback("x") if self.side.root.service != "file" else None
            if other is None or failure.kind.of_the_store:
                raise _broken(store, failure.message) from error
            # One key that obstore does not know ends its whole listing.
            tell(f"the listing of {store.name} broke off ({failure.message}): listed through fsspec")
            try:
                yield from self._from(other[0], other[1][:-1], base)
            except Exception as again:
                raise _broken(other[0], classify(again).message) from again

    def _from(self, store: Store, lead: str, base: Place) -> Iterator[Held]:
        below = lead.lstrip("/")
        for meta in store.list(lead.rstrip("/")):
            path = meta.path.lstrip("/")
            if not path.startswith(below):
                # Another name that begins alike, or a file that is named as the folder.
                continue
            name = path[len(below) :]
            place = replace(base, key=base.key + name)
            yield Held(
                location=Location(self.side.key, name), place=place, meta=meta, link=actual(place).key != place.key
            )


def _broken(store: Store, message: str) -> RunError:
    return RunError(
        f"the listing of {store.name} broke off: {message}; nobody knows what it had not come to, so no object is called an orphan: mend that, then run the same command again"
    )


class Inventory:
    """Objects in a temporary file, by a digest of their place: for one thread, gone when it is closed.

    Args:
        services: tells which places may be one.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="migrate-storage-"))
        file = sqlite3.connect(Path(folder) / "inventory.db", isolation_level=None)
        self._file = self._stack.enter_context(closing(file))
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute(
            "CREATE TABLE held (id TEXT PRIMARY KEY, key TEXT, name BLOB, service TEXT, endpoint TEXT, root BLOB,"
            " path BLOB, size INTEGER, e_tag TEXT, modified REAL, version TEXT, link INTEGER, chosen INTEGER DEFAULT 0)"
            " WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, objects: Iterator[Held]) -> None:
        """Take in objects; one that another key reached before stays as that one saw it."""
        self._file.execute("BEGIN")
        try:
            self._file.executemany(
                "INSERT OR IGNORE INTO held (id, key, name, service, endpoint, root, path, size, e_tag, modified, version, link)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._line(each) for each in objects),
            )
        finally:
            self._file.execute("COMMIT")

    def __contains__(self, place: Place) -> bool:
        found = self._file.execute("SELECT 1 FROM held WHERE id = ?", (self._services.name(place),)).fetchone()
        return found is not None

    def __iter__(self) -> Iterator[Held]:
        return self._all("")

    def choose(self, each: Held) -> None:
        """Mark one, to come back to it."""
        self._file.execute("UPDATE held SET chosen = 1 WHERE id = ?", (self._services.name(each.place),))

    @property
    def chosen(self) -> Iterator[Held]:
        """Those that were marked."""
        return self._all("AND chosen = 1")

    def _all(self, more: str) -> Iterator[Held]:
        last = ""
        while found := self._file.execute(
            f"SELECT * FROM held WHERE id > ? {more} ORDER BY id LIMIT 500", (last,)
        ).fetchall():
            for line in found:
                yield _held(line)
            last = found[-1][0]

    def _line(self, each: Held) -> tuple[object, ...]:
        place, meta = each.place, each.meta
        # A link is at the place of what it leads to, and must not hide that.
        name = digest("link", str(place)) if each.link else self._services.name(place)
        return (
            name, each.location.backend, _bytes(each.location.path), place.service, place.endpoint,
            _bytes(place.root), _bytes(place.key), meta.size, meta.e_tag, meta.last_modified, meta.version, each.link,
        )  # fmt: skip


def _held(line: tuple[object, ...]) -> Held:
    _, key, name, service, endpoint, root, path, size, e_tag, modified, version, link, _ = line
    return Held(
        location=Location(str(key), _text(name)),
        place=Place(service=str(service), endpoint=str(endpoint), root=_text(root), key=_text(path)),
        meta=ObjectMeta(path=_text(path), size=size, e_tag=e_tag, last_modified=modified, version=version),  # type: ignore[arg-type]
        link=bool(link),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(stored: object) -> str:
    assert isinstance(stored, bytes)
    return stored.decode("utf-8", "surrogatepass")
