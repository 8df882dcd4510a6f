"""A disk's large files are read in ranges: all bytes of one file, or an error."""

import os
import random
import shutil

import pytest
from obstore.store import LocalStore

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes
from migrate_storage.stores.obstore_store import ObstoreStore

CHUNK = 1000


@pytest.fixture
def disk(tmp_path):
    return ObstoreStore(LocalStore(str(tmp_path)), "disk", chunk=CHUNK)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK + 7])
@pytest.mark.parametrize("name", ["a", "folder/ü b%20.bin"])
def test_all_bytes_come_in_chunks(disk, tmp_path, size, name):
    content = random.Random(size).randbytes(size)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    pieces = list(disk.open(name).chunks())
    assert b"".join(pieces) == content
    assert {len(piece) for piece in pieces[:-1]} <= {CHUNK}


def replaced(path):
    other = path.with_name("other")
    shutil.copyfile(path, other)
    other.replace(path)


def grown(path):
    with path.open("ab") as file:
        file.write(b"more")


def shortened(path):
    os.truncate(path, CHUNK + 1)


@pytest.mark.parametrize("change", [replaced, grown, shortened])
def test_a_file_that_is_written_to_meanwhile_is_not_read_as_a_mixture(disk, tmp_path, change):
    (tmp_path / "a").write_bytes(bytes(10 * CHUNK))
    chunks = disk.open("a").chunks()
    next(chunks)
    change(tmp_path / "a")
    with pytest.raises(ConnectionError, match="a was written to while it was read"):
        list(chunks)


@pytest.mark.parametrize(("there", "wanted", "taken"), [
    ("a", "a/b", "the file a"), ("a/b/c", "a/b", "the folder a/b"), ("d/a", "d/a/b/c", "the file d/a"),
    ("a/b", "a", "the folder a"),
])  # fmt: skip
@pytest.mark.parametrize("create", [True, False])
def test_a_file_and_a_folder_of_one_name_are_refused_with_the_reason(disk, tmp_path, there, wanted, taken, create):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"1")
    kind, name = taken.rsplit(" ", 1)
    for read in (disk.head, disk.open, disk.head_with_attributes):
        with pytest.raises(FileNotFoundError):
            read(wanted)
    with pytest.raises(KeyRefusedError, match=f"and has {kind} {tmp_path / name}: give one of them another name"):
        disk.put(wanted, b"2", attributes=Attributes(), create=create, part_size=None)
    assert (tmp_path / there).read_bytes() == b"1"
