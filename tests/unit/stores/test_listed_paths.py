"""The exact path of a listed object, where a LIST and a HEAD of the same object do not agree."""

from collections.abc import Iterator

import pytest

from migrate_storage.core.model import ObjectMeta
from migrate_storage.stores.listed_paths import ListedPaths


class Service:
    """Keys with what a LIST shows of them; a HEAD of some shows a time that is five seconds later."""

    def __init__(self, listed: dict[str, float], *, later: tuple[str, ...] = ()) -> None:
        self.listed, self.later = listed, later

    def head(self, path: str) -> ObjectMeta:
        # obstore cannot ask for a key with a slash at its ends: it asks for the key without.
        if path not in self.listed:
            raise FileNotFoundError(path)
        return meta(path, self.listed[path] + 5 * (path in self.later))

    def list_raw(self, folder: str, after: str) -> Iterator[ObjectMeta]:
        for key, time in sorted(self.listed.items()):
            if key > after and key.startswith(f"{folder}/" if folder else ""):
                yield meta(key.strip("/"), time)


def meta(path: str, time: float) -> ObjectMeta:
    return ObjectMeta(path=path, size=3, e_tag="0123456789abcdef0123456789abcdef", last_modified=time)


@pytest.mark.parametrize(
    ("listed", "later"),
    [
        ({"d/0": 1.0, "d/1": 2.0}, ("d/0",)),
        ({"d/0": 1.0, "d/1": 2.0}, ("d/0", "d/1")),
        ({"d": 1.0, "d/0": 2.0}, ("d",)),
        ({"/d/0": 1.0, "d/0": 9.0}, ()),
        ({"/d/0": 1.0, "d/0": 9.0, "d/1": 9.0}, ("d/1",)),
        ({"/d/0": 1.0, "d/1": 9.0}, ("d/1",)),
        ({"d": 1.0, "d/": 20.0, "d/0": 2.0}, ()),
    ],
)
def test_the_same_content_with_another_time(listed: dict[str, float], later: tuple[str, ...]) -> None:
    service = Service(listed, later=later)
    paths = ListedPaths("", service.head, service.list_raw)
    assert [found.path for found in paths.correct([list(service.list_raw("", ""))])] == sorted(listed)
