"""``playbooks/cutover.md``, while both applications are written to and read: every read is of what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.cutover.fleet import Client, Histories, look, told
from tests.support.playbooks.page import Page


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_nobody_notices(playbook: Callable[[str], Page], seed: int) -> None:
    page = playbook("cutover")
    endpoints = [f"http://127.0.0.1:{page.environment[name]}" for name in ("API_PORT", "SITE_PORT")]
    histories, stop = Histories(), threading.Event()
    keys = [[f"new-{client}-{number}.png" for number in range(5)] for client in range(2)]
    everything = [key for each in keys for key in each]
    clients = [
        Client(number, endpoints, keys[number], everything, histories, stop, seed, lingers=1.0, ways=("files",))
        for number in range(2)
    ]
    for client in clients:
        client.start()
    try:
        page.follow()
        deadline = time.monotonic() + 120
        while told(clients)["save acknowledged"] <= 20:
            assert time.monotonic() < deadline, told(clients)
            time.sleep(0.1)
    finally:
        stop.set()
        for client in clients:
            client.join(60)
    counts: Any = told(clients)
    with httpx.Client(timeout=120) as http:
        for endpoint in endpoints:
            for key in everything:
                found = look(http, endpoint, key, "files")
                assert found is not None
                histories.read(key, found)
            assert http.get(f"{endpoint}/files/059.png").content == b"picture " * 59
    assert histories.wrong() == []
    assert counts["save acknowledged"] > 20
    assert not any(counts[f"{what} failed"] for what in ("save", "delete", "read")), counts
