"""Someone new has a copy of the repository and types what README.md and the first playbook say, in that order, and nothing else.

A copy and environments that nobody has used; what they need is installed from the package index, as anybody would.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.evidence import Evidence
from tests.support.playbooks.names import public_names
from tests.support.playbooks.page import Page

STORAGE = """\
import os
from pathlib import Path

import fsspec
import sqlalchemy as sa
from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from migrate_storage import ObstoreBackend
from sqlalchemy.orm import DeclarativeBase, mapped_column

HERE = Path(__file__).parent
(HERE / "new").mkdir(exist_ok=True)
storages.register_backend(
    FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(HERE / "old"))
)
storages.register_backend(ObstoreBackend("new", f"file://{HERE}/new"))
engine = sa.create_engine(f"sqlite:///{HERE}/app.db")


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "documents"
    id = mapped_column(sa.Integer, primary_key=True)
    file = mapped_column(StoredObject(backend="old"))
"""
FILL = """\
from myapp.storage import *
from sqlalchemy.orm import Session
Base.metadata.create_all(engine)
with Session(engine) as session:
    for number in range(250):
        file = FileObject(backend="old", filename=f"{number}.txt")
        file.save(b"document %d" % number)
        session.add(Document(id=number, file=file))
    session.commit()
"""


def commands(readme: str, heading: str) -> Iterator[str]:
    """What a section of README.md says to type, without its remarks."""
    section = readme.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("    ") and line.strip():
            yield re.split(r"\s+# ", line.strip())[0]


def test_the_sections_are_read() -> None:
    readme = (ROOT / "README.md").read_text()
    assert list(commands(readme, "Try it")) == [
        "scripts/migrate",
        "scripts/test",
        "pip install .",
        "migrate-storage demo",
    ]
    assert len(list(commands(readme, "Use it"))) == 8


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_who_types_what_is_written_gets_there(tmp_path: Path, environment: dict[str, str], evidence: Evidence) -> None:
    clone, folder = tmp_path / "migrate-storage", tmp_path / "acme"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    strange = ("MIGRATE_STORAGE", "AWS_", "VIRTUAL_ENV", "PYTHON", "DATABASE_URL", "COV_", "PYTEST")
    fresh = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    path = [part for part in os.environ["PATH"].split(":") if str(ROOT) not in part]
    fresh |= {"HOME": str(tmp_path), "PATH": ":".join(path)}
    took: dict[str, float] = {}

    def types(line: str, where: Path = clone, **more: str) -> str:
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", line], cwd=where, env=fresh | more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=1800,
        )  # fmt: skip
        took[line] = round(time.monotonic() - began, 1)
        assert done.returncode in ((0, 4) if "--limit" in line else (0,)), (
            f"{line}: {done.returncode}\n{done.stdout[-3000:]}"
        )
        return done.stdout

    readme = (clone / "README.md").read_text()
    migrate, test, install, demo = commands(readme, "Try it")
    assert "500 files equal to the original, byte by byte; 0 different" in types(migrate)
    # All set-up, and of the tests only some: the soak that this is a part of runs the others.
    assert " passed" in types(f"{test} -k test_text", clone)

    own = {"PATH": f"{tmp_path}/own/bin:{fresh['PATH']}"}
    types("python3 -m venv own", tmp_path)
    types(install, clone, **own)
    (tmp_path / "elsewhere").mkdir()
    assert "500 files equal to the original" in types(demo, tmp_path / "elsewhere", **own)

    work = tmp_path / "work"
    (work / "myapp").mkdir(parents=True)
    (work / "myapp" / "storage.py").write_text(STORAGE)
    (work / "fill.py").write_text(FILL)
    types("python fill.py", work, **own)
    # The other block registers backends, as the application here does.
    [code] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "RunJob" in block]
    (work / "moves.py").write_text(code)
    said = ""
    for line in commands(readme, "Use it"):
        said = types(line, work, **own)
        if "migrate-storage verify" in line:
            assert "250 objects checked, all as they should be" in said
        if line.startswith("migrate-storage run") and "--limit" not in line:
            assert "no row names 'old' any more" in said
            assert types("python moves.py", work, **own).startswith("0 {")
    assert "A plan, nothing was changed" in said, "purge is the last, and without --yes"

    types(install.replace(".", "'.[s3fs,postgres]'"), clone, **own)
    for part in ("common", "swap"):
        subprocess.run(["cp", "-r", f"{clone}/tests/documentation/playbooks/{part}/.", str(folder)], check=True)
    environment |= own
    subprocess.run(["python", "prepare.py"], cwd=folder, env=environment, check=True)
    Page(clone / "playbooks" / "swap.md", folder, environment, public_names(environment, folder)).follow()
    evidence.record(
        "somebody new, with a fresh copy and fresh environments, typed what README.md and the first playbook say, and got there",
        commands=len(took), seconds=took,
    )  # fmt: skip
