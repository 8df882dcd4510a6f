"""An application with several databases: each table is looked for where the application has it, and named as such."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import storages
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from migrate_storage.application.application import Application, load_application
from migrate_storage.core.errors import ApplicationError, ConfigurationError
from migrate_storage.database.connection import Database
from migrate_storage.database.dialects import refuse_product
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting.text import headline
from tests.support.engine import registrations as places


@pytest.fixture(autouse=True)
def _imported() -> Iterator[None]:
    yield
    sys.modules.pop("shop_of_a_test", None)


def module_of(names: dict[str, Any]) -> str:
    """A module with these attributes, by name."""
    module = sys.modules["shop_of_a_test"] = ModuleType("shop_of_a_test")
    vars(module).update(names)
    return module.__name__


class Shop:
    """Two databases: orders in one, and scans in the other."""

    def __init__(self, tmp_path: Path, url: str = "") -> None:
        class Base(DeclarativeBase):
            pass

        class Archive(Base):
            __abstract__ = True

        class Order(Base):
            __tablename__ = "orders"
            id: Mapped[int] = mapped_column(primary_key=True)
            file: Mapped[FileObject] = mapped_column(StoredObject(backend="old"))

        class Scan(Archive):
            __tablename__ = "scans"
            id: Mapped[int] = mapped_column(primary_key=True)
            file: Mapped[FileObject] = mapped_column(StoredObject(backend="old"))

        self.base, self.archive, self.order, self.scan = Base, Archive, Order, Scan
        self.urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("shop", "archive")]
        self.urls[0] = url or self.urls[0]
        self.shop, self.other = map(sa.create_engine, self.urls)
        self.old, self.new = places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build()
        storages.register_backend(self.old)
        storages.register_backend(self.new)
        for engine, table, name in ((self.shop, Order, "a"), (self.other, Scan, "a")):
            table.__table__.create(engine)  # type: ignore[attr-defined]
            self.old.save_object(FileObject(backend="old", filename=name), b"content")
            value = json.dumps({"backend": "old", "filename": name})
            with engine.begin() as connection:
                connection.execute(sa.text(f"INSERT INTO {table.__tablename__} VALUES (1, :v)"), {"v": value})

    def load(self, bind_key: str | None, **names: Any) -> Application:
        loaded = load_application(module_of(names), bind_key=bind_key)
        mine = [each for each in loaded.columns if each.table in ("orders", "scans")]
        return replace(loaded, columns=tuple(mine), backends={"old": self.old, "new": self.new})


def by_binds(shop: Shop) -> dict[str, Any]:
    return {"engine_a": shop.shop, "engine_b": shop.other, "Session": sessionmaker(binds={shop.base: shop.shop, shop.archive: shop.other})}  # fmt: skip


def by_async_binds(shop: Shop) -> dict[str, Any]:
    first, second = (create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:")) for url in shop.urls)
    return {"engine_a": first, "engine_b": second, "Session": async_sessionmaker(binds={shop.order: first, shop.scan.__table__: second})}  # type: ignore[dict-item]  # fmt: skip


def by_asking(shop: Shop) -> dict[str, Any]:
    return {"engine_a": shop.shop, "engine_b": shop.other}


@pytest.mark.parametrize(
    ("names", "server"),
    [(by_binds, ""), (by_async_binds, ""), (by_asking, ""), (by_binds, "postgres_url"), (by_asking, "mariadb_url")],
)
def test_a_run_speaks_for_its_database_only_and_purge_reads_both(
    request: pytest.FixtureRequest, tmp_path: Path, names: Callable[[Shop], dict[str, Any]], server: str
) -> None:
    shop = Shop(tmp_path, request.getfixturevalue(server) if server else "")
    application = shop.load("engine_a", **names(shop))
    assert [str(each) for each in application.columns] == ["orders.file"]
    assert "engine_b (scans.file)" in {str(each) for each in application.elsewhere if "scans" in str(each)}
    report = RunJob(application, RunOptions(source="old", destination="new", settle_time=0.0, lease_ttl=1.0)).run()
    assert (report.exit_code, report.rows_repointed) == (0, 1)
    assert "of this database names 'old' any more" in headline(report)
    assert "engine_b (scans.file)" in headline(report)
    _, checks = ready_to_unregister(application, "old", soak=0.0)
    [rows] = [each for each in checks if each.name == "rows"]
    assert not rows.ready
    assert "scans.file" in rows.message
    visible = bool(server)  # the role of a test sees its own database only
    purged = PurgeJob(
        application, PurgeOptions(older_than=0.0, yes=True, lease_ttl=1.0, visible_tables_only=visible)
    ).run()
    assert purged.exit_code == 0
    assert shop.old.get_content("a") == b"content", "a row of the other database names it"
    orphans = OrphansJob(application, OrphansOptions(keys=("old",), min_age=0.0)).run()
    assert orphans.exit_code == 0, "it is no orphan"


def test_a_column_of_another_database_is_named_as_such(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    module = module_of(by_binds(shop))
    with pytest.raises(ApplicationError, match=r"scans.file: that column is in the database engine_b: --bind-key engine_b"):  # fmt: skip
        load_application(module, bind_key="engine_a", columns=("scans.file",))


def test_the_schema_that_the_engine_translates(postgres_url: str) -> None:
    class Base(DeclarativeBase):
        pass

    class Paper(Base):
        __tablename__ = "translated_papers"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject] = mapped_column(StoredObject(backend="old"))

    engine = sa.create_engine(postgres_url)
    tenant = engine.execution_options(schema_translate_map={None: "tenant_a"})
    module = module_of({"engine": engine, "tenant": tenant})
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant_a")
    Base.metadata.create_all(tenant)
    found = load_application(module, bind_key="tenant")
    assert "tenant_a.translated_papers.file" in map(str, found.columns)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("duckdb:///md:sales", "MotherDuck"),
        ("db2+ibm_db://h/db", "Db2"),
        ("redshift+redshift_connector://h/db", "Amazon Redshift"),
        ("firebird://h/db", "a database of kind 'firebird'"),
        ("cockroachdb://root@h/db", "CockroachDB"),
        ("oracle+oracledb://scott:tiger@h/db", "Oracle Database"),
        ("mssql+pyodbc://h/db", "SQL Server"),
        ("spanner+spanner:///projects/p", "Spanner"),
    ],
)
def test_an_unsupported_database_is_named_without_its_driver(url: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is not supported.*only PostgreSQL, MySQL, MariaDB, SQLite and DuckDB") as error:  # fmt: skip
        load_application(ModuleType("empty"), database=url)
    assert "tiger" not in str(error.value)


VERSIONS = {
    "CockroachDB": "CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27, go1.19.10)",
    "Amazon Redshift": "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2, Redshift 1.0.12103",
    "YugabyteDB": "PostgreSQL 11.2-YB-2.15.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang, 64-bit",
    "TiDB": "5.7.25-TiDB-v6.1.0 TiDB Server (Apache License 2.0) Community Edition, MySQL 5.7 compatible",
    "Vitess": "8.0.30-Vitess Version: 18.0.0",
}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_server_that_speaks_the_protocol_of_another_one_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} is not supported \(db\): only PostgreSQL"):
        refuse_product(VERSIONS[name], "db")


@pytest.mark.parametrize(
    "version", ["PostgreSQL 15.3 (Debian 15.3-0+deb12u1)", "10.11.4-MariaDB-1 Debian 12", "8.0.36 MySQL Community Server - GPL", "v1.5.6"]
)  # fmt: skip
def test_a_supported_server_is_taken_for_what_it_is(version: str) -> None:
    refuse_product(version, "db")


def test_a_server_is_asked_what_it_is(postgres_url: str) -> None:
    """PostgreSQL with the answer of another product in front of its own."""
    with sa.create_engine(postgres_url).begin() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION public.version() RETURNS text LANGUAGE sql AS $$ SELECT '{VERSIONS['CockroachDB']}' $$"
        )
        connection.exec_driver_sql(
            f'ALTER DATABASE "{sa.make_url(postgres_url).database}" SET search_path TO public, pg_catalog'
        )
    with contextlib.closing(Database(postgres_url)) as database:
        with pytest.raises(ConfigurationError, match="CockroachDB is not supported"):
            database.connect()


def test_a_name_of_postgresql_that_sqlalchemy_does_not_take_is_corrected() -> None:
    with pytest.raises(ConfigurationError, match="write postgresql:// instead of postgres://") as error:
        load_application(ModuleType("empty"), database="postgres://scott:tiger@h/db")
    assert "tiger" not in str(error.value)
