"""The place where playbooks are followed: production names stand for local servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.support import ROOT
from tests.support.playbooks.names import BUCKETS, public_names
from tests.support.playbooks.page import Page
from tests.support.processes.forked import run_forked, write_command
from tests.support.recipes import S3_REGION
from tests.support.services import free_port, launched

PAGES = ROOT / "playbooks"


@pytest.fixture
def environment(tmp_path: Path, postgres_url: str) -> Iterator[dict[str, str]]:
    """Of the commands of a page; a test may change it before the page is opened."""
    with launched("rclone", tmp_path / "s3") as service:
        for bucket in BUCKETS:
            (tmp_path / "s3" / "data" / bucket).mkdir(parents=True)
        commands = tmp_path / "bin"
        commands.mkdir()
        write_command(commands)
        yield {
            "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTHONPATH": f"{tmp_path / 'acme'}",
            "DATABASE_URL": postgres_url,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{service.port}",
            "AWS_ACCESS_KEY_ID": service.credentials["key"],
            "AWS_SECRET_ACCESS_KEY": service.credentials["secret"],
            "AWS_REGION": S3_REGION,
            "AWS_DEFAULT_REGION": S3_REGION,
            "AWS_ALLOW_HTTP": "true",
            "API_PORT": str(free_port()),
            "SITE_PORT": str(free_port()),
        }


@pytest.fixture
def playbook(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Page]]:
    """Opens a page in a folder that holds what ``common/`` and ``NAME/`` here do, after its ``prepare.py`` has run.

    Its second argument is what the page calls otherwise.
    """
    folder = tmp_path / "acme"

    def opened(name: str, called: Mapping[str, str] | None = None) -> Page:
        for part in ("common", name):
            shutil.copytree(Path(__file__).parent / part, folder, dirs_exist_ok=True)
        prepared = run_forked(["prepare.py"], environment, folder)
        assert prepared.returncode == 0, prepared.stderr
        return Page(PAGES / f"{name}.md", folder, environment, {**(called or {}), **public_names(environment, folder)})

    yield opened
    _end_all(folder)


def _end_all(folder: Path) -> None:
    """What a page has left running."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder):
                process.kill()
