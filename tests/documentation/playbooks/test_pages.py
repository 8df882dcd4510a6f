"""The playbooks that nobody disturbs: each is followed from its first block to its last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.playbooks.names import BUCKETS
from tests.support.playbooks.page import Page
from tests.support.servers import start_moto


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swap", "rekey", "local-to-s3", "new-layout", "undo-and-purge", "links"])
def test_what_the_page_shows_is_what_comes_out(playbook: Callable[[str], Page], name: str) -> None:
    playbook(name).follow()


@pytest.mark.slow
def test_a_half_finished_script_is_picked_up(
    playbook: Callable[[str], Page], environment: dict[str, str], tmp_path: Path
) -> None:
    # As at Amazon, an object that was given no content type has none: rclone would guess it from the name.
    with start_moto(tmp_path / "moto") as amazon:
        for bucket in BUCKETS:
            amazon.client.create_bucket(Bucket=bucket)
        environment["AWS_ENDPOINT_URL"] = amazon.endpoint
        playbook("half-finished").follow()
        files = amazon.store("acme-files")
        for others in ("exports/2026-01.csv", "exports/2026-02.csv", "2026/030.png"):
            assert files.get(others).bytes() == b"not ACME's"
        for number in set(range(40)) - {15, 30}:
            held = files.get(f"2026/{number:03}.png")
            assert held.bytes() == b"picture " * (number + 1)
            assert held.attributes["Content-Type"] == "image/png"
        assert files.get("2026/015.png").bytes() == b"a better picture"
        assert files.get("2026/030-acme.png").bytes() == b"picture " * 31
