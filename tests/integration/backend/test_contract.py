"""The contract on every server; on a user's own bucket with ``--store URL``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from tests.support.backend.beds import BEDS, Bed, of_the_user
from tests.support.backend.contract import CompleteContract, StorageContract
from tests.support.backend.differences import DIFFERENCES


@pytest.fixture(params=list(BEDS))
def bed(request: pytest.FixtureRequest) -> Bed:
    return BEDS[request.param](request)


class TestObstore(StorageContract, CompleteContract):
    @pytest.fixture
    def backend(self, bed: Bed) -> ObstoreBackend:
        return bed.backend()


class TestOwnStore(StorageContract, CompleteContract):
    """With ``--store URL``: the same on a bucket of the user's own, which is left as it was."""

    @pytest.fixture
    def bed(self, store_url: str) -> Iterator[Bed]:
        made = of_the_user(store_url)
        yield made
        left = made.backend()
        left.delete_object([meta.path for meta in left.list()])

    @pytest.fixture
    def backend(self, bed: Bed) -> ObstoreBackend:
        return bed.backend()


class TestFsspec(StorageContract):
    """Where both should agree, advanced-alchemy's FSSpecBackend is held to the same; each difference is in the docs."""

    @pytest.fixture
    def backend(self, bed: Bed, request: pytest.FixtureRequest) -> FSSpecBackend:
        name = request.node.name.partition("[")[0]
        if bed.name == "local" and name == "test_a_hundred_saves_at_once":
            pytest.xfail("fsspec's local filesystem makes folders in a race: fails now and then")
        for difference in DIFFERENCES:
            if difference.test == name and bed.name in difference.beds:
                request.applymarker(pytest.mark.xfail(strict=True, reason=difference.line))
        return bed.fsspec_backend()


def test_every_difference_is_in_the_docs() -> None:
    text = " ".join(Path("docs/backend.md").read_text().split())
    missing = [difference.line for difference in DIFFERENCES if difference.line not in text]
    assert missing == []
