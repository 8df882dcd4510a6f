"""The front doors, with applications written to disk and imported as a user's would be."""

from __future__ import annotations

import gc
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from advanced_alchemy.types.file_object import storages
from sqlalchemy.ext.asyncio import AsyncEngine

from migrate_storage.application.application import from_database, load_application
from migrate_storage.application.columns import inspected_columns, select_columns
from migrate_storage.core.errors import ApplicationError, ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database.urls import engine_from_url
from tests.support import ROOT
from tests.support.processes.forked import run_forked

MODELS = """
    import sqlalchemy as sa
    from advanced_alchemy.types.file_object import storages, StoredObject
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    storages.register_backend(FSSpecBackend(key="old", fs="memory"))

    class Base(DeclarativeBase):
        pass

    class Report(Base):
        __tablename__ = TABLE
        tenant = mapped_column(sa.Integer, primary_key=True)
        number = mapped_column("no", sa.Integer, primary_key=True)
        scan = mapped_column("scan_file", StoredObject(backend="old"))
        pages = mapped_column(StoredObject(backend="old", multiple=True))
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module that importing finds, and return its name; what it registers is taken back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    backends = {key: storages.get_backend(key) for key in storages.registered_backends()}
    table = f"report_{uuid.uuid4().hex}"

    def do(source: str, models: str = MODELS) -> str:
        name = f"app_{uuid.uuid4().hex}"
        head = textwrap.dedent(models).replace("TABLE", repr(table))
        (tmp_path / f"{name}.py").write_text(f"{head}\n{textwrap.dedent(source)}\n")
        return name

    do.columns = [f"{table}.pages", f"{table}.scan_file"]  # type: ignore[attr-defined]
    yield do
    for name in set(sys.modules) - before:
        if name.startswith("app_"):
            del sys.modules[name]
    storages.clear_backends()
    for backend in backends.values():
        storages.register_backend(backend)


SYNC = "SQLAlchemySyncConfig(connection_string='sqlite:///own.db')"
ASYNC = "SQLAlchemyAsyncConfig(connection_string='sqlite+aiosqlite:///own.db')"
LITESTAR = f"""
    from litestar import Litestar
    from advanced_alchemy.extensions.litestar import SQLAlchemyPlugin, SQLAlchemyAsyncConfig
    def create_app():
        return Litestar(plugins=[SQLAlchemyPlugin(config={ASYNC})])
    site = create_app()
"""
FASTAPI = f"""
    from fastapi import FastAPI
    from advanced_alchemy.extensions.fastapi import AdvancedAlchemy, SQLAlchemyAsyncConfig, SQLAlchemySyncConfig
    def create_app():
        made = FastAPI()
        AdvancedAlchemy(config={SYNC}, app=made)
        return made
    site = create_app()
"""
FLASK = f"""
    from flask import Flask
    from advanced_alchemy.extensions.flask import AdvancedAlchemy, SQLAlchemySyncConfig
    def create_app():
        made = Flask("site")
        AdvancedAlchemy(config={SYNC}, app=made)
        return made
    site = create_app()
"""
SANIC = f"""
    from sanic import Sanic
    from advanced_alchemy.extensions.sanic import AdvancedAlchemy, SQLAlchemySyncConfig
    def create_app():
        made = Sanic(f"site_{{len(Sanic._app_registry)}}")
        create_app.extension = AdvancedAlchemy(sqlalchemy_config={SYNC}, sanic_app=made)
        return made
    site = create_app()
    extension = create_app.extension
"""
PLAIN_CONFIG = f"""
    from advanced_alchemy.config import SQLAlchemySyncConfig, SQLAlchemyAsyncConfig
    config = {SYNC}
    configs = [config]
    def make(): return config
    async def make_async(): return config
"""
PLAIN = """
    from sqlalchemy.orm import sessionmaker, scoped_session
    engine = sa.create_engine("sqlite:///own.db")
    Session = sessionmaker(engine)
    Scoped = scoped_session(Session)
"""


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param(LITESTAR, ["", ":site", ":create_app"], id="litestar"),
        pytest.param(FASTAPI, ["", ":site", ":create_app"], id="fastapi"),
        pytest.param(FLASK, ["", ":site", ":create_app"], id="flask"),
        pytest.param(SANIC, ["", ":site", ":create_app", ":extension"], id="sanic"),
        pytest.param(PLAIN_CONFIG, ["", ":config", ":configs", ":make", ":make_async"], id="advanced-alchemy"),
        pytest.param(PLAIN, ["", ":engine", ":Session", ":Scoped", ":Report"], id="plain"),
    ],
)
def test_each_kind_of_application_gives_its_engine_columns_and_backends(
    write: Write, source: str, names: list[str]
) -> None:
    for name in names:
        found = load_application(write(source) + name, columns=write.columns)
        assert found.engine.url.database == "own.db", name
        assert isinstance(found.engine, AsyncEngine) is (source is LITESTAR)
        pages, scan = found.columns
        assert (scan.column, scan.key, scan.backend, scan.multiple) == ("scan_file", ("tenant", "no"), "old", False)
        assert (pages.column, pages.multiple) == ("pages", True)
        assert found.backends["old"].protocol == "memory"


def test_models_are_found_where_somebody_froze_what_is_loaded(write: Write) -> None:
    """As servers do before they fork, and as a command does for the length of a job."""
    name = write("engine = sa.create_engine('sqlite:///app.db')\nimport gc\ngc.freeze()")
    try:
        found = load_application(f"{name}:engine", columns=write.columns)  # type: ignore[attr-defined]
        assert [column.column for column in found.columns] == ["pages", "scan_file"]
        assert gc.get_freeze_count() > 0, "it stays as the application wants it"
    finally:
        gc.unfreeze()


def test_a_database_url_stands_in_for_the_applications_engine(write: Write) -> None:
    name = write("")
    assert load_application(name, database="sqlite:///other.db").engine.url.database == "other.db"
    with pytest.raises(ApplicationError, match=r"no engine found.*--database"):
        load_application(name)


def test_of_several_databases_the_bind_key_picks_one(write: Write) -> None:
    name = write("""
        from advanced_alchemy.config import SQLAlchemySyncConfig
        first = SQLAlchemySyncConfig(connection_string="sqlite:///first.db")
        second = SQLAlchemySyncConfig(connection_string="sqlite:///second.db", bind_key="archive", metadata=Base.metadata)
        same = first
    """)
    with pytest.raises(ApplicationError, match=r"has 2 databases \(archive, first\): name one with --bind-key"):
        load_application(name)
    with pytest.raises(ApplicationError, match=r"--bind-key nowhere: .* has only archive, first"):
        load_application(name, bind_key="nowhere")
    found = load_application(name, bind_key="archive")
    assert found.engine.url.database == "second.db"
    assert [str(column) for column in found.columns] == write.columns, "only the tables of that database"


def test_a_sync_and_an_async_engine_of_one_database_are_one_and_the_sync_one_is_taken(write: Write) -> None:
    found = load_application(
        write("""
        from sqlalchemy.ext.asyncio import create_async_engine
        first = create_async_engine("sqlite+aiosqlite:///own.db")
        second = sa.create_engine("sqlite:///own.db")
        """)
    )
    assert isinstance(found.engine, sa.Engine)


def test_a_backend_that_only_a_column_holds_is_found(write: Write) -> None:
    found = load_application(
        write("""
        engine = sa.create_engine("sqlite://")
        class Held(Base):
            __tablename__ = TABLE_TWO = "held_" + __name__
            id = mapped_column(sa.Integer, primary_key=True)
            file = mapped_column(StoredObject(backend=FSSpecBackend(key="held", fs="memory")))
        """)
    )
    assert found.backends["held"].key == "held"
    assert "held" not in storages.registered_backends()


def test_the_lifespan_is_entered_and_held_until_close(write: Write) -> None:
    name = write("""
        import contextlib
        from litestar import Litestar
        engine = sa.create_engine("sqlite://")
        told = []
        @contextlib.asynccontextmanager
        async def open_stores(_):
            storages.register_backend(FSSpecBackend(key="late", fs="memory"))
            told.append("up")
            yield
            told.append("down")
        app = Litestar(lifespan=[open_stores])
    """)
    assert "late" not in load_application(name).backends
    found = load_application(name, lifespan=True)
    told = sys.modules[name].told
    assert "late" in found.backends
    assert told == ["up"]
    found.close()
    assert told == ["up", "down"]
    found.close()


def test_a_lifespan_that_fails_is_one_line(write: Write) -> None:
    name = write("""
        import contextlib
        from fastapi import FastAPI
        engine = sa.create_engine("sqlite://")
        @contextlib.asynccontextmanager
        async def broken(_):
            raise RuntimeError("no vault at redis://me:hunter2@host")
            yield
        app = FastAPI(lifespan=broken)
    """)
    with pytest.raises(ApplicationError, match="--lifespan: the application's start-up failed: ") as caught:
        load_application(name, lifespan=True)
    assert one_clear_line(caught.value)
    with pytest.raises(ApplicationError, match="--lifespan needs an ASGI application"):
        load_application(write("engine = sa.create_engine('sqlite://')"), lifespan=True)


def one_clear_line(error: Exception) -> bool:
    text = str(error)
    return "\n" not in text and "hunter2" not in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("source", "spec", "message"),
    [
        ("", "no_such_module_here", "there is no module 'no_such_module_here' in "),
        ("", "no_such.module:app", "there is no module 'no_such' in "),
        ("", "{}:nothing", "has no 'nothing'"),
        ("", "a b", "write it as module or module:name"),
        ("import no_such_library", "{}", "importing it needs 'no_such_library', which is not installed here"),
        ("raise ValueError('bad\\x1b[2J\\nsecond')", "{}", r"importing it raised ValueError: bad\\x1b\[2J \(\S+, line \d+\)$"),
        ("raise ValueError('postgresql://me:hunter2@host/db')", "{}", r"importing it raised ValueError: .*me:\*\*\*@"),
        ("raise KeyError('S3_KEY')", "{}", "importing it raised KeyError: 'S3_KEY'"),
        ("raise SystemExit(3)", "{}", "importing it raised SystemExit: 3"),
        ("def (", "{}", "importing it raised SyntaxError"),
        ("def make(): raise OSError('no disk, password=hunter2')", "{}:make", r"calling it raised OSError: no disk, password=\*\*\*"),
        ("def make(needed): ...", "{}:make", "calling it raised TypeError"),
        (
            "import advanced_alchemy.config as aa; c = aa.SQLAlchemySyncConfig(connection_string='nonsense://u:hunter2@h/d')",
            "{}",
            "'nonsense' is not supported",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_one_clear_line(write: Write, source: str, spec: str, message: str) -> None:
    name = write(source, models="import sqlalchemy as sa")
    with pytest.raises(ApplicationError, match=message) as caught:
        load_application(spec.format(name))
    assert one_clear_line(caught.value)


def test_a_column_without_primary_key_is_refused_by_name_unless_left_out(write: Write) -> None:
    name = write("""
        engine = sa.create_engine("sqlite://")
        bare = sa.Table("bare_" + __name__, Base.metadata, sa.Column("file", StoredObject(backend="old")))
    """)
    with pytest.raises(ApplicationError, match=rf"bare_{name}\.file: the table has no primary key"):
        load_application(name, columns=[f"bare_{name}.file"])
    assert len(load_application(name, columns=write.columns).columns) == 2
    # Other applications of this process would find it too.
    metadata = sys.modules[name].Base.metadata
    metadata.remove(metadata.tables[f"bare_{name}"])


def test_an_unknown_column_is_refused_with_those_there_are(write: Write) -> None:
    name = write("engine = sa.create_engine('sqlite://')")
    with pytest.raises(
        ConfigurationError, match=r"column 'report\.scam': .* no table 'report'; models declare .*scan_file"
    ):
        load_application(name, columns=["report.scam"])


def test_an_application_without_stored_objects_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("import sqlalchemy as sa\nengine = sa.create_engine('sqlite://')\n")
    program = "from migrate_storage.application.application import load_application; load_application('empty')"
    # In a process of its own: this one has the models of other tests.
    ended = run_forked(["-c", program], {"PYTHONPATH": str(ROOT)}, tmp_path)
    assert "ApplicationError: --app empty: no StoredObject column is in any model" in ended.stderr


@pytest.fixture
def reflected(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/there.db"
    with sa.create_engine(url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE doc (b INTEGER, a INTEGER, file TEXT, PRIMARY KEY (a, b))")
        connection.exec_driver_sql("CREATE TABLE loose (file TEXT)")
    return url


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_the_database_door_finds_keys_by_inspection(reflected: str, driver: str) -> None:
    url = reflected.replace("sqlite", driver, 1)
    (column,) = from_database(url, ["doc.file", "doc.file"], {}).columns
    assert (column.table, column.column, column.key, column.nested) == ("doc", "file", ("a", "b"), True)


def test_the_database_door_finds_tables_of_a_schema(postgres_url: str) -> None:
    with sa.create_engine(postgres_url).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA archive")
        connection.exec_driver_sql('CREATE TABLE archive.doc ("Id" uuid PRIMARY KEY, file jsonb)')
    asyncpg = postgres_url.replace("+psycopg", "+asyncpg")
    for url in (postgres_url, asyncpg):
        (column,) = from_database(url, ["archive.doc.file"], {}).columns
        assert (str(column), column.key) == ("archive.doc.file", ("Id",))
    with pytest.raises(ConfigurationError, match="the database has no table 'doc'"):
        from_database(postgres_url, ["doc.file"], {})


def test_the_database_door_finds_keys_in_mariadb(mariadb_url: str) -> None:
    with sa.create_engine(mariadb_url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE doc (name varchar(50), no int, file json, PRIMARY KEY (name, no))")
    (column,) = from_database(mariadb_url, ["doc.file"], {}).columns
    assert (str(column), column.key) == ("doc.file", ("name", "no"))


SPELLINGS = {
    "sqlite": ("main.doc.file", "doc.FILE", "Doc.file", "MAIN.doc.file"),
    "postgresql": ("public.doc.file", "DOC.File"),
    "mysql": ("{database}.doc.file", "doc.File"),
}


def test_a_column_has_one_identity_however_it_is_named(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE doc (id INTEGER PRIMARY KEY, file TEXT)")
    known = Column(table="doc", column="file", key=("id",), backend="old")
    for template in SPELLINGS[engine.dialect.name]:
        name = template.format(database=engine.url.database)
        assert inspected_columns(engine, [name], there=[known]) == {name: known}
        assert len(from_database(database_url, [name, "doc.file"], {}).columns) == 1
    application = from_database(database_url, [name], {})
    assert application.select([name]) == application.columns
    engine.dispose()


def test_a_name_may_have_dots_and_differ_in_case_from_another(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        for table in ("doc", '"Doc"', '"a.b"', '"A.B"."c.d"'):
            connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS "A.B"')
            connection.exec_driver_sql(f'CREATE TABLE {table} (id INTEGER PRIMARY KEY, "e.f" TEXT)')
    names = ("doc.e.f", "Doc.e.f", "a.b.e.f", "A.B.c.d.e.f")
    found = [(each.schema, each.table) for each in inspected_columns(engine, names).values()]
    assert found == [(None, "doc"), (None, "Doc"), (None, "a.b"), ("A.B", "c.d")]
    with pytest.raises(ConfigurationError, match="the database has no table 'DOC.e'"):
        inspected_columns(engine, ["DOC.e.f"])
    engine.dispose()


def test_a_bare_name_means_no_table_of_several_schemas() -> None:
    here, one, two = (Column(table="doc", column="file", schema=schema, key=("id",)) for schema in (None, "a", "b"))
    assert select_columns([here, one, two], ["doc.file"]) == (here,)
    assert select_columns([one], ["doc.file"]) == (one,)
    with pytest.raises(
        ConfigurationError, match=r"no StoredObject column doc\.file; there is a\.doc\.file, b\.doc\.file"
    ):
        select_columns([one, two], ["doc.file"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.file", "the database has no table 'nowhere'"),
        ("doc.nothing", "has no such column; it has b, a, file"),
        ("loose.file", "the table has no primary key"),
        ("file", r"write it as table\.column"),
    ],
)
def test_the_database_door_refuses_by_name(reflected: str, name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_database(reflected, [name], {})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "sqlite:////no/such/folder/x.db",
            "cannot reach the database sqlite:////no/such/folder/x.db: OperationalError: unable",
        ),
        ("postgresql+psycopg://me:hunter2@127.0.0.1:9/db", r"cannot reach the database .*me:\*\*\*@.*check the URL"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:9/db", r"cannot reach the database .*me:\*\*\*@.*check the URL"),
        ("mysql+pymysql://me:hunter2@127.0.0.1:9/db", r"cannot reach the database .*me:\*\*\*@.*check the URL"),
        ("hunter2", "the database URL cannot be parsed"),
        ("nonsense://me:hunter2@h/db", "'nonsense' is not supported"),
        ("mysql+mysqldb://me:hunter2@h/db", "the driver 'MySQLdb' is not installed"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_clear_line(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        from_database(url, ["doc.file"], {})
    assert one_clear_line(caught.value)


def test_an_engine_is_async_where_its_driver_is() -> None:
    assert isinstance(engine_from_url("sqlite+aiosqlite://"), AsyncEngine)
    assert isinstance(engine_from_url("sqlite://"), sa.Engine)
