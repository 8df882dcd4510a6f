"""What a failed test took down is not evidence; the facts of workers, and of several runs, come together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def from_here(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))


TESTS = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_shows(evidence, seed, number):
    evidence.record("shown", number=number)

def test_fails(evidence):
    evidence.record("never shown")
    assert {works}
"""


def test_the_facts_of_all_workers_and_of_several_runs_are_kept_once_each(pytester: pytest.Pytester) -> None:
    def told(seed: int, *arguments: str) -> dict[tuple[str, int | None], int]:
        options = ("--seed", str(seed), "--evidence", "out/told.json", "-p", "no:cacheprovider")
        pytester.runpytest_subprocess(*options, *arguments)
        facts = json.loads((pytester.path / "out/told.json").read_text())["shown"]
        assert all(fact["commit"] and fact["date"] for fact in facts)
        assert [fact["test"] for fact in facts] == sorted(fact["test"] for fact in facts)
        found = {(fact["what"], fact.get("number")): fact["seed"] for fact in facts}
        assert len(found) == len(facts)
        return found

    pytester.makeconftest('pytest_plugins = ["tests.support.evidence"]')
    module = pytester.makepyfile(TESTS.format(works=False))
    shown = {("shown", number): 7 for number in range(6)}
    assert told(7, "-n2") == shown, "what failed is not shown"
    assert told(8, "-k", "test_shows and 3") == {**shown, ("shown", 3): 8}, "a part says only itself anew"
    module.write_text(TESTS.format(works=True))
    assert told(9, "-k", "test_fails") == {**shown, ("shown", 3): 8, ("never shown", None): 9}
    module.write_text(TESTS.format(works=False))
    assert told(10, "-k", "test_fails") == {**shown, ("shown", 3): 8}, "what fails later is no longer shown"


def test_every_test_that_the_evidence_names_is_there(pytestconfig: pytest.Config) -> None:
    facts = json.loads((pytestconfig.rootpath / "docs/evidence/latest.json").read_text())["shown"]
    assert facts
    for fact in facts:
        file, _, name = fact["test"].partition("::")
        assert f"def {name.partition('[')[0]}(" in Path(pytestconfig.rootpath, file).read_text(), fact["test"]
        assert fact["commit"] and fact["date"] and isinstance(fact["seed"], int), fact["test"]


def test_a_skipped_test_fails_the_run_when_none_may_be(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.support.options"]')
    pytester.makepyfile("import pytest\ndef test_skips():\n    pytest.skip('no server')")
    result = pytester.runpytest_subprocess("--no-skips", "-n", "1", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*1 tests were skipped, and --no-skips was given*"])
