"""Two registrations side by side: both keys resolve in a process, or its health says that one does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from migrate_storage import ObstoreBackend, register_pair
from migrate_storage.application.application import running_application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions


@pytest.fixture
def old(tmp_path: Path) -> Iterator[FSSpecBackend]:
    """The backend that rows name, registered; what a test registers is taken back."""
    before = {key: storages.get_backend(key) for key in storages.registered_backends()}
    (tmp_path / "old").mkdir()
    backend = FSSpecBackend(key="dual-old", fs="file", prefix=str(tmp_path / "old"))
    storages.register_backend(backend)
    yield backend
    storages.clear_backends()
    for each in before.values():
        storages.register_backend(each)


@pytest.fixture
def model(database_url: str) -> Iterator[tuple[sa.Engine, Any]]:
    """A table with three files under the old key."""

    class Base(DeclarativeBase):
        pass

    class Picture(Base):
        __tablename__ = "dual_picture"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="dual-old"))

    engine = sa.create_engine(database_url)
    Base.metadata.create_all(engine)
    yield engine, Picture
    engine.dispose()


def saved(engine: sa.Engine, picture: Any, *names: str) -> None:
    with Session(engine) as session:
        for name in names:
            file = FileObject(backend="dual-old", filename=name, content_type="text/plain", content=name.encode())
            session.add(picture(file=file.save()))
        session.commit()


def test_both_keys_resolve_before_the_first_row_moves(old: FSSpecBackend, model: Any, tmp_path: Path) -> None:
    engine, picture = model
    saved(engine, picture, "a", "b", "c")
    dual = register_pair(storages, "dual-old", "dual-new", tmp_path / "new")
    assert isinstance(storages.get_backend("dual-new"), ObstoreBackend)
    before = dual.health(engine, picture.metadata)
    assert before.healthy
    assert before.files == {"dual-old": 3, "dual-new": 0}

    application = running_application(engine, picture.metadata)
    report = RunJob(application, RunOptions(source="dual-old", destination="dual-new", limit=2, settle_time=0.0)).run()
    assert report.rows_remaining == 1
    between = dual.health(engine, picture.metadata)
    assert between.healthy
    assert between.files == {"dual-old": 1, "dual-new": 2}
    with Session(engine) as session:
        opened = [each.file.get_content() for each in session.scalars(sa.select(picture).order_by(picture.id))]
    assert opened == [b"a", b"b", b"c"]


def test_a_process_that_cannot_resolve_a_key_is_not_healthy(old: FSSpecBackend, model: Any, tmp_path: Path) -> None:
    engine, picture = model
    saved(engine, picture, "a", "b")
    dual = register_pair(storages, "dual-old", "dual-new", tmp_path / "new")
    storages.unregister_backend("dual-new")
    assert dual.health().resolves == {"dual-old": True, "dual-new": False}
    assert not dual.health().healthy
    storages.register_backend(ObstoreBackend("dual-new", tmp_path / "new"))
    assert dual.health().healthy
    with engine.begin() as connection:
        file = {"backend": "elsewhere", "filename": "x"}
        connection.execute(sa.text("UPDATE dual_picture SET file = :file WHERE id = 1").bindparams(sa.bindparam("file", file, sa.JSON)))  # fmt: skip
    health = dual.health(engine, picture.metadata)
    assert (health.unknown, health.healthy) == (("elsewhere",), False)
    assert health.as_dict() == {
        "healthy": False,
        "resolves": {"dual-old": True, "dual-new": True},
        "files": {"dual-old": 1, "dual-new": 0, "elsewhere": 1},
        "unknown": ["elsewhere"],
        "unreadable": 0,
    }


def test_the_same_place_when_no_other_is_named(old: FSSpecBackend, tmp_path: Path) -> None:
    FileObject(backend="dual-old", filename="x", content=b"bytes").save()
    register_pair(storages, "dual-old", "dual-new")
    assert storages.get_backend("dual-new").get_content("x") == b"bytes"
    register_pair(storages, "dual-old", "dual-new")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dual-old", "dual-old"), "both keys are 'dual-old'"),
        (("nobody", "dual-new"), "no backend is registered under 'nobody'"),
        (("dual-old", "dual-taken", "memory://"), "registered under 'dual-taken' already"),
        (("dual-old", "dual-new", FSSpecBackend(key="other", fs="memory")), "has the key 'other'"),
        (("dual-old", "dual-new", "s3://"), "'s3' has no bucket"),
    ],
)
def test_what_cannot_be_registered(old: FSSpecBackend, arguments: Any, said: str) -> None:
    storages.register_backend(ObstoreBackend("dual-taken", "memory://"))
    before = storages.registered_backends()
    with pytest.raises(ConfigurationError, match=said):
        register_pair(storages, *arguments)
    assert storages.registered_backends() == before
