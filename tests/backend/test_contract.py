"""The contract on every server; on a user's own bucket with ``--store URL``."""

from __future__ import annotations

import pytest

from migrate_storage import ObstoreBackend
from tests.backend.beds import BEDS, Bed, bed_named
from tests.backend.contract import CompleteContract, StorageContract


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bed" in metafunc.fixturenames:
        own = metafunc.config.getoption("--store", None)
        metafunc.parametrize("bed", ["own"] if own else list(BEDS), indirect=True)


@pytest.fixture
def bed(request: pytest.FixtureRequest) -> Bed:
    return bed_named(request.param, request)


class TestObstore(StorageContract, CompleteContract):
    @pytest.fixture
    def backend(self, bed: Bed) -> ObstoreBackend:
        return bed.backend()
