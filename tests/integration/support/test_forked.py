"""A process that is forked for a command has imported what the command needs, and ends as one that was started."""

from __future__ import annotations

import os
import subprocess
import sys

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


DESTRUCTOR = """
class Unclosed:
    def __del__(self):
        print("unclosed", file=sys.stderr)

import sys
kept = Unclosed()
kept.itself = kept
"""
ENDINGS = {
    "end": "print('out')",
    "code": "import sys; sys.exit(3)",
    "large code": "import sys; sys.exit(256 + 4)",
    "none": "import sys; sys.exit(None)",
    "text": "import sys; sys.exit('a reason')",
    "error": "raise ValueError('a reason')",
    "interrupt": "raise KeyboardInterrupt",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "lost output": "import os; print('out'); os.close(1)",
    "thread": "import threading, time; threading.Timer(0.1, print, ['late']).start()",
    "daemon": "import threading, time; threading.Thread(target=time.sleep, args=[60], daemon=True).start()",
    "registered": "import atexit, sys; atexit.register(print, 'at the end'); sys.exit(2)",
    "destructor": DESTRUCTOR,
    "destructor in a module": "import held",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_it_ends_as_a_process_of_its_own(empty: Project, name: str) -> None:
    empty.write(DESTRUCTOR, "held.py")
    program = ["-c", ENDINGS[name]]
    forked = empty.python(*program)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    started = subprocess.run(
        [sys.executable, *program], cwd=empty.directory, env=environment, capture_output=True, text=True
    )
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]
