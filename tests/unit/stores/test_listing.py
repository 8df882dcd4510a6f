"""The listing of a backend on a local disk, for the keys that its rows would name."""

from pathlib import Path

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.listing import Listing, ListingStream, StoreLister
from migrate_storage.stores.resolved_backend import ResolvedBackend


@pytest.mark.parametrize("prefix", ["up", "./up/", "{}/up", "file://{}/up", "{}/link"])
def test_every_spelling_of_a_folder_is_listed(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "up" / "d").mkdir(parents=True)
    (tmp_path / "link").symlink_to("up")
    for name in ("a", "x", "x#1", "d/é"):
        (tmp_path / "up" / name).write_text(name)
    side = ResolvedBackend(FSSpecBackend(key="k", fs="file", prefix=prefix.format(tmp_path)))
    listed = {each.location.path: each for each in StoreLister(side).list_objects(print)}
    assert listed.keys() == {"a", "x", "x#1", "d/é"}
    assert all(each.place == side.place(name) and not each.link for name, each in listed.items())
    assert {key for key, _ in ListingStream(Listing.of_backend(side))} == listed.keys()


def test_names_that_a_subclass_makes_cannot_be_listed(tmp_path: Path) -> None:
    class Dated(FSSpecBackend):
        def _prepare_path(self, path: object) -> str:
            return f"{self.prefix}/2026-{path}"

    with pytest.raises(ConfigurationError, match="names of its own"):
        StoreLister(ResolvedBackend(Dated(key="k", fs="file", prefix=str(tmp_path))))
