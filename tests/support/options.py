"""Options of the test run: ``--store URL`` and ``--no-skips``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test makes the run fail")
    parser.addoption("--store", metavar="URL", help="run only the tests of a store, on this one of your own")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests of ``--store`` when it is given, and all others when it is not."""
    wanted = bool(config.getoption("--store"))
    dropped = [item for item in items if ("store_url" in getattr(item, "fixturenames", ())) is not wanted]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture(scope="session")
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL after ``--store``."""
    return str(request.config.getoption("--store"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a test was skipped and ``--no-skips`` was given."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and session.config.getoption("--no-skips") and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} tests were skipped, and --no-skips was given", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
