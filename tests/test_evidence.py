"""What a failed test took down is not evidence, and workers' facts come together."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def from_here(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))


def test_the_facts_of_all_workers_are_written_once_each(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.evidence"]')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_shows(evidence, seed, number):
            evidence.record("shown", number=number, seed=seed)

        def test_fails(evidence):
            evidence.record("never shown")
            assert False
        """
    )
    result = pytester.runpytest_subprocess(
        "-n2", "--seed", "7", "--evidence", "out/told.json", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=6, failed=1)
    told = json.loads((pytester.path / "out/told.json").read_text())
    assert told["seed"] == 7
    assert told["tests"] == {"passed": 6, "failed": 1, "skipped": 0}
    assert sorted(fact["number"] for fact in told["shown"]) == list(range(6))
    assert {fact["seed"] for fact in told["shown"]} == {7}
    assert {fact["what"] for fact in told["shown"]} == {"shown"}


def test_a_skipped_test_fails_the_run_when_none_may_be(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile("import pytest\ndef test_skips():\n    pytest.skip('no server')")
    result = pytester.runpytest_subprocess("--no-skips", "-n", "1", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*1 tests were skipped, and --no-skips was given*"])
