"""Alembic's own commands on a database with a journal: what they would drop, and what the lines for ``env.py`` keep."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrate_storage.journal.schema import PREFIX, Tables
from tests.support import ROOT
from tests.support.cli.project import APPLICATION, Project, one_line_of

PAGE = (ROOT / "docs" / "alembic.md").read_text()
IMPORT, CALL, COMBINED = re.findall(r"^```python\n(.*?)```$", PAGE, re.MULTILINE | re.DOTALL)
[ARGUMENT] = re.findall(r"^ +include_object=.*\n", CALL, re.MULTILINE)
OURS = {table.name for table in Tables().metadata.sorted_tables}
CONFIGURATION = """
    from advanced_alchemy.config import AlembicSyncConfig, SQLAlchemySyncConfig
    from app import Base, database as application

    database = SQLAlchemySyncConfig(
        connection_string=application.connection_string,
        metadata=Base.metadata,
        alembic_config=AlembicSyncConfig(script_location="migrations", version_table_name="ddl_version"),
    )
"""
BEFORE = ("--from", "old", "--to", "new", "--app", "app")


class Migrations:
    """The migrations of the application in a project, made with one of the two tools."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.env = project.directory / "migrations" / "env.py"

    def call(self, *arguments: str) -> str:
        ended = self.project.python("-m", *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def start(self) -> None:
        """Make the folder and an ``env.py`` that knows the models."""
        raise NotImplementedError

    def revise(self, message: str) -> str:
        """Autogenerate a revision of a model that has one more column; return the revision."""
        known = set(self.env.parent.glob("versions/*.py"))
        model = self.project.directory / "app.py"
        column = f"    column{len(known)} = mapped_column(sa.Integer, nullable=True)\n"
        model.write_text(model.read_text().replace("    title =", f"{column}    title ="))
        self.make(message)
        [new] = set(self.env.parent.glob("versions/*.py")) - known
        return new.read_text()

    def make(self, message: str) -> None:
        raise NotImplementedError

    def upgrade(self) -> None:
        raise NotImplementedError

    def add_lines(self, lines: str = IMPORT) -> None:
        """Edit ``env.py`` as the page says."""
        text = self.env.read_text()
        assert text.count("context.configure(\n") == 2, text
        text = text.replace("context.configure(\n", f"context.configure(\n{ARGUMENT}")
        first = re.search(r"^from alembic import context\n", text, re.MULTILINE)
        assert first is not None
        self.env.write_text(text[: first.end()] + lines + text[first.end() :])


class AdvancedAlchemy(Migrations):
    """``alchemy make-migrations`` and ``alchemy upgrade``."""

    def start(self) -> None:
        self.project.write(CONFIGURATION, "settings.py")
        self._alchemy("init", "migrations", "--no-prompt")

    def make(self, message: str) -> None:
        self._alchemy("make-migrations", "--no-prompt", "-m", message)

    def upgrade(self) -> None:
        self._alchemy("upgrade", "--no-prompt", "head")

    def _alchemy(self, *arguments: str) -> None:
        self.call("advanced_alchemy", "--config", "settings.database", *arguments)


class Alembic(Migrations):
    """``alembic revision --autogenerate`` and ``alembic upgrade``."""

    def start(self) -> None:
        self.call("alembic", "init", "migrations")
        text = self.env.read_text()
        text = text.replace("target_metadata = None", "from app import Base, database\ntarget_metadata = Base.metadata")
        text = text.replace(
            "config = context.config\n",
            "config = context.config\nfrom app import database\n"
            "url = database.get_engine().url.render_as_string(hide_password=False)\n"
            "config.set_main_option('sqlalchemy.url', url.replace('%', '%%'))\n",
        )
        self.env.write_text(text)
        template = self.env.parent / "script.py.mako"
        names = "import sqlalchemy as sa\nimport advanced_alchemy.types.file_object.data_type\n"
        template.write_text(template.read_text().replace("import sqlalchemy as sa\n", names))

    def make(self, message: str) -> None:
        self.call("alembic", "revision", "--autogenerate", "-m", message)

    def upgrade(self) -> None:
        self.call("alembic", "upgrade", "head")


@pytest.fixture
def migrations(request: pytest.FixtureRequest, empty: Project) -> Migrations:
    """An application whose table Alembic made, with ten documents."""
    tool, database = request.param
    empty.environment["APP_DATABASE"] = request.getfixturevalue(f"{database}_url")
    empty.write(APPLICATION)
    made: Migrations = tool(empty)
    made.start()
    assert "create_table" in made.revise("first")
    made.upgrade()
    empty.fill(10)
    return made


def with_tools(*pairs: tuple[type[Migrations], str]) -> pytest.MarkDecorator:
    """Run a test with some tools, each on a database."""
    return pytest.mark.parametrize(
        "migrations", pairs, indirect=True, ids=[f"{tool.__name__}-{database}" for tool, database in pairs]
    )


def keys(url: str) -> list[str]:
    with sa.create_engine(url).connect() as connection:
        values = connection.exec_driver_sql("SELECT CAST(file AS CHAR(4000)) FROM document").scalars().all()
    return sorted({"new" if '"new"' in value else "old" for value in values})


def our_tables(url: str, schema: str | None = None) -> set[str]:
    return {name for name in sa.inspect(sa.create_engine(url)).get_table_names(schema) if name.startswith(PREFIX)}


@with_tools(
    (AdvancedAlchemy, "sqlite"), (AdvancedAlchemy, "postgres"), (AdvancedAlchemy, "mariadb"), (Alembic, "postgres")
)
def test_with_the_lines_nothing_is_dropped_and_a_run_is_reverted(migrations: Migrations) -> None:
    project, database_url = migrations.project, migrations.project.environment["APP_DATABASE"]
    ended = project("run", *BEFORE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "include_object=include_object" in ended.stdout
    migrations.add_lines()
    assert PREFIX not in migrations.revise("second")
    migrations.upgrade()
    assert our_tables(database_url) == OURS
    assert keys(database_url) == ["new"]
    # The second run prints the lines no more.
    assert "include_object" not in project("run", *BEFORE).stdout
    ended = project("revert", "--app", "app")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert keys(database_url) == ["old"]


@with_tools((AdvancedAlchemy, "postgres"), (Alembic, "mariadb"), (Alembic, "sqlite"))
def test_without_the_lines_every_table_is_dropped(migrations: Migrations) -> None:
    """The fault that the lines prevent."""
    project, database_url = migrations.project, migrations.project.environment["APP_DATABASE"]
    assert project("run", *BEFORE).returncode == 0
    text = migrations.revise("second")
    assert set(re.findall(rf"drop_table\('({PREFIX}\w+)'", text)) == OURS
    migrations.upgrade()
    assert our_tables(database_url) == set()
    assert "no run" in one_line_of(project("revert", "--app", "app"))


@with_tools((Alembic, "sqlite"))
def test_an_own_function_and_ours(migrations: Migrations) -> None:
    """The page shows how both are called."""
    database_url = migrations.project.environment["APP_DATABASE"]
    with sa.create_engine(database_url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE spatial_ref_sys (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE forgotten (id INTEGER PRIMARY KEY)")
    assert migrations.project("journal", "create", "--app", "app").returncode == 0
    migrations.add_lines(COMBINED)
    text = migrations.revise("second")
    assert PREFIX not in text
    assert "spatial_ref_sys" not in text
    assert "forgotten" in text


@pytest.mark.parametrize("included", [False, True], ids=["default schema", "include_schemas"])
def test_a_schema_of_its_own(empty: Project, postgres_url: str, included: bool) -> None:
    """Autogenerate does not look there unless it is told to; then the lines keep it away."""
    empty.environment["APP_DATABASE"] = postgres_url
    empty.write(APPLICATION)
    migrations = Alembic(empty)
    migrations.start()
    migrations.revise("first")
    migrations.upgrade()
    empty.fill(3)
    assert empty("init", "--app", "app", "--from", "old", "--to", "new").returncode == 0
    ended = empty("run")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert our_tables(postgres_url) == set()
    assert our_tables(postgres_url, "migrate_storage") == OURS
    if included:
        text = migrations.env.read_text()
        migrations.env.write_text(
            text.replace("context.configure(\n", "context.configure(\n        include_schemas=True,\n")
        )
        assert PREFIX in migrations.revise("would drop")
        [*_, last] = sorted((empty.directory / "migrations" / "versions").glob("*would_drop.py"))
        last.unlink()
        migrations.add_lines()
    assert PREFIX not in migrations.revise("second")
    migrations.upgrade()
    ended = empty("revert")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert keys(postgres_url) == ["old"]


def _doctor(project: Project) -> str:
    return project("doctor", *BEFORE).stdout


def _create(project: Project) -> str:
    return project("journal", "create", "--app", "app").stdout


@pytest.mark.parametrize("command", [_doctor, _create])
@pytest.mark.parametrize("table", ["alembic_version", "ddl_version"])
def test_the_lines_are_printed_where_alembic_migrates_the_database(
    project: Project, command: Callable[[Project], str], table: str
) -> None:
    assert "include_object" not in command(project)
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.exec_driver_sql("CREATE TABLE releases (id INTEGER PRIMARY KEY, version_num TEXT)")
    assert "include_object" not in command(project)
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    printed = command(project)
    assert f"warning: {table}: Alembic migrates this database" in printed
    assert IMPORT.strip() in printed
    assert ARGUMENT.strip() in printed


def test_alembic_in_another_database_is_no_matter(project: Project, tmp_path: Path) -> None:
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    assert "include_object" not in project("run", *BEFORE, "--journal", f"sqlite:///{tmp_path}/journal.db").stdout
