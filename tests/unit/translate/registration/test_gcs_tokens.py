"""A ``token`` that gcsfs takes for an access token, though it was meant for something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from gcsfs import GCSFileSystem

from migrate_storage.translate.registration import read_filesystem
from tests.support.translate.documented_forms import isolate_clouds


@pytest.mark.parametrize(
    ("token", "code"),
    [("", "gcs.token.empty"), ("FOLDER/no-file.json", "gcs.token.missing"), ("~/sa.json", "gcs.token.missing")],
)
def test_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str, code: str) -> None:
    isolate_clouds(monkeypatch, tmp_path, {})
    filesystem = GCSFileSystem(token=token.replace("FOLDER", str(tmp_path)), skip_instance_cache=True)
    (refused,) = read_filesystem(filesystem, "bkt/up").translation.refused
    assert refused.code == code
    assert refused.todo


def test_an_access_token_stays_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_clouds(monkeypatch, tmp_path, {})
    filesystem = GCSFileSystem(token="ya29.abc/def", skip_instance_cache=True)
    config = read_filesystem(filesystem, "bkt/up").translation.config
    assert config is not None
    assert config.options["bearer_token"] == "ya29.abc/def"
