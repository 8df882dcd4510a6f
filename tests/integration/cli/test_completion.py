"""Shell completion of what an application and its journal hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrate_storage.cli.completion import CONTROL_ACTIONS
from tests.support.cli.project import Project

PROGRAM = "import sys; from migrate_storage.__main__ import main; sys.argv[0] = 'migrate-storage'; sys.exit(main())"


def complete(project: Project, typed: str) -> list[str]:
    """Return what bash is told of the last word of a line."""
    words = {"_MIGRATE_STORAGE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    ended = replace(project, environment=words).python("-c", PROGRAM)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return [line.removeprefix("plain,") for line in ended.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("run --app app --from ", ["new", "old"]),
        ("run --app app --to n", ["new"]),
        ("run --app app --opaque-etags new,o", ["new,old"]),
        ("verify --app app --key old --compare-with n", ["new"]),
        ("sync --app app old n", ["new"]),
        ("run --app app --columns doc", ["document.file"]),
        ("explain --app app d", ["document.file"]),
        ("run --app no_such_module --from ", []),
        ("run --from ", []),
        ("control --app app s", ["set", "stop"]),
        ("control --app app pause ", []),
    ],
)
def test_what_an_application_holds_is_proposed(project: Project, typed: str, proposed: list[str]) -> None:
    project.write("print('noise')\nfrom app import *", "noisy.py")
    assert complete(project, f"migrate-storage {typed}".replace("--app app", "--app noisy")) == proposed


def test_runs_are_proposed_with_the_latest_first(project: Project) -> None:
    for _ in range(2):
        project("run", "--app", "app", "--from", "old", "--to", "new", "--limit", "1", "--settle-time", "0")
    runs = [line.split()[0] for line in project("runs", "--app", "app").stdout.splitlines()]
    assert len(runs) == 2
    for command in ("report", "revert", "purge", "status"):
        assert complete(project, f"migrate-storage {command} --app app 2") == runs
    assert complete(project, "migrate-storage control --app app ") == [*CONTROL_ACTIONS, *runs]
    assert complete(project, f"migrate-storage control --app app {runs[0]} ") == list(CONTROL_ACTIONS)
