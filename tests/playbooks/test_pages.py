"""The playbooks that nobody disturbs: each is followed from its first block to its last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.playbooks.page import Page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swap", "rekey", "local-to-s3", "undo-and-purge"])
def test_what_the_page_shows_is_what_comes_out(playbook: Callable[[str], Page], name: str) -> None:
    playbook(name).follow()
