"""What a person reads never moves the cursor and never holds a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.core.text import masked, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("reports/2024 Übersicht 東京.pdf", "reports/2024 Übersicht 東京.pdf"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\nb\r\tc\x7f\x9b31m", r"a\nb\r\tc\x7f\x9b31m"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("\udcff", r"\udcff"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_visible_escapes_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_visible_is_one_encodable_line_without_control_characters(text: str) -> None:
    shown = visible(text)
    assert len((shown + ".").splitlines()) == 1
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql+psycopg://me:hunter2@host:5432/db",
        "redis://:hunter2@host/0",
        "mysql://me:p@hunter2@host/db",
        "password=hunter2 host=x",
        "{'secret_access_key': 'hunter2', 'region': 'x'}",
        'AWS_SECRET_ACCESS_KEY="hunter2"',
        "account_key: hunter2",
        "SAS token=hunter2&x=1",
    ],
)
def test_masked_hides_the_secret_and_keeps_the_rest(text: str) -> None:
    assert "hunter2" not in masked(text)
    assert "***" in masked(text)


def test_masked_leaves_text_without_secrets_alone() -> None:
    text = "reports:2024/a@b.pdf at s3://bucket/key, postgresql://host/db"
    assert masked(text) == text


def test_one_line_names_the_kind_and_the_first_line_only() -> None:
    assert one_line(ValueError("\n first\nsecond ")) == "ValueError: first"
    assert one_line(KeyError()) == "KeyError"


def test_one_line_says_how_to_install_what_is_missing() -> None:
    with pytest.raises(ModuleNotFoundError) as missing:
        __import__("no_such_library")
    assert one_line(missing.value) == "ModuleNotFoundError: No module named 'no_such_library'"
    missing.value.name = "gcsfs.core"
    assert one_line(missing.value).endswith(": pip install 'migrate-storage[gcsfs]'")
    of_fsspec = ImportError("Install adlfs to access Azure Datalake Gen2 and Azure Blob Storage")
    assert one_line(of_fsspec).endswith(": pip install 'migrate-storage[adlfs]'")
    assert "pip" not in one_line(ImportError("cannot import name 'x' from 's3fs'", name="s3fs"))
