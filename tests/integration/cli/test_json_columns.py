"""A column that no model declares is named on the command line or in the configuration, beside an imported application."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.cli.project import Project

RUN = ("run", "--from", "old", "--to", "new", "--settle-time", "0")


@pytest.fixture
def shop(project: Project) -> Project:
    """A project with documents, whose settings have a gallery that no model declares."""
    with closing(sa.create_engine(url(project)).raw_connection()) as connection:
        connection.execute("CREATE TABLE settings (owner TEXT PRIMARY KEY, data TEXT)")
        connection.execute("CREATE TABLE bare (data TEXT)")
        connection.execute("CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)")
        for number in range(4):
            (project.directory / f"old/g{number}.txt").write_text(f"picture {number}")
            gallery = [{"backend": "old", "filename": f"g{number}.txt", "content_type": "text/plain"}]
            document = json.dumps({"theme": "dark", "gallery": gallery})
            connection.execute("INSERT INTO settings VALUES (?, ?)", (f"o{number}", document))
        connection.commit()
    return project


def url(project: Project) -> str:
    return f"sqlite:///{project.directory}/app.db"


def settings(project: Project) -> list[Any]:
    with sa.create_engine(url(project)).connect() as connection:
        return [json.loads(data) for (data,) in connection.exec_driver_sql("SELECT data FROM settings ORDER BY owner")]


def backends(project: Project) -> list[str]:
    return [file["backend"] for document in settings(project) for file in document["gallery"]]


def configure(project: Project, text: str) -> None:
    project.write(f'app = "app"\n{text}', "migrate-storage.toml")


def test_columns_names_it_and_nothing_else_is_moved(shop: Project) -> None:
    configure(shop, 'columns = ["settings.data"]')
    ended = shop(*RUN)
    assert ended.returncode in (0, 1), ended.stderr  # rows of the models still name the key
    assert backends(shop) == ["new"] * 4
    assert {document["theme"] for document in settings(shop)} == {"dark"}
    assert shop.keys() == {"old": 10}


def test_the_configuration_adds_it_to_the_columns_of_the_models(shop: Project) -> None:
    configure(shop, 'json-columns = ["settings.data"]')
    planned = shop("plan", *RUN[1:])
    assert planned.returncode == 0, planned.stderr
    assert "14 objects" in planned.stdout
    inspected = shop("inspect")
    assert "4 files in settings.data" in inspected.stdout
    ended = shop(*RUN)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert (backends(shop), shop.keys()) == (["new"] * 4, {"new": 10})
    for command in (("verify",), ("doctor", "--from", "old", "--to", "new"), ("status",)):
        done = shop(*command)
        assert done.returncode == 0, done.stderr + done.stdout
    story = shop("explain", "settings.data", "o2")
    assert ".gallery[0] names new:g2.txt" in story.stdout
    assert shop("revert", "--settle-time", "0").returncode == 0
    assert (backends(shop), shop.keys()) == (["old"] * 4, {"old": 10})
    assert shop(*RUN).returncode == 0
    ready = shop("status", "--ready-to-unregister", "--soak", "0s")
    assert ready.returncode == 0, ready.stdout
    assert "no row of 2 columns names it" in ready.stdout
    orphans = shop("orphans", "--key", "new", "--min-age", "0s")
    assert orphans.returncode == 0, orphans.stdout
    purged = shop("purge", "--older-than", "0s", "--yes")
    assert purged.returncode == 0, purged.stdout + purged.stderr
    assert not list((shop.directory / "old").rglob("*.txt"))
    assert all((shop.directory / f"new/g{number}.txt").read_text() == f"picture {number}" for number in range(4))


@pytest.mark.parametrize("command", ["purge", "orphans", "status", "verify"])
def test_what_a_command_is_told_of_counts(shop: Project, command: str) -> None:
    """The models' rows are moved; those of the settings are told to the command that asks what is still named."""
    assert shop(*RUN, "--app", "app").returncode in (0, 1)
    told = ("--app", "app", "--json-columns", "settings.data")
    if command == "purge":
        # A row of the settings names what a document named too.
        with sa.create_engine(url(shop)).begin() as connection:
            document = json.dumps({"again": {"backend": "old", "filename": "d/3.txt"}})
            connection.execute(sa.text("INSERT INTO settings VALUES ('again', :d)"), {"d": document})
        shop("purge", *told, "--older-than", "0s", "--yes")
        assert [path.name for path in (shop.directory / "old/d").iterdir()] == ["3.txt"]
    elif command == "orphans":
        shop("orphans", *told, "--key", "old", "--min-age", "0s", "--quarantine", ".aside", "--yes")
        assert {path.name for path in (shop.directory / "old").glob("*.txt")} == {f"g{n}.txt" for n in range(4)}
    elif command == "status":
        ended = shop("status", *told, "--ready-to-unregister", "--soak", "0s")
        assert ended.returncode == 1
        assert "4 rows still name it" in ended.stdout
    else:
        (shop.directory / "old/g1.txt").unlink()
        ended = shop("verify", *told)
        assert ended.returncode == 1
        assert "settings.data[o1].gallery[0]" in ended.stdout


def test_without_an_application_columns_are_documents_too(shop: Project) -> None:
    source = (
        f'[source]\nkey = "old"\nfs = "dir"\noptions = {{ path = "{shop.directory}/old", target_protocol = "file" }}'
    )
    destination = f'[destination]\nkey = "new"\nfs = "file://{shop.directory}/new"'
    text = f'database = "{url(shop)}"\ncolumns = ["settings.data", "document.file"]\n{source}\n{destination}'
    shop.write(text, "migrate-storage.toml")
    ended = shop("run", "--settle-time", "0")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert (backends(shop), shop.keys()) == (["new"] * 4, {"new": 10})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("settings.dta", "column 'settings.dta': the table has no such column; it has owner, data; models declare document.file"),
        ("nothing.data", "column 'nothing.data': the database has no table 'nothing'; models declare document.file"),
        ("bare.data", "column 'bare.data': the table has no primary key"),
        ("blobs.data", "column 'blobs.data': the column is of type BLOB: files are found in JSON and text only"),
        ("data", "column 'data': write it as table.column or schema.table.column"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("flag", ["--columns", "--json-columns"])
def test_a_name_that_is_none_is_one_line_and_nothing_changes(shop: Project, flag: str, name: str, says: str) -> None:
    before = shop.snapshot()
    ended = shop(*RUN, "--app", "app", flag, name)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert shop.snapshot() == before
