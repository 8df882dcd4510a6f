"""``convert``, as a person runs it."""

import json
import shutil
import stat

from tests.support.cli.project import ROOT

CASES = ROOT / "tests" / "unit" / "translate" / "codemod"


def put(project, name, case):
    path = project.directory / "src" / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(CASES / case, path)
    return path


def test_the_difference_is_shown_and_nothing_is_written(project):
    put(project, "a.py", "shapes/05_minio.before")
    before = project.snapshot()
    ended = project("convert", "src")
    assert ended.returncode == 0, ended.stderr
    assert "+    storages.register_backend(ObstoreBackend(" in ended.stdout
    assert "minioadmin" not in ended.stdout
    assert project.snapshot() == before


def test_written_once_and_the_same_the_second_time(project):
    path = put(project, "a.py", "shapes/05_minio.before")
    path.chmod(0o640)
    assert project("convert", "src", "--write").returncode == 0
    assert path.read_text() == (CASES / "shapes/05_minio.after").read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    before = project.snapshot()
    ended = project("convert", "src", "--write")
    assert ended.stdout == "0 files changed, 0 registrations left as they were\n"
    assert project.snapshot() == before


def test_what_is_left_is_marked_with_file_line_reason_and_what_to_paste(project):
    put(project, "b.py", "refusals/06_no_counterpart.before")
    ended = project("convert", "src")
    assert ended.returncode == 1
    assert ended.stderr.startswith("src/b.py:5: left: sftp (SFTP) has no counterpart")
    assert "from migrate_storage.backend.fsspec_compat import FSSpecBackend" in ended.stderr
    assert "PL4NTED" not in ended.stderr + ended.stdout
    (told,) = map(json.loads, project("convert", "src", "--json").stdout.splitlines())
    assert (told["event"], told["path"], told["line"]) == ("left", "src/b.py", 5)


def test_files_that_cannot_be_read_are_listed(project):
    folder = project.directory / "src"
    folder.mkdir()
    (folder / "latin.py").write_bytes(b"# FSSpecBackend \xe9\n")
    (folder / "broken.py").write_text("def FSSpecBackend(:\n")
    ended = project("convert", "src")
    assert ended.returncode == 1
    assert "src/broken.py:0: unreadable: line 1" in ended.stderr
    assert "src/latin.py:0: unreadable" in ended.stderr
    ended = project("convert", "nowhere")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_other_peoples_code_is_not_looked_at(project):
    put(project, "a.py", "shapes/05_minio.before")
    folder = project.directory / "src" / ".venv"
    folder.mkdir()
    shutil.copy(CASES / "refusals/06_no_counterpart.before", folder / "b.py")
    assert "b.py" not in project("convert", "src").stderr


STORAGE = """\
import s3fs
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from app.settings import settings

fs = s3fs.S3FileSystem(key=settings.s3_key, secret=settings.s3_secret, client_kwargs={"region_name": "eu-west-1"})
storages.register_backend(FSSpecBackend(key="old", fs=fs, prefix="bucket-one"))
storages.register_backend(FSSpecBackend(key="second", fs="s3", prefix="bucket-two", username="PL4NTED-1", password="PL4NTED-2"))
"""


def put_application(project, importer):
    folder = project.directory / "app"
    folder.mkdir()
    (project.directory / "pyproject.toml").touch()
    (folder / "__init__.py").touch()
    (folder / "storage.py").write_text(STORAGE)
    (folder / "other.py").write_text(importer)
    return folder / "storage.py"


def test_a_name_that_another_file_imports_stays(project):
    for number, importer in enumerate(
        ("from app.storage import fs\n", "from . import storage\n\nstorage.fs.ls('x')\n", "from .storage import *\n")
    ):
        if number:
            shutil.rmtree(project.directory / "app")
        path = put_application(project, importer)
        # Its importers are found though only this file is converted.
        assert project("convert", "app/storage.py", "--write").returncode == 0
        assert "fs = s3fs.S3FileSystem(" in path.read_text(), importer
        assert "import s3fs\n" in path.read_text()
        assert "FSSpecBackend(" not in path.read_text()


def test_a_name_that_nothing_imports_goes(project):
    path = put_application(project, "from app.storage import storages\n")
    assert project("convert", "app", "--write").returncode == 0
    assert "s3fs" not in path.read_text()


def test_the_difference_shows_what_is_no_literal(project):
    put_application(project, "")
    shown = project("convert", "app").stdout
    assert "aws_secret_access_key=settings.s3_secret" in shown
    assert "PL4NTED" not in shown
    assert 'aws_secret_access_key="***"' in shown


def test_a_new_registration_beside_the_old_one(project):
    path = put_application(project, "")
    ended = project("convert", "app", "--beside", "new")
    assert ended.returncode == 2
    assert "name one with --from KEY" in ended.stderr
    ended = project("convert", "app", "--beside", "new", "--from", "nobody")
    assert ended.returncode == 2
    assert "no FSSpecBackend is registered under this key" in ended.stderr
    shown = project("convert", "app", "--beside", "new", "--from", "old").stdout
    assert "PL4NTED" not in shown
    ended = project("convert", "app", "--beside", "new", "--from", "old", "--write")
    assert ended.returncode == 0, ended.stderr
    code = path.read_text()
    assert set(STORAGE.splitlines()) <= set(code.splitlines())
    (added,) = (
        set(code.splitlines()) - set(STORAGE.splitlines()) - {"from migrate_storage.backend import ObstoreBackend"}
    )
    assert added.startswith('storages.register_backend(ObstoreBackend(key="new", fs="s3://bucket-one/"')
    before = project.snapshot()
    assert project("convert", "app", "--beside", "new", "--from", "old", "--write").returncode == 0
    assert project.snapshot() == before
    ended = project("convert", "app", "--beside", "old", "--from", "old", "--write")
    assert ended.returncode == 1
    assert "left: old is the key of another backend; give --beside a key of its own" in ended.stderr
    assert project.snapshot() == before
