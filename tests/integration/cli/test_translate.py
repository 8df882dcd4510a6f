"""``translate`` and ``inspect``, as a person runs them."""

import json
import tomllib

import pytest

LOCAL = """
    import os
    from pathlib import Path
    import sqlalchemy as sa
    from advanced_alchemy.config import SQLAlchemySyncConfig
    from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    HERE = Path(__file__).parent
    storages.register_backend(FSSpecBackend(key="disk", fs="file", prefix=str(HERE / "disk"), auto_mkdir=True))
    storages.register_backend(FSSpecBackend(key="memory", fs="memory"))
    {more}

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id = mapped_column(sa.Integer, primary_key=True)
        file = mapped_column(StoredObject(backend="disk"))
        other = mapped_column(StoredObject(backend=FSSpecBackend(key="unlisted", fs="file", prefix=str(HERE / "unlisted"))))

    database = SQLAlchemySyncConfig(connection_string=f"sqlite:///{{HERE}}/mine.db")

    if __name__ == "__main__":
        Base.metadata.create_all(database.get_engine())
        with database.get_session() as session:
            for name in ("a.txt", "d/b.txt", "x#1", "/c.txt"):
                session.add(Document(file=FileObject(backend="disk", filename=name, content=name.encode())))
            session.commit()
            session.execute(sa.text("INSERT INTO document (file) VALUES ('{{\\"backend\\": \\"gone\\", \\"filename\\": \\"x\\"}}')"))
            session.execute(sa.text("INSERT INTO document (file) VALUES ('7')"))
            session.commit()
"""


@pytest.fixture
def local(project):
    def make(more=""):
        project.write(LOCAL.format(more=more))
        ended = project.process("app.py")
        _, errors = ended.communicate(timeout=60)
        assert ended.returncode == 0, errors
        return project

    return make


def test_python_by_default_for_every_fsspec_backend(local):
    project = local()
    before = project.snapshot()
    ended = project("translate", "--app", "app")
    assert ended.returncode == 0, ended.stderr
    assert f'fs="file://{project.directory}/disk"' in ended.stdout
    assert 'key="unlisted"' in ended.stdout
    assert "[memory.process]" in ended.stdout
    compile(ended.stdout, "pasted", "exec")
    assert project.snapshot() == before


def test_one_backend_as_a_configuration_file_and_as_json(local):
    project = local()
    ended = project("translate", "--app", "app", "--from", "disk", "--format", "toml")
    assert tomllib.loads(ended.stdout)["destination"]["key"] == "disk"
    ended = project("translate", "--app", "app", "--json")
    assert [each["key"] for each in json.loads(ended.stdout)] == ["disk", "memory", "unlisted"]


def test_something_refused_exits_with_1(local):
    project = local("storages.register_backend(FSSpecBackend(key='web', fs='data'))")
    ended = project("translate", "--app", "app")
    assert ended.returncode == 1
    assert "[protocol.source_only]" in ended.stdout


def test_an_unknown_key_is_bad_usage(local):
    ended = local()("translate", "--app", "app", "--from", "dsik")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_check_compares_what_rows_name(local):
    project = local()
    ended = project("translate", "--app", "app", "--from", "disk", "--check")
    assert ended.returncode == 1
    assert "x#1: obstore cannot address it" in ended.stderr
    (project.directory / "disk" / "a.txt").unlink()
    ended = project("translate", "--app", "app", "--from", "disk", "--check")
    assert "a.txt: fsspec does not find it" in ended.stderr


def test_check_without_rows_lists_the_store(local):
    project = local()
    (project.directory / "unlisted").mkdir()
    (project.directory / "unlisted" / "x.txt").write_text("x")
    ended = project("translate", "--app", "app", "--from", "unlisted", "--check")
    assert ended.returncode == 0, ended.stderr
    assert "unlisted: 1 objects, the same bytes through both sides" in ended.stderr


def test_inspect_counts_by_key_and_column_and_lists_odd_names(local):
    project = local()
    ended = project("inspect", "--app", "app")
    assert ended.returncode == 0, ended.stderr
    assert f"disk: fsspec (file), translates to file://{project.directory}/disk" in ended.stdout
    assert "4 files in document.file" in ended.stdout
    assert "2 filenames that obstore cannot address, or that the new registration does not open" in ended.stdout
    assert "gone: rows name it, but no backend is registered under it" in ended.stdout
    assert "document.other: no row names a file" in ended.stdout
    assert "document.file: 1 values cannot be read as files" in ended.stdout
    assert "translate --app app" in ended.stdout
    told = json.loads(project("inspect", "--app", "app", "--json").stdout)
    disk = next(each for each in told["backends"] if each["key"] == "disk")
    assert disk["files"] == {"document.file": 4}
    assert disk["odd_count"] == 2


def test_backends_that_go_through_obstore_already_are_not_translated(local):
    shim = "from migrate_storage.backend.fsspec_compat import FSSpecBackend as Shim"
    project = local(f"{shim}; storages.register_backend(Shim('shim', 'file', str(HERE / 'shim')))")
    told = json.loads(project("translate", "--app", "app", "--json").stdout)
    assert "shim" not in [each["key"] for each in told]
    assert "shim: obstore, file://" in project("inspect", "--app", "app").stdout


REGISTRATIONS = """
    from pathlib import Path
    import s3fs
    from advanced_alchemy.types.file_object import storages
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

    HERE = Path(__file__).parent
    filesystem = s3fs.S3FileSystem(key="K", secret="S", endpoint_url="http://127.0.0.1:9")
    storages.register_backend(FSSpecBackend(key="bucket", fs=filesystem, prefix="bkt/up"))
    storages.register_backend(FSSpecBackend(key="disk", fs="file", prefix=str(HERE / "disk")))
"""


def test_a_module_that_only_registers_backends(project):
    project.write(REGISTRATIONS)
    (project.directory / "disk").mkdir()
    (project.directory / "disk" / "a.txt").write_text("a")
    ended = project("translate", "--app", "app")
    assert ended.returncode == 0, ended.stderr
    assert 'fs="s3://bkt/up"' in ended.stdout
    ended = project("translate", "--app", "app", "--check", "--from", "disk")
    assert ended.returncode == 0, ended.stderr
    assert "disk: 1 objects, the same bytes through both sides" in ended.stderr
    ended = project("inspect", "--app", "app", "--registrations")
    assert ended.returncode == 0, ended.stderr
    assert "bucket: fsspec (s3), translates to s3://bkt/up" in ended.stdout
    ended = project("inspect", "--app", "app", "--registrations", "--json")
    assert [each["key"] for each in json.loads(ended.stdout)["backends"]] == ["bucket", "disk"]
    ended = project("inspect", "--app", "app")
    assert ended.returncode == 2
    assert "no engine found" in ended.stderr
