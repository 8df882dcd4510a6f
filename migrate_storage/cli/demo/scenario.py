"""The folder of the demo: an application, its files, and their comparison."""

from __future__ import annotations

import contextlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import func, select

from migrate_storage.application.application import Application, load_application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.run.options import RunOptions

__all__ = ("FILES", "Comparison", "Demo")

FILES = 500
_MODULE_FILES, _PACKAGE_FILES, _FILES_PER_PACKAGE = 300, 150, 3
_AUTHORS_WITHOUT_FILE = 20
_CONFIGURATION = 'app = "app"\nfrom = "old"\nto = "new"\n'


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of every row's file with its original."""

    #: Files whose content from ``FileObject.get_content()`` is equal to the original.
    equal: int
    #: Names of files with other content.
    different: tuple[str, ...]
    #: Files without an original, because the application saved them later.
    later: int
    #: Files that rows still name under the old key.
    at_old_key: int


class Demo:
    """A folder with an application, its database and its two stores.

    Attributes:
        directory: The absolute path of the folder.
    """

    options = RunOptions(source="old", destination="new", settle_time=0.0)

    def __init__(self, directory: Path) -> None:
        """Set the path of the folder, without creating it."""
        self.directory = directory.absolute()

    @property
    def exists(self) -> bool:
        """Whether an earlier demo has created the application."""
        return (self.directory / "app.db").exists()

    def prepare(self) -> int:
        """Create the folder and save the files, unless an earlier demo did.

        Returns:
            The number of files in rows.

        Raises:
            ConfigurationError: when the folder cannot be created, or contains something else.
        """
        program = resources.files("migrate_storage.cli.demo").joinpath("application.py").read_text(encoding="utf-8")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if any(self.directory.iterdir()) and not (self.directory / "app.py").exists():
                raise ConfigurationError(f"{self.directory} is not empty: name another folder with --directory")
            (self.directory / "app.py").write_text(program, encoding="utf-8")
            (self.directory / "migrate-storage.toml").write_text(_CONFIGURATION, encoding="utf-8")
            for name in ("old", "new"):
                (self.directory / name).mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.directory} cannot be made: {error.strerror}") from None
        with self._import_app() as app:
            app.Base.metadata.create_all(app.database.get_engine())
            with app.database.get_session() as session:
                if not session.scalar(select(func.count()).select_from(app.Author)):
                    session.add_all(_make_rows(app))
                    session.commit()
                return sum(1 for _ in _yield_files(app, session))

    def application(self) -> Application:
        """Load the application as ``--app app`` does."""
        with contextlib.chdir(self.directory):
            return load_application("app")

    def compare(self) -> Comparison:
        """Compare every row's file with the original in the Python installation."""
        library = _find_library()
        equal, later, at_old_key = 0, 0, 0
        different: list[str] = []
        with self._import_app() as app, app.database.get_session() as session:
            for file in _yield_files(app, session):
                at_old_key += file.backend.key == "old"
                content = file.get_content()
                original = library / file.path
                if not original.is_file():
                    later += 1
                elif content == original.read_bytes():
                    equal += 1
                else:
                    different.append(file.path)
        return Comparison(equal=equal, different=tuple(different), later=later, at_old_key=at_old_key)

    @contextlib.contextmanager
    def _import_app(self) -> Iterator[ModuleType]:
        with contextlib.chdir(self.directory):
            sys.path.insert(0, str(self.directory))
            try:
                yield importlib.import_module("app")
            finally:
                sys.path.remove(str(self.directory))


def _find_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _choose_originals() -> list[Path]:
    """Return files spread over the whole standard library, the same each time."""
    library = _find_library()
    installed = {"site-packages", "dist-packages"}
    there = sorted(path for path in library.rglob("*.py") if not installed & set(path.parts) and path.stat().st_size)
    return there if len(there) <= FILES else [there[number * len(there) // FILES] for number in range(FILES)]


def _make_rows(app: ModuleType) -> Iterator[Any]:
    """Yield rows of the three models: all files, and some rows without a file."""
    library = _find_library()
    files = [
        app.FileObject(
            backend="old",
            filename=path.relative_to(library).as_posix(),
            content=path.read_bytes(),
            content_type="text/x-python",
        )
        for path in _choose_originals()
    ]
    packages = files[_MODULE_FILES : _MODULE_FILES + _PACKAGE_FILES]
    for file in files[:_MODULE_FILES]:
        yield app.Module(source=file)
    for number in range(0, len(packages), _FILES_PER_PACKAGE):
        yield app.Package(
            name=f"package {number // _FILES_PER_PACKAGE}", sources=packages[number : number + _FILES_PER_PACKAGE]
        )
    for file in files[_MODULE_FILES + _PACKAGE_FILES :] + [None] * _AUTHORS_WITHOUT_FILE:
        yield app.Author(sample=file)


def _yield_files(app: ModuleType, session: Any) -> Iterator[Any]:
    for module in session.scalars(select(app.Module)):
        yield module.source
    for package in session.scalars(select(app.Package)):
        yield from package.sources
    for author in session.scalars(select(app.Author)):
        if author.sample is not None:
            yield author.sample
