"""Canary objects at a source: what they prove of a listing.

The answer to a LIST may be old, and one listing is several answers (pages), which a cache may keep for different times. A canary is
an object with a random name and random content. It shows the age of the page that has it, and of no other one:

1. It is written behind the last wanted key, after everything that the listing must show.
2. The listing is begun before the first wanted key, and its first object is taken: the page with that object was answered.
3. The canary is replaced by other random content, and the listing is read on, without reading ahead.

Where the listing shows the canary's first content, it was answered before step 3. So one page has all from the first wanted key to
the canary, and that page is younger than the canary. Where it shows the second content, the canary is on a later page, and
nothing is known of the pages before it. Where it does not show the canary at all, it is old.
"""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Callable, Iterator

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("CANARY", "Canaries", "is_canary")

CANARY = ".migrate-storage-canary-"
"""Between a wanted key and random digits in the key of a canary."""
_MAX_KEYS = 900
"""Wanted keys between which and their canary one page is hoped for at first. S3 and others list 1,000 keys in a page."""
_CONTENT_BYTES = 32


def is_canary(key: str) -> bool:
    """Whether a key is that of a canary, perhaps of another process."""
    return CANARY in key.rpartition("/")[2]


class Canaries:
    """The canaries of one side, from any thread.

    Args:
        side: where they are written.
        prefix: of the filenames behind which they may be written.
        retry: repeats a failed PUT or DELETE.
    """

    def __init__(self, side: ResolvedBackend, prefix: str, retry: Retry) -> None:
        self._side, self._prefix, self._retry = side, prefix, retry
        #: Wanted keys for which one page is hoped for; fewer after a page was shorter.
        self.max_keys = _MAX_KEYS
        #: Why no more canaries are written; empty while they are.
        self.refusal = ""

    def allows(self, filename: str) -> bool:
        """Whether a canary may be written behind a file."""
        return not self.refusal and filename.startswith(self._prefix)

    def list_page(self, last: ObjectAt, filename: str, folder: str, after: str, most: int) -> list[ObjectMeta]:
        """List the objects before a new canary, where it proves that they are of one page which was answered now.

        Args:
            last: the wanted object behind which the canary is written.
            filename: of that object.
            folder: what is listed.
            after: the key after which the listing begins.
            most: objects that are read at most.

        Returns:
            Nothing where that is not proved.

        Raises:
            StoppedError: the run was asked to stop.
        """
        suffix = f"{CANARY}{uuid.uuid4().hex}"
        try:
            at = self._side.resolve(filename + suffix)
        except KeyRefusedError:
            return []
        if at != ObjectAt(last.store, last.key + suffix) or self.refusal:
            return []
        try:
            return self._prove(at, lambda: at.store.list_stepwise(folder, after=after), most)
        except StoreRequestError as error:
            self.refusal = f"a canary cannot be written: {error.failure.message}"
            return []
        finally:
            self._delete(at)

    def _prove(self, at: ObjectAt, list_stepwise: Callable[[], Iterator[ObjectMeta]], most: int) -> list[ObjectMeta]:
        first, second, found = self._write(at), "", list[ObjectMeta]()
        for meta in list_stepwise():
            if not found:
                second = self._write(at)
                if "" in (first, second) or first == second:
                    self.refusal = "the answer to its PUT has no ETag, or not a new one"
                    return []
            if meta.path == at.key and meta.e_tag == first:
                return found
            if len(found) == most or (meta.path == at.key and meta.e_tag == second):
                # The canary is on a later page than the first object.
                self.max_keys = max(1, self.max_keys // 2)
                return []
            if meta.path >= at.key:
                break
            found.append(meta)
        self.refusal = "a listing did not show it as it was written before"
        return []

    def _write(self, at: ObjectAt) -> str:
        """Write new random content; return its ETag."""
        content = secrets.token_bytes(_CONTENT_BYTES)
        written = self._retry.call(
            lambda: at.store.put(at.key, content, attributes=Attributes(), create=False, part_size=None)
        )
        return written.e_tag or ""

    def _delete(self, at: ObjectAt) -> None:
        with contextlib.suppress(Exception):
            self._retry.call(at.delete)
            return
        kept = f"{at.key} cannot be deleted: if it is there, delete it by hand"
        self.refusal = f"{self.refusal}; {kept}" if self.refusal else kept
