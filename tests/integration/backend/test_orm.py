"""Through the ORM with advanced-alchemy's own listeners: model code unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.base import UUIDAuditBase
from advanced_alchemy.config import SQLAlchemyAsyncConfig, SQLAlchemySyncConfig
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import storages
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from migrate_storage import ObstoreBackend
from tests.support.servers import S3Server


class Paper(UUIDAuditBase):
    __tablename__ = "backend_papers"
    title: Mapped[str]
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="orm-files"))
    more: Mapped[list[FileObject] | None] = mapped_column(StoredObject(backend="orm-files", multiple=True))


@pytest.fixture(params=["memory", "local", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObstoreBackend]:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("rclone_s3")
        options: dict[str, Any] = {
            "aws_endpoint": server.endpoint,
            "aws_access_key_id": server.key,
            "aws_secret_access_key": server.secret,
            "aws_region": server.region,
        }
        made = ObstoreBackend("orm-files", f"s3://{server.new_bucket()}/", **options)
    else:
        made = ObstoreBackend("orm-files", "memory://" if request.param == "memory" else tmp_path / "files")
    storages.register_backend(made)
    # Types remember the backend that they resolved.
    for column in (Paper.__table__.c.file, Paper.__table__.c.more):
        column.type._resolved_backend = None
    yield made
    storages.unregister_backend("orm-files")


@pytest.fixture
def session(backend: ObstoreBackend, sqlite_url: str) -> Iterator[Session]:
    config = SQLAlchemySyncConfig(connection_string=sqlite_url)
    Paper.metadata.create_all(config.get_engine(), tables=[Paper.__table__])  # type: ignore[list-item]
    with config.create_session_maker()() as session:
        yield session


@pytest.fixture
async def session_async(backend: ObstoreBackend, sqlite_url: str) -> AsyncIterator[AsyncSession]:
    config = SQLAlchemyAsyncConfig(connection_string=sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
    async with config.get_engine().begin() as connection:
        await connection.run_sync(lambda sync: Paper.metadata.create_all(sync, tables=[Paper.__table__]))  # type: ignore[list-item]
    async with config.create_session_maker()() as session:
        yield session
    await config.get_engine().dispose()


def _file(name: str, content: bytes, **more: Any) -> FileObject:
    return FileObject(backend="orm-files", filename=name, content=content, **more)


def test_saved_with_the_row(session: Session, backend: ObstoreBackend) -> None:
    paper = Paper(title="a", file=_file("a.txt", b"first", metadata={"n": 1}))
    session.add(paper)
    session.commit()
    assert backend.get_content("a.txt") == b"first"
    session.expire_all()
    found = session.scalars(select(Paper)).one()
    assert found.file is not None
    assert found.file.get_content() == b"first"
    assert found.file.backend is backend
    assert found.file.metadata == {"n": 1}


def test_replaced_with_the_row(session: Session, backend: ObstoreBackend) -> None:
    paper = Paper(title="a", file=_file("a.txt", b"first"))
    session.add(paper)
    session.commit()
    # Only a value that was loaded can be known to be replaced.
    assert paper.file is not None
    paper.file = _file("b.txt", b"second")
    session.commit()
    assert backend.get_content("b.txt") == b"second"
    assert not backend.exists("a.txt")


def test_deleted_with_the_row(session: Session, backend: ObstoreBackend) -> None:
    paper = Paper(title="a", file=_file("a.txt", b"1"), more=[_file("b.txt", b"2"), _file("c.txt", b"3")])
    session.add(paper)
    session.commit()
    assert {meta.path for meta in backend.list()} == {"a.txt", "b.txt", "c.txt"}
    session.delete(paper)
    session.commit()
    assert list(backend.list()) == []


def test_rolled_back_with_the_row(session: Session, backend: ObstoreBackend) -> None:
    session.add(Paper(title="a", file=_file("a.txt", b"1")))
    session.flush()
    session.rollback()
    assert list(backend.list()) == []
    kept = Paper(title="b", file=_file("b.txt", b"2"))
    session.add(kept)
    session.commit()
    session.delete(kept)
    session.flush()
    session.rollback()
    assert backend.get_content("b.txt") == b"2"


def test_lists(session: Session, backend: ObstoreBackend) -> None:
    paper = Paper(title="a", more=[_file("a.txt", b"1"), _file("b.txt", b"2")])
    session.add(paper)
    session.commit()
    assert paper.more is not None
    paper.more = [*paper.more, _file("c.txt", b"3")]
    session.commit()
    assert {meta.path for meta in backend.list()} == {"a.txt", "b.txt", "c.txt"}
    paper.more = paper.more[1:]
    session.commit()
    assert {meta.path for meta in backend.list()} == {"b.txt", "c.txt"}
    session.expire_all()
    found = session.scalars(select(Paper)).one()
    assert found.more is not None
    assert [file.get_content() for file in found.more] == [b"2", b"3"]


def test_a_file_on_disk_goes_with_the_row(session: Session, backend: ObstoreBackend, tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_bytes(b"from disk")
    session.add(Paper(title="a", file=FileObject(backend="orm-files", filename="a.txt", source_path=source)))
    session.commit()
    assert backend.get_content("a.txt") == b"from disk"


def test_a_missing_bucket_does_not_pass_for_a_delete(session: Session, rclone_s3: S3Server) -> None:
    """advanced-alchemy takes FileNotFoundError on delete for success."""
    from migrate_storage.core.errors import MissingBucketError

    paper = Paper(title="a", file=_file("a.txt", b"1"))
    session.add(paper)
    session.commit()
    gone = ObstoreBackend(
        "orm-files",
        "s3://gone-bucket/",
        aws_endpoint=rclone_s3.endpoint,
        aws_access_key_id=rclone_s3.key,
        aws_secret_access_key=rclone_s3.secret,
    )
    storages.register_backend(gone)
    session.expire_all()
    for column in (Paper.__table__.c.file, Paper.__table__.c.more):
        column.type._resolved_backend = None
    session.delete(session.scalars(select(Paper)).one())
    with pytest.raises(MissingBucketError):
        session.commit()


async def _until(condition: Any) -> None:
    """advanced-alchemy's asynchronous listener does not wait for its own uploads."""
    for _ in range(200):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it never came true")


async def test_asynchronously(session_async: AsyncSession, backend: ObstoreBackend) -> None:
    paper = Paper(title="a", file=_file("a.txt", b"1"), more=[_file("b.txt", b"2")])
    session_async.add(paper)
    await session_async.commit()
    await _until(lambda: backend.exists_async("a.txt"))
    await _until(lambda: backend.exists_async("b.txt"))
    await session_async.refresh(paper)
    assert paper.file is not None
    paper.file = _file("c.txt", b"3")
    await session_async.commit()
    await _until(lambda: backend.exists_async("c.txt"))

    async def gone() -> bool:
        return not await backend.exists_async("a.txt")

    await _until(gone)
    await session_async.refresh(paper)
    await session_async.delete(paper)
    await session_async.commit()

    async def empty() -> bool:
        return [meta async for meta in backend.list_async()] == []

    await _until(empty)
