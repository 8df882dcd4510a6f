"""Standard output has the results alone, whatever the application prints there, and whenever."""

from __future__ import annotations

import json

import pytest

from tests.support.cli.project import Project

NOISY = """
    print("at import")
    import atexit
    import os
    os.write(1, b"past Python\\n")
    atexit.register(print, "at exit")
    from app import *
    class Talking(type(fsspec.filesystem("file"))):
        def _open(self, *arguments, **named):
            print("while it runs")
            return super()._open(*arguments, **named)
    storages.register_backend(FSSpecBackend(key="old", fs=Talking(auto_mkdir=True), prefix=str(HERE / "old")))
    def engine():
        print("as the engine is made")
        made = sa.create_engine(database.connection_string)
        sa.event.listen(made, "checkout", lambda *_: print("at a connection"))
        return made
"""
MOMENTS = {"at import", "past Python", "as the engine is made", "at a connection", "at exit"}


@pytest.mark.parametrize(
    ("command", "moments"),
    [
        (("run", "--from", "old", "--to", "new", "--settle-time", "0", "--workers", "1"), MOMENTS | {"while it runs"}),
        (("inspect",), MOMENTS),
    ],
)
def test_what_an_application_prints_goes_to_standard_error(
    project: Project, command: tuple[str, ...], moments: set[str]
) -> None:
    project.write(NOISY, "noisy.py")
    ended = project(*command, "--app", "noisy:engine", "--json")
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line) for line in ended.stdout.splitlines()]
    assert moments <= set(ended.stderr.splitlines())


def test_statements_for_the_database_are_alone_too(project: Project) -> None:
    project.write(NOISY, "noisy.py")
    ended = project("journal", "sql", "--app", "noisy:engine")
    assert (ended.returncode, ended.stdout.split()[:2]) == (0, ["CREATE", "TABLE"]), ended.stderr
