"""What is not loaded until it is needed: help and completion answer at once, however much a command needs later."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli.commands import LEAVES
from tests.support.cli.project import ROOT

HEAVY = (
    "advanced_alchemy", "adlfs", "boto3", "botocore", "fsspec", "gcsfs", "libcst", "litestar", "obstore", "rich", "s3fs", "sqlalchemy",
    "sqlalchemy.orm",
)  # fmt: skip
PROBE = f"""
import atexit, sys
from migrate_storage.__main__ import main
atexit.register(lambda: print("LOADED", *sorted({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr))
sys.argv[0] = "migrate-storage"
sys.exit(main())
"""


def answer(*arguments: str, **environment: str) -> tuple[str, list[str]]:
    """What the command says, and which of the heavy libraries it loaded for that."""
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    loaded = next(line for line in ended.stderr.splitlines() if line.startswith("LOADED"))
    return ended.stdout, loaded.split()[1:]


def test_help_loads_no_library_that_only_a_run_needs() -> None:
    said, loaded = answer("--help")
    assert "Move the files, verify each" in said
    assert loaded == []


def test_the_help_of_every_command_loads_none_either() -> None:
    script = (
        "import sys\nfrom migrate_storage.__main__ import main\n"
        f"for name in {[name.split()[1:] for name in LEAVES]!r}:\n"
        "    assert main([*name, '--help']) == 0, name\n"
        f"print('LOADED', *sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.count("Usage:") == len(LEAVES)
    assert ended.stdout.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize(
    ("typed", "offered"), [("migrate-storage re", {"plain,report", "plain,revert"}), ("migrate-storage run --dry", {"plain,--dry-run"})]
)  # fmt: skip
def test_completion_loads_none(typed: str, offered: set[str]) -> None:
    said, loaded = answer(
        _MIGRATE_STORAGE_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(typed.split()) - 1)
    )
    assert set(said.split()) == offered
    assert loaded == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_of_the_manual_gets_its_script(shell: str) -> None:
    page = (ROOT / "docs" / "integration.md").read_text()
    assert f"{shell}_source" in page
    said, loaded = answer(_MIGRATE_STORAGE_COMPLETE=f"{shell}_source")
    assert f"_MIGRATE_STORAGE_COMPLETE={shell}_complete" in said
    assert loaded == []


def test_bash_completes_what_is_typed(tmp_path: Path) -> None:
    """The line of the manual, in a bash of its own."""
    [line] = re.findall(r"^eval .*bash_source.*$", (ROOT / "docs" / "integration.md").read_text(), re.MULTILINE)
    script = f'{line}\nCOMP_WORDS=(migrate-storage cutover r) COMP_CWORD=2\n_migrate_storage_completion migrate-storage r cutover\necho "${{COMPREPLY[@]}}"'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout.split() == ["repair", "rollback"], ended.stderr


@pytest.mark.parametrize("command", ["runs", "report", "status"])
def test_what_reads_the_journal_of_a_database_loads_no_store(command: str, tmp_path: Path) -> None:
    _, loaded = answer(command, "--database", f"sqlite:///{tmp_path}/x.db")
    assert "sqlalchemy" in loaded
    kept_out = {
        "advanced_alchemy", "boto3", "botocore", "fsspec", "libcst", "litestar", "obstore", "s3fs", "sqlalchemy.orm",
    }  # fmt: skip
    assert not kept_out & set(loaded)
