"""The exact paths of a listing of a service: obstore removes a slash at either end of a key.

The objects ``/a`` and ``a/`` are listed as ``a``, like ``a`` itself. A HEAD decides where a path is in doubt: the object has no
bytes, the path is a folder too, or it is out of key order. Keys that begin with a slash are next to each other in the listing;
one LIST and one HEAD show whether there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.parallel import parallel_map
from migrate_storage.stores.failures import classify

__all__ = ("ListedPaths", "list_beside")

_HEADS_AT_ONCE = 16
"""HEADs for paths in doubt that are in progress at once."""
_BEFORE_SLASH, _AFTER_SLASH = ".\U0010ffff", "0"
"""Keys that begin with a slash are listed between these two."""
_MAX_ROUNDING_SECONDS = 1.0
"""A HEAD reports whole seconds; a LIST may report milliseconds."""


class ListedPaths:
    """Finds the exact path of each object of one listing.

    Args:
        folder: what is listed, without slashes at its ends; empty lists all.
        head: sends a HEAD for a path.
        list_raw: lists a folder after a path; paths are as obstore returns them.
    """

    def __init__(
        self,
        folder: str,
        head: Callable[[str], ObjectMeta],
        list_raw: Callable[[str, str], Iterable[ObjectMeta]],
    ) -> None:
        self._folder, self._head, self._list_raw = folder, head, list_raw
        self._last, self._is_ordered = "", True
        self._slash_keys_may_follow: bool | None = None if not folder else False

    def correct(self, pages: Iterable[Sequence[ObjectMeta]], *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects of a listing, each with its exact path.

        Args:
            pages: the listing.
            after: the path after which the listing begins.
        """
        if after >= _AFTER_SLASH:
            self._slash_keys_may_follow = False
        kept: list[ObjectMeta] = []
        for page in pages:
            # The last object waits for the one after it, which may be in a folder of its name.
            *known, last = (*kept, *page)
            yield from self._correct_page(known, last)
            kept = [last]
        yield from self._correct_page(kept, None)

    def _correct_page(self, page: Sequence[ObjectMeta], after: ObjectMeta | None) -> Iterator[ObjectMeta]:
        if page and self._slash_keys_may_follow is None:
            self._slash_keys_may_follow = self._has_slash_keys()
        suspects = [
            meta
            for meta, then in zip(page, (*page[1:], after), strict=False)
            if meta.size == 0 or (then is not None and then.path.startswith(f"{meta.path}/"))
        ]
        checked = parallel_map(self._differs, suspects, _HEADS_AT_ONCE) if suspects else ()
        differing = {id(meta) for meta, differs in checked if differs}
        for meta in page:
            path = meta.path
            if path == self._folder:
                path += "/"
            elif id(meta) in differing or self._slash_keys_may_follow:
                path = self._find_path(meta)
            elif path <= self._last and self._is_ordered:
                path = self._find_path(meta)
                # A service without an order would cause a HEAD for every other key.
                self._is_ordered = path != meta.path
            self._last = path
            yield meta if path == meta.path else replace(meta, path=path)

    def _find_path(self, meta: ObjectMeta) -> str:
        """Return the path of an object that is in doubt."""
        if any(
            _is_same(meta, marker) for marker in islice(self._list_raw(meta.path, ""), 1) if marker.path == meta.path
        ):
            return f"{meta.path}/"
        if not self._differs(meta):
            if meta.path >= _AFTER_SLASH:
                self._slash_keys_may_follow = False
            return meta.path
        if self._slash_keys_may_follow:
            return f"/{meta.path}"
        # An object that is listed again was not deleted or replaced. (Azure's listing of a folder lacks the key of the folder.)
        again = list_beside(meta.path, self._list_raw)
        return f"{meta.path}/" if any(_is_same(meta, other) for other in again) else meta.path

    def _has_slash_keys(self) -> bool:
        """Whether keys may begin with a slash. If so, :meth:`_find_path` is called for each until they end."""
        seen: set[str] = set()
        for meta in self._list_raw("", _BEFORE_SLASH):
            if meta.path in seen:
                return True
            # Azurite ignores where a listing is to begin.
            if not seen or max(seen) < _AFTER_SLASH:
                if self._differs(meta):
                    return True
                seen.add(meta.path)
            else:
                break
        return False

    def _differs(self, listed: ObjectMeta) -> bool:
        """Whether the object under a listed path is missing or another one.

        Some services show another time in a LIST than in a HEAD (rclone's, after a PUT whose answer was lost). Where only
        the time differs, the HEAD describes another object if that one is listed too.
        """
        try:
            found = self._head(listed.path)
            if (listed.size, listed.e_tag) != (found.size, found.e_tag):
                return True
            return not _is_same(listed, found) and any(
                _is_same(other, found) for other in list_beside(listed.path, self._list_raw)
            )
        except FileNotFoundError:
            return True
        except Exception as error:
            if classify(error).kind.retriable:
                raise
            return False  # Without the right to read it, the listing is all there is.


def list_beside(path: str, list_raw: Callable[[str, str], Iterable[ObjectMeta]]) -> Iterator[ObjectMeta]:
    """Yield what a service lists under a path, with or without a slash behind it.

    Args:
        path: of one object.
        list_raw: lists a folder after a path.
    """
    begin, begins_there = path[:-1], True
    for meta in list_raw(path.rpartition("/")[0], begin):
        # Azurite ignores where a listing is to begin, and returns all.
        begins_there = begins_there and meta.path > begin
        if begins_there and meta.path > f"{path}/":
            return
        if meta.path.removesuffix("/") == path:
            yield meta


def _is_same(one: ObjectMeta, other: ObjectMeta) -> bool:
    times = (one.last_modified or 0.0, other.last_modified or 0.0)
    return (one.size, one.e_tag) == (other.size, other.e_tag) and abs(times[0] - times[1]) < _MAX_ROUNDING_SECONDS
