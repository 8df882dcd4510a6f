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
    assert ended.stdout == "0 files changed, 0 registrations left as they are\n"
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
