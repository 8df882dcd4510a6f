"""A project on disk as a user has one, and the command line in a process."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support import ROOT
from tests.support.processes.forked import ForkedProcess, run_forked

APPLICATION = """
    import os
    from pathlib import Path
    import fsspec
    import sqlalchemy as sa
    from advanced_alchemy.config import SQLAlchemySyncConfig
    from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
    from migrate_storage.backend import ObstoreBackend
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    HERE = Path(__file__).parent
    storages.register_backend(
        FSSpecBackend(key="old", fs=fsspec.filesystem("file", auto_mkdir=True), prefix=str(HERE / "old")))
    (HERE / "new").mkdir(exist_ok=True)
    storages.register_backend(ObstoreBackend(key="new", fs=f"file://{HERE}/new"))

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id = mapped_column(sa.Integer, primary_key=True)
        title = mapped_column(sa.String(50))
        file = mapped_column(StoredObject(backend="old"))

    database = SQLAlchemySyncConfig(connection_string=os.environ.get("APP_DATABASE") or f"sqlite:///{HERE}/app.db")

    def fill(count, size=10):
        Base.metadata.create_all(database.get_engine())
        with database.get_session() as session:
            for number in range(count):
                content = (b"%d " % number).ljust(size, b".")
                file = FileObject(backend="old", filename=f"d/{number}.txt", content=content, content_type="text/plain")
                session.add(Document(title=str(number), file=file))
            session.commit()

    if __name__ == "__main__":
        import sys
        fill(*map(int, sys.argv[1:]))
"""


@dataclass
class Project:
    """A folder with an application in it."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def process(self, *arguments: str) -> ForkedProcess:
        """Start ``python ARGUMENTS`` in the folder."""
        return ForkedProcess(arguments, self._environment, self.directory)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``python ARGUMENTS`` in the folder to its end."""
        return run_forked(arguments, self._environment, self.directory)

    def start(self, *arguments: str) -> ForkedProcess:
        """Start the command."""
        return self.process("-m", "migrate_storage", *arguments)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return self.python("-m", "migrate_storage", *arguments)

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATE_STORAGE_")}
        return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **self.environment}

    def write(self, source: str, name: str = "app.py") -> None:
        (self.directory / name).write_text(textwrap.dedent(source), encoding="utf-8")

    def fill(self, count: int, size: int = 10) -> None:
        ended = self.python("app.py", str(count), str(size))
        assert ended.returncode == 0, ended.stderr

    def snapshot(self) -> dict[str, str]:
        """Return the digest of every file in the folder."""
        return {
            str(path.relative_to(self.directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.directory.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }

    def keys(self) -> dict[str, int]:
        """Count the rows of each backend key."""
        engine = sa.create_engine(f"sqlite:///{self.directory}/app.db")
        statement = "SELECT json_extract(file, '$.backend'), count(*) FROM document GROUP BY 1"
        with engine.connect() as connection:
            return {str(key): count for key, count in connection.exec_driver_sql(statement)}


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A folder with nothing in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An application with ten documents. It names no absolute path, so it can be copied."""
    made = Project(tmp_path_factory.mktemp("pattern"))
    made.write(APPLICATION)
    made.fill(10)
    return made.directory


@pytest.fixture
def project(empty: Project, pattern: Path) -> Project:
    """An application with ten documents, saved through FSSpecBackend."""
    shutil.copytree(pattern, empty.directory, dirs_exist_ok=True)
    return empty


def one_line_of(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a refused command's stderr; anything more fails the test."""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("migrate-storage: warning:")]
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("migrate-storage: "), lines
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    return lines[0].removeprefix("migrate-storage: ")
