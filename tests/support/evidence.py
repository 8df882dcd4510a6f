"""The results of the soak tests in one file: each fact with its numbers, commit, date and seed.

A plugin of the test run: ``--evidence PATH`` names the file, ``--seed N`` repeats a run. A run replaces the facts of the tests
that it ran, and keeps those of other tests: so a soak can be run in parts.
"""

from __future__ import annotations

import datetime
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

_KEY = "evidence"


class Evidence:
    """Records facts of one test; only those of a passed test are kept."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def record(self, what: str, **numbers: Any) -> None:
        """Record one sentence, with the counts that support it."""
        json.dumps(numbers)
        self._item.user_properties.append((_KEY, {"what": what, **numbers}))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evidence", metavar="PATH", help="write what the passed tests showed to this file")
    parser.addoption("--seed", type=int, help="the seed of everything random; the header of a run shows it")


def pytest_configure(config: pytest.Config) -> None:
    # Before the workers start, so that all of them get the same.
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**31)
    if config.option.evidence and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(config))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (repeat with --seed {config.option.seed})"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run."""
    return int(request.config.option.seed)


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Records facts of this test."""
    return Evidence(request.node)


class _Writer:
    """Collects from the reports of all workers, and writes after each test: what is killed later keeps what was shown."""

    def __init__(self, config: pytest.Config) -> None:
        self._path = Path(config.option.evidence)
        self._run = {
            "commit": _commit(config.rootpath),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seed": config.option.seed,
        }
        self._ran: set[str] = set()
        self._failed: set[str] = set()
        self._shown: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._ran.add(report.nodeid)
        if report.outcome != "passed":
            self._failed.add(report.nodeid)
        if report.when == "call":
            self._shown += [{"test": report.nodeid, **value} for key, value in report.user_properties if key == _KEY]
        if report.when == "teardown":
            self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(self._path.read_text())["shown"] if self._path.exists() else []
        # The facts of a test that failed now are dropped, also those of earlier runs.
        shown = [fact for fact in before if fact["test"] not in self._ran]
        shown += [{**self._run, **fact} for fact in self._shown if fact["test"] not in self._failed]
        self._path.write_text(json.dumps({"shown": sorted(shown, key=lambda fact: str(fact["test"]))}, indent=2) + "\n")


def _commit(root: Path) -> str:
    """Return the commit, marked when the tree has uncommitted changes."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="], cwd=root, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"
