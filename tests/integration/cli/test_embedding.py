"""The commands inside of an application's own command line: Litestar's, Flask's, advanced-alchemy's for FastAPI, click's, Typer's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from migrate_storage.cli import add_storage_commands, cli
from tests.support.cli.project import Project, one_line_of

CONFIG = """
    import app as models
    from migrate_storage.cli import add_storage_commands
    URL = f"sqlite+aiosqlite:///{models.HERE}/app.db"
"""
LITESTAR = (
    CONFIG
    + """
    from advanced_alchemy.extensions.litestar import SQLAlchemyAsyncConfig, SQLAlchemyPlugin
    from litestar import Litestar
    from litestar.plugins import CLIPlugin

    class StorageCommands(CLIPlugin):
        def on_cli_init(self, cli):
            cli.add_command(add_storage_commands())

    app = Litestar(plugins=[SQLAlchemyPlugin(config=SQLAlchemyAsyncConfig(connection_string=URL)), StorageCommands()])
"""
)
FLASK = (
    CONFIG
    + """
    from advanced_alchemy.extensions.flask import AdvancedAlchemy, SQLAlchemyAsyncConfig
    from flask import Flask

    app = Flask(__name__)
    AdvancedAlchemy(SQLAlchemyAsyncConfig(connection_string=URL), app)
    app.cli.add_command(add_storage_commands())
"""
)
FASTAPI = (
    CONFIG
    + """
    from advanced_alchemy.extensions.fastapi import AdvancedAlchemy, SQLAlchemyAsyncConfig
    from advanced_alchemy.extensions.fastapi.cli import register_database_commands
    from fastapi import FastAPI

    app = FastAPI()
    AdvancedAlchemy(SQLAlchemyAsyncConfig(connection_string=URL), app)

    if __name__ == "__main__":
        database = register_database_commands(app)
        database.add_command(add_storage_commands())
        database(prog_name="shop database")
"""
)
TYPER = (
    CONFIG
    + """
    import typer
    from advanced_alchemy.config import SQLAlchemyAsyncConfig

    cli = typer.Typer()

    @cli.command()
    def other(): ...

    @cli.command(
        add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def storage(context: typer.Context):
        configs = [SQLAlchemyAsyncConfig(connection_string=URL)]
        add_storage_commands()(context.args, prog_name="shop storage", obj={"configs": configs})

    if __name__ == "__main__":
        cli(prog_name="shop")
"""
)
RUN = ("run", "--from", "old", "--to", "new", "--settle-time", "0", "--limit", "2")
PROGRAMS = [
    pytest.param(LITESTAR, ["-m", "litestar", "--app", "site_:app", "storage"], "litestar storage", id="litestar"),
    pytest.param(FLASK, ["-m", "flask", "--app", "site_", "storage"], "flask storage", id="flask"),
    pytest.param(FASTAPI, ["site_.py", "storage"], "shop database storage", id="fastapi"),
    pytest.param(TYPER, ["site_.py", "storage"], "shop storage", id="typer"),
]


def typed(project: Project, *command: str) -> subprocess.CompletedProcess[str]:
    return project.python(*command)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "command", "name"), PROGRAMS)
def test_a_run_needs_no_app_and_ends_as_at_home(project: Project, source: str, command: list[str], name: str) -> None:
    project.write(source, "site_.py")
    ended = typed(project, *command, *RUN)
    assert ended.returncode == 4, ended.stderr
    assert "Stopped at the limit that you set. 8 rows still name 'old'.\n" in ended.stdout
    last = ended.stdout.splitlines()[-1]
    assert last.endswith(f"{name.split(' ', 1)[1]} run --from old --to new --limit 2 --settle-time 0"), last
    assert project.keys() == {"new": 2, "old": 8}


def test_what_is_wrong_is_one_line_and_exit_code_2(project: Project) -> None:
    project.write(FLASK, "site_.py")
    ended = typed(project, "-m", "flask", "--app", "site_", "storage", "run", "--from", "gone", "--to", "new")
    assert ended.returncode == 2
    assert one_line_of(ended).startswith("--from gone: no backend has this key: there is new (obstore), old (fsspec)")


def test_a_group_of_ones_own_takes_all_commands_but_the_demo() -> None:
    group = click.Group("files")
    assert add_storage_commands(group) is group
    assert set(group.commands) == set(cli.commands) - {"demo"}
    assert group.commands["run"] is not cli.commands["run"], "the program's own command is left as it is"
    shown = CliRunner().invoke(group, ["journal", "--help"])
    assert (shown.exit_code, "files journal" in shown.output) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["runs"], 2, "name the application"),
        (["run", "--from"], 2, "requires an argument"),
        (["journal", "prune", "--older-than", "nonsense", "--database", "sqlite://"], 2, "is no time span"),
        (["runs", "--database", "sqlite://"], 0, "No run yet"),
        (["report", "--database", "sqlite://"], 2, "no run is journaled"),
        (["convert", "nowhere.py"], 2, "nowhere.py"),
    ],
)
def test_exit_codes_are_kept(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # where a job without an application may have been at work
    ended = CliRunner().invoke(add_storage_commands(), arguments)
    assert (ended.exit_code, said in ended.output) == (code, True), ended.output
    assert ended.exception is None or isinstance(ended.exception, SystemExit)


def test_the_file_of_settings_is_named_in_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("migrate-storage.toml").write_text("nonsense = 1\n")
    ended = CliRunner().invoke(add_storage_commands(), ["runs", "--database", "sqlite://"])
    assert ended.exit_code == 2, ended.output
    assert "nonsense" in ended.output
    assert isinstance(ended.exception, SystemExit)


def test_the_frameworks_are_not_loaded_by_the_commands() -> None:
    script = "import sys; from migrate_storage.cli import add_storage_commands as add; add(); print({'sqlalchemy', 'litestar', 'flask', 'fastapi'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
