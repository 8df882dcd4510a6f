"""Options of the test run: ``--store URL`` and ``--no-skips``, and how many examples Hypothesis tries."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.client_start import leave_out_authorities

settings.register_profile("few", max_examples=30, deadline=None, database=None)
settings.register_profile("many", max_examples=2000, deadline=None, database=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test makes the run fail")
    parser.addoption("--store", metavar="URL", help="run only the tests of a store, on this one of your own")


def pytest_configure(config: pytest.Config) -> None:
    """Load ``HYPOTHESIS_PROFILE``: without it, few examples, and many in a soak. Load no authorities for servers on loopback."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("many" if _soaks(config) else "few"))
    if not config.getoption("--store"):
        leave_out_authorities()


def _soaks(config: pytest.Config) -> bool:
    return config.getoption("markexpr") == "soak"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests of ``--store`` when it is given, and all others when it is not."""
    if _soaks(config):
        # Tests of Hypothesis have another size in a soak, without a parameter of their own.
        for item in items:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                item.add_marker("soak")
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
