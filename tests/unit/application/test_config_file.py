"""The configuration file: what it means, and the line that is named when it means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate_storage.application.config_file import Settings, load_settings
from migrate_storage.core.errors import ConfigurationError

KNOWN = {"app", "database", "columns", "from", "to", "concurrency", "copy-only"}


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, KNOWN, environment)


def test_options_go_by_their_names_on_the_command_line(tmp_path: Path) -> None:
    found = load(tmp_path, 'app = "my.app"\nconcurrency = 4\ncopy_only = true\ncolumns = ["a.b", "c.d"]\n')
    assert found.options == {"app": "my.app", "concurrency": 4, "copy-only": True, "columns": ["a.b", "c.d"]}


def test_environment_and_files_are_put_in_and_a_doubled_dollar_is_one(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    found = load(
        tmp_path,
        f'database = "pg://${{USER_NAME}}:${{file:{tmp_path}/secret}}@h/$${{kept}}-$5"\ncolumns = ["${{USER_NAME}}.x"]',
        USER_NAME="me",
    )
    assert found.options == {"database": "pg://me:from-file@h/${kept}-$5", "columns": ["me.x"]}


def test_an_earlier_name_of_an_option_is_refused_with_that_of_today(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('app = "my.app"\nat_once = 4\n')
    with pytest.raises(ConfigurationError, match="some.toml: line 2: 'at_once' is now called 'concurrency'$"):
        load_settings(path, KNOWN, {}, renamed={"at-once": "concurrency"})


def test_what_is_put_in_is_not_looked_through_again(tmp_path: Path) -> None:
    assert load(tmp_path, 'app = "${A}"', A="${B}", B="no").options == {"app": "${B}"}


def test_backends_are_described_and_name_the_route(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
        [source]
        key = "old"
        fs = "memory"
        prefix = "uploads"
        options = { skip_instance_cache = true }
        [destination]
        key = "new"
        driver = "fsspec"
        fs = "memory"
        """,
    )
    assert found.options == {"from": "old", "to": "new"}
    backends = found.backends()
    assert {key: (backend.driver, backend.protocol) for key, backend in backends.items()} == {
        "old": ("fsspec", "memory"),
        "new": ("fsspec", "memory"),
    }
    assert backends["old"].prefix == "uploads"


def test_what_the_flags_of_the_file_say_wins_over_its_tables(tmp_path: Path) -> None:
    found = load(tmp_path, 'from = "other"\n[source]\nkey = "old"\nfs = "memory"\n')
    assert found.options == {"from": "other"}


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    found = load(tmp_path, 'database = "pg://me:hunter2@h"\n[source]\nkey="o"\nfs="s3"\noptions={secret="hunter2"}\n')
    assert "hunter2" not in repr(found)


def test_without_a_file_there_are_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, KNOWN) == Settings()
    (tmp_path / "migrate-storage.toml").write_text('app = "found"')
    assert load_settings(None, KNOWN).options == {"app": "found"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('app = "a"\nfrom = old\n', "some.toml: line 2: not TOML: Invalid value"),
        ('app = "a', "some.toml: line 1: not TOML: "),
        ('app = "a"\n\nconcurency = 3', r"line 3: 'concurency' is no option: did you mean 'concurrency'\?"),
        ('app = "a"\nzzz = 3', "line 2: 'zzz' is no option: it knows app, "),
        ('[source]\nkey = "a"\nfs = "b"\nprefx = "c"', r"line 4: 'prefx' is no option in \[source\]: did you mean 'prefix'"),
        ('[sorce]\nkey = "a"', r"line 1: 'sorce' is no option: did you mean 'source'"),
        ('source = "a"', r"line 1: 'source' should be a table"),
        ('app = { a = 1 }', "line 1: 'app' is a table, but should be a value"),
        ('[source]\nfs = "b"', r'\[source\] needs key = '),
        ('[source]\nkey = "a"\nfs = ""', r'\[source\] needs fs = '),
        ('[source]\nkey = "a"\nfs = "b"\ndriver = "ftp"', "line 4: .*driver should be fsspec or obstore"),
        ('x = 1\n'.replace("x", "app") + 'database = "${NOT_SET}"', "line 2: database: the environment variable 'NOT_SET' is not set"),
        ('database = "${file:/no/such}"', "line 1: database: /no/such cannot be read: No such file"),
        ('[source]\nkey="a"\nfs="b"\noptions={secret="${NOT_SET}"}', "line 4: secret: the environment variable 'NOT_SET'"),
    ],
)  # fmt: skip
def test_what_the_file_gets_wrong_is_one_line_with_its_number(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--config .*none.toml: No such file"):
        load_settings(tmp_path / "none.toml", KNOWN)
    (tmp_path / "latin.toml").write_bytes(b'app = "\xe9"')
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_settings(tmp_path / "latin.toml", KNOWN)


@pytest.mark.parametrize(
    ("fs", "message"),
    [("nonsense", "the backend 'old' cannot be made: ValueError: Protocol not known: nonsense")],
)
def test_a_backend_that_cannot_be_made_says_which(tmp_path: Path, fs: str, message: str) -> None:
    found = load(tmp_path, f'[source]\nkey = "old"\nfs = "{fs}"\n')
    with pytest.raises(ConfigurationError, match=message):
        found.backends()
