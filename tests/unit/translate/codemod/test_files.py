"""Files are found, read in their encoding, shown without secrets and replaced in one step; libcst is asked for."""

import subprocess
import sys

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.translate.codemod.files import convert_file, difference, sources, write

SOURCE = """\
# -*- coding: latin-1 -*-
# café
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

b = FSSpecBackend(key="k", fs="s3", prefix="b", username="pl4nt3d", password='pl4nt3d-2', client_kwargs={"region_name": "eu-west-1"})
"""


def test_encodings_stay(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes(SOURCE.encode("latin-1"))
    file = convert_file(path)
    write(file)
    after = path.read_bytes()
    assert "# café".encode("latin-1") in after
    assert b'fs="s3://b/"' in after
    assert b"pl4nt3d" in after


def test_a_difference_shows_no_literal_of_a_secret_option(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(SOURCE, encoding="latin-1")
    shown = difference(convert_file(path))
    assert "pl4nt3d" not in shown
    assert '+b = ObstoreBackend(key="k", fs="s3://b/"' in shown


def test_a_file_that_cannot_be_replaced_is_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.py"
    path.write_text(SOURCE, encoding="latin-1")
    file = convert_file(path)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(ConfigurationError, match="it is as it was"):
        write(file)
    assert path.read_text(encoding="latin-1") == SOURCE
    assert [each.name for each in tmp_path.iterdir()] == ["a.py"]


def test_files_are_found_once_and_not_in_other_peoples_folders(tmp_path):
    for name in ("a.py", "p/b.py", ".venv/c.py", "p/__pycache__/d.py", "p/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(sources([tmp_path, tmp_path / "a.py"]))
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.py", "p/b.py"]


def test_without_libcst_one_line_says_what_to_install():
    program = "import sys; sys.modules['libcst'] = None; from migrate_storage.__main__ import main; sys.exit(main(['convert', '.']))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2
    assert "migrate-storage[convert]" in ended.stderr
    assert ended.stderr.count("\n") == 1
