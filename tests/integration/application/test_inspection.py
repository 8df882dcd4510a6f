"""Rows are counted by key and column, and filenames that obstore cannot address are found."""

import sqlalchemy as sa
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.application import inspection
from migrate_storage.application.application import Application
from migrate_storage.application.inspection import filenames, inspect
from migrate_storage.core.model import Column

COLUMN = Column(table="document", column="file", key=("id",))


def application(database_url, values, backends):
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE document (id INTEGER PRIMARY KEY, file JSON)"))
        for number, value in enumerate(values):
            connection.execute(sa.text("INSERT INTO document VALUES (:id, :file)"), {"id": number, "file": value})
    return Application(engine=engine, columns=(COLUMN,), backends={backend.key: backend for backend in backends})


def row(backend, *names):
    files = [f'{{"backend": "{backend}", "filename": "{name}"}}' for name in names]
    return files[0] if len(files) == 1 else f"[{', '.join(files)}]"


def test_everything_is_counted(database_url, moto_s3, tmp_path):
    s3 = FSSpecBackend(key="s3", fs=moto_s3.fs())
    disk = FSSpecBackend(key="disk", fs="file", prefix=str(tmp_path))
    values = [
        row("s3", "one/a", "two/b", "one//c"),
        row("disk", "a"),
        row("disk", "x#1"),
        row("gone", "a"),
        "null",
        "7",
        None,
    ]
    app = application(database_url, values, (s3, disk))
    found = inspect(app)
    use = {each.key: each for each in found.backends}
    assert {key: each.total for key, each in use.items()} == {"s3": 3, "disk": 2, "gone": 1}
    assert dict(use["s3"].roots) == {"one": 2, "two": 1}
    assert use["gone"].registration is None
    assert [(odd.filename, odd.ref.pk) for odd in use["disk"].odd] == [("x#1", (2,))]
    assert [(odd.filename, odd.ref.path) for odd in use["s3"].odd] == [("one//c", (2,))]
    assert dict(found.broken) == {COLUMN: 1}
    assert filenames(app, "s3", 2) == ("one/a", "two/b")
    assert filenames(app, "nobody", 2) == ()


def test_many_odd_names_are_counted_and_few_are_listed(sqlite_url, tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "LISTED_ODD_KEYS", 20)
    disk = FSSpecBackend(key="disk", fs="file", prefix=str(tmp_path))
    app = application(sqlite_url, [row("disk", f"x#{number}") for number in range(50)], (disk,))
    (use,) = inspect(app).backends
    assert use.odd_count == 50
    assert len(use.odd) == 20
