"""The tables of the page on translation are those of the code, and its examples are what happens."""

from __future__ import annotations

import re

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from s3fs import S3FileSystem

from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import read_filesystem
from scripts import translation_tables
from tests.support import ROOT

PAGE = (ROOT / "docs" / "translation.md").read_text()


@pytest.mark.parametrize("name", ["options", "sources", "codes"])
def test_the_tables_are_up_to_date(name: str) -> None:
    assert f"<!-- {name} -->\n\n{getattr(translation_tables, name)()}\n<!-- /{name} -->" in PAGE


def read_table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


PLACES = read_table("Where the bytes are")


def test_there_are_places() -> None:
    assert len(PLACES) >= 5


@pytest.mark.parametrize("row", PLACES, ids=[row[0] for row in PLACES])
def test_where_the_bytes_are(row: list[str]) -> None:
    prefix, names, bucket, key = row
    filesystem = S3FileSystem(key="K", secret="S", skip_instance_cache=True)
    registration = read_filesystem(filesystem, None if prefix == "none" else prefix.strip("`"))
    for name in re.findall(r"`([^`]+)`", names):
        place = registration.place(name)
        assert (f"`{place.root}`", f"`{place.key}`") == (bucket, key.partition(",")[0])
        assert ("cannot address" in key) == (unaddressable(place.key) is not None)


def test_filesystems_around_filesystems() -> None:
    inner = S3FileSystem(key="K", secret="S", skip_instance_cache=True)
    registration = read_filesystem(DirFileSystem("bucket/up", DirFileSystem("x", inner)), "sub")
    place = registration.place("a")
    assert (place.root, place.key) == ("x", "bucket/up/sub/a")
