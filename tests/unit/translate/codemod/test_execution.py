"""What a converted module registers is what the old one translates to at run time."""

import os
import sys
import types
from pathlib import Path

import pytest
from advanced_alchemy.types.file_object import storages

from migrate_storage.translate.codemod import convert_source
from migrate_storage.translate.registration import read

SHAPES = sorted((Path(__file__).parent / "shapes").glob("*.before"))
ENVIRONMENT = {"KEY": "K", "SECRET": "S", "BUCKET": "bucket/a b%20", "AWS_SECRET": "S", "REGION": "eu-west-3"}
ENVIRONMENT |= {
    "AZURE_KEY": "c2VjcmV0",
    "AZURE_STORAGE_CONNECTION": "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net",
}
#: What these need is not there: a key file, a profile, the cloud's own metadata.
RUNNABLE = [p for p in SHAPES if p.stem not in ("09_service_account", "10_default_credentials", "15_memory_in_tests")]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {**os.environ, **ENVIRONMENT})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aws").write_text("[profile staging]\naws_access_key_id = K\naws_secret_access_key = S\n")
    monkeypatch.setitem(os.environ, "AWS_CONFIG_FILE", str(tmp_path / "aws"))
    settings = types.ModuleType("settings")
    settings.settings = types.SimpleNamespace(key="K", secret="S")
    settings.ENVIRONMENT = "staging"
    monkeypatch.setitem(sys.modules, "settings", settings)
    before = dict(storages._registry)
    storages._registry.clear()
    yield
    storages._registry.clear()
    storages._registry.update(before)


def registered(code: str, tmp_path) -> dict:
    code = code.replace('"/var/app/uploads"', f'"{tmp_path}/uploads"').replace(
        "file:///var/app/uploads", f"file://{tmp_path}/uploads"
    )
    code = code.replace('"/srv/old"', f'"{tmp_path}/old"').replace("file:///srv/old", f"file://{tmp_path}/old")
    space: dict = {"__file__": str(tmp_path / "module.py"), "__name__": "module"}
    exec(compile(code, "module", "exec"), space)
    if "register" in space:
        space["register"]()
    found = {key: storages.get_backend(key) for key in storages.registered_backends()}
    storages._registry.clear()
    return found


@pytest.mark.parametrize("path", RUNNABLE, ids=[path.stem for path in RUNNABLE])
def test_the_same_stores(path, tmp_path):
    source = path.read_text()
    old = registered(source, tmp_path)
    new = registered(convert_source(source).code, tmp_path)
    assert old.keys() == new.keys()
    assert old
    for key, backend in old.items():
        if backend.driver == "obstore":
            continue
        assert new[key].driver == "obstore"
        before, after = read(backend), read(new[key])
        assert after.place("d/x") == before.place("d/x")
        expected = {
            name: value
            for name, value in before.translation.config.options.items()
            if name not in ("endpoint", "mkdir")
        }
        if "region" not in after.translation.config.options:
            expected.pop("region", None)
        got = {name: value for name, value in after.translation.config.options.items() if name in expected}
        if after.translation.config.options.get("connection_string"):
            continue
        assert got == expected
