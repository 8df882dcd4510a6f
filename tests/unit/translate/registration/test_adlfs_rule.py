"""What adlfs does without credentials is asked of the installed version: it differs between versions."""

from __future__ import annotations

import json
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from adlfs import AzureBlobFileSystem

from migrate_storage.backend.fsspec_compat import FSSpecBackend
from migrate_storage.translate.codemod.rewrite_source import Conversion, convert_source
from migrate_storage.translate.registration import protocol_registration
from migrate_storage.translate.registration.adlfs_rule import asks_anonymously
from tests.support.translate.documented_forms import isolate_clouds

SOURCE = """\
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from adlfs import AzureBlobFileSystem

storages.register_backend(FSSpecBackend(key="media", fs=AzureBlobFileSystem({arguments}), prefix="files/up"))
"""
CODE = "azure.anon.installed"
NOTHING = SOURCE.format(arguments='account_name="acct"')

OLD_RULE = """
import os

class AzureBlobFileSystem:
    def __init__(self, account_name=None, anon=None, loop=None, asynchronous=False, **kwargs):
        super().__init__()
        if anon is not None:
            self.anon = anon
        else:
            self.anon = os.getenv("AZURE_STORAGE_ANON", "true").lower() not in ["false", "0", "f"]
        self.do_connect()

    def do_connect(self):
        raise AssertionError("nothing connects")
"""
"""The rule of the versions before 2026, as adlfs 2025.8.0 has it."""


def replace_adlfs(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    module = ModuleType("adlfs")
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "adlfs", module)


@pytest.fixture(params=["installed", "old"])
def anonymous(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """Whether the version that is asked is anonymous where nothing is said."""
    isolate_clouds(monkeypatch, tmp_path, {})
    if request.param == "old":
        replace_adlfs(monkeypatch, OLD_RULE)
        return True
    return bool(AzureBlobFileSystem("acct", skip_instance_cache=True).anon)


@pytest.mark.parametrize("value", ["true", "1", "false", "0", "F"])
def test_the_variable_is_read_as_the_constructor_reads_it(anonymous: bool, value: str) -> None:
    threads = threading.active_count()
    assert asks_anonymously({}) is anonymous
    assert asks_anonymously({"AZURE_STORAGE_ANON": value}) is (value in ("true", "1"))
    assert asks_anonymously({"AZURE_STORAGE_CLIENT_ID": "i"}) is anonymous
    assert asks_anonymously({"AZURE_STORAGE_CONNECTION_STRING": "c"}) is anonymous
    assert threading.active_count() == threads


def test_an_empty_variable_is_read_as_the_version_reads_it(anonymous: bool) -> None:
    assert asks_anonymously({"AZURE_STORAGE_ANON": ""}) is anonymous


def test_what_is_written_is_what_that_version_does(anonymous: bool) -> None:
    converted = convert_source(NOTHING)
    assert ("azure_storage_skip_signature=True" in converted.code) is anonymous
    assert ('CredentialSource(kind="azure")' in converted.code) is not anonymous
    ((_, warnings),) = converted.done
    (said,) = (text for text in warnings if CODE in text)
    assert f"adlfs {version('adlfs')}, installed here" in said


def test_a_protocol_with_options_asks_that_version(anonymous: bool) -> None:
    config = protocol_registration("media", "abfs", {"account_name": "acct"}, "files/up", {}).translation.config
    assert config is not None
    assert (config.options.get("skip_signature") is True) is anonymous
    assert (config.credentials is not None) is not anonymous


@pytest.mark.parametrize("arguments", ['account_name="acct", anon=False', 'account_name="acct", account_key="eA=="'])
def test_who_says_it_is_not_asked(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    converted = convert_source(SOURCE.format(arguments=arguments))
    assert converted.left == ()
    assert len(converted.done) == 1


@pytest.mark.parametrize("source", [None, "", "class AzureBlobFileSystem:\n    def __init__(self, account): ..."])
def test_nothing_is_written_where_it_does_not_tell(monkeypatch: pytest.MonkeyPatch, source: str | None) -> None:
    if source is None:
        monkeypatch.setitem(sys.modules, "adlfs", None)
    else:
        replace_adlfs(monkeypatch, source)
    converted = convert_source(NOTHING)
    assert converted.code == NOTHING
    (left,) = converted.left
    assert "Give anon=True or anon=False" in left.reason
    (refused,) = protocol_registration("media", "abfs", {"account_name": "acct"}, "files/up", {}).translation.refused
    assert refused.code == "azure.anon.unknown"


LOCKS: dict[str, Any] = {
    "uv.lock": '[[package]]\nname = "adlfs"\nversion = "{}"\n',
    "poetry.lock": '[[package]]\nname = "adlfs"\nversion = "{}"\n',
    "pdm.lock": '[[package]]\nname = "adlfs"\nversion = "{}"\n',
    "pylock.toml": '[[packages]]\nname = "adlfs"\nversion = "{}"\n',
    "Pipfile.lock": json.dumps({"default": {"adlfs": {"version": "==VERSION"}}}).replace("{", "{{").replace("}", "}}").replace("VERSION", "{}"),
    "requirements.txt": "fsspec==2026.1.0\nadlfs[extra]=={} ; python_version > '3' # pinned\n",
}  # fmt: skip


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("above", [False, True])
def test_a_lock_with_another_version_leaves_it(tmp_path: Path, name: str, above: bool) -> None:
    project = tmp_path / "member" if above else tmp_path
    project.mkdir(exist_ok=True)
    (tmp_path / ".git").mkdir()
    lock = tmp_path / name
    lock.write_text(LOCKS[name].format("2024.12.0"))
    converted = convert_source(NOTHING, Conversion(project=project))
    assert converted.code == NOTHING
    assert "the lock of the project names adlfs 2024.12.0" in converted.left[0].reason
    lock.write_text(LOCKS[name].format(version("adlfs")))
    assert convert_source(NOTHING, Conversion(project=project)).left == ()
    lock.write_text("{ no lock")
    assert convert_source(NOTHING, Conversion(project=project)).left == ()


def test_the_class_to_import_instead_follows_it(anonymous: bool) -> None:
    backend: Any = FSSpecBackend("media", "abfs", "files/up", account_name="acct")
    assert bool(backend.registration.translation.config.options.get("skip_signature")) is anonymous
