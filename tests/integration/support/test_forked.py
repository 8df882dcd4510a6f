"""A process that is forked for a command has imported what the command needs."""

from __future__ import annotations

import pytest

from tests.support.cli.project import Project

LIBRARIES = ("advanced_alchemy", "fsspec", "litestar", "migrate_storage", "obstore", "rich", "sqlalchemy")
PROGRAM = """
import atexit, sys
from migrate_storage.__main__ import main
before = set(sys.modules)

def tell():
    imported = {name.partition(".")[0] for name in set(sys.modules) - before}
    print("IMPORTED", *sorted(imported & {"app", LIBRARIES}), file=sys.stderr)

atexit.register(tell)
sys.exit(main(sys.argv[1:]))
""".replace("LIBRARIES", ", ".join(map(repr, LIBRARIES)))  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "--app", "app"),
        ("run", "--app", "app", "--from", "old", "--to", "new", "--settle-time", "0"),
        ("status", "--app", "app"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_imports_nothing_but_the_application(project: Project, arguments: tuple[str, ...]) -> None:
    """An import that a command makes late takes more than a second of CPU time in each process, and no other test would fail."""
    ended = project.python("-c", PROGRAM, *arguments)
    assert ended.stderr.splitlines()[-1].split() == ["IMPORTED", "app"], ended.stderr
