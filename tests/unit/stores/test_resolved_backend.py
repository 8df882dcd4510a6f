"""A registered backend that no library here can read is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.resolved_backend import ResolvedBackend


class OwnBackend:
    """A backend of an application's own class, over a dict."""

    driver = "own"
    protocol = "dict"

    def __init__(self, fs: Any) -> None:
        self.key, self.fs = "files", fs


@pytest.mark.parametrize("fs", [None, {}], ids=["none", "dict"])
def test_a_class_of_the_application_is_refused_in_one_line(fs: Any) -> None:
    side = ResolvedBackend(OwnBackend(fs))
    with pytest.raises(ConfigurationError, match=r"^backend 'files' cannot be read: its class OwnBackend .*$"):
        side.resolve("a.txt")
