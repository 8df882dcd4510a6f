"""`init` writes a configuration that works, and no secret."""

from __future__ import annotations

import tomllib

from tests.support.cli.project import Project, one_line_of


def test_what_is_said_is_filled_in_and_the_file_works(project: Project) -> None:
    ended = project("init", "--app", "app", "--from", "old", "--to", "new")
    assert ended.returncode == 0, ended.stderr
    text = (project.directory / "migrate-storage.toml").read_text()
    assert tomllib.loads(text) == {"app": "app", "from": "old", "to": "new"}
    assert project("plan").stdout.startswith("A plan, nothing was changed: 10 objects")


def test_every_line_that_is_commented_out_is_right_once_it_is_not(project: Project) -> None:
    assert project("init").returncode == 0
    path = project.directory / "migrate-storage.toml"
    lines = path.read_text().splitlines()
    bare = [line.removeprefix("# ") if "=" in line or line.startswith("# [") else line for line in lines]
    said = tomllib.loads(
        "\n".join(line for line in bare if not line.startswith("# ") and "MIGRATE_STORAGE_" not in line)
    )
    assert {"app", "database", "from", "to", "columns", "source", "destination"} <= said.keys()


def test_a_file_that_is_there_is_kept_unless_forced(project: Project) -> None:
    project.write("# mine\n", "migrate-storage.toml")
    assert "is there already: edit it, or replace it with --force" in one_line_of(project("init"))
    assert (project.directory / "migrate-storage.toml").read_text() == "# mine\n"
    assert project("init", "--force").returncode == 0
    assert (project.directory / "migrate-storage.toml").read_text() != "# mine\n"


def test_a_password_becomes_a_reference(project: Project) -> None:
    project("init", "--database", "postgresql+psycopg://me:hunter2@host/db")
    text = (project.directory / "migrate-storage.toml").read_text()
    assert "hunter2" not in text
    assert tomllib.loads(text)["database"] == "postgresql+psycopg://me:${DB_PASSWORD}@host/db"


def test_quotes_in_what_is_said_stay_text(project: Project) -> None:
    nasty = 'a"]\n[evil]\\'
    project("init", "--from", nasty)
    assert tomllib.loads((project.directory / "migrate-storage.toml").read_text()) == {"from": nasty}


def test_the_next_command_names_a_file_that_was_named(project: Project) -> None:
    project.write('app = "app"\n', "mine.toml")
    assert project("inspect", "--config", "mine.toml").stdout.endswith("translate --config mine.toml\n")


def test_a_schema_for_the_journal_is_proposed_in_postgresql_unless_it_has_a_journal(
    project: Project, postgres_url: str
) -> None:
    for url, expected in ((None, None), (postgres_url, "migrate_storage")):
        project.environment.update({"APP_DATABASE": url} if url else {})
        assert project("init", "--app", "app", "--force").returncode == 0
        written = tomllib.loads((project.directory / "migrate-storage.toml").read_text())
        assert written.get("journal-schema") == expected
    (project.directory / "migrate-storage.toml").unlink()
    assert project("journal", "create", "--app", "app").returncode == 0
    assert project("init", "--app", "app").returncode == 0
    assert "journal-schema" not in tomllib.loads((project.directory / "migrate-storage.toml").read_text())


def test_an_application_that_does_not_work_yet_gets_its_file(project: Project) -> None:
    project.write("raise RuntimeError('later')\n", "broken.py")
    ended = project("init", "--app", "broken")
    assert ended.returncode == 0, ended.stderr
    assert tomllib.loads((project.directory / "migrate-storage.toml").read_text()) == {"app": "broken"}
