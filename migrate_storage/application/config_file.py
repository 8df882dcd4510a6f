"""The configuration file: options of the command line, and backends.

::

    app = "myapp.storage"                # or: database = "postgresql+psycopg://me:${DB_PASSWORD}@host/name"
    from = "old"
    to = "new"

    [source]                             # only where no application registers the backend
    key = "old"
    fs = "s3"                            # an fsspec protocol
    prefix = "bucket/uploads"
    options = { key = "${AWS_ACCESS_KEY_ID}", secret = "${file:/run/secrets/aws}" }

    [destination]
    key = "new"
    fs = "s3://bucket/uploads"           # an obstore URL
    options = { region = "eu-central-1" }

``${NAME}`` is an environment variable, and ``${file:/path}`` the content of a file without its last line break. ``$${``
is a plain ``${``. No message contains a value.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import one_line, visible

if TYPE_CHECKING:
    from advanced_alchemy.types.file_object import StorageBackend

__all__ = ("DEFAULT_FILE", "BackendSettings", "Settings", "load_settings")

DEFAULT_FILE = Path("migrate-storage.toml")

_DRIVERS = {"source": "fsspec", "destination": "obstore"}
_BACKEND_KEYS = ("key", "driver", "fs", "prefix", "options")
_REFERENCE = re.compile(r"\$(?P<plain>\$\{)|\$\{(?P<name>[^}]*)\}")


@dataclass(frozen=True, kw_only=True)
class BackendSettings:
    """A storage backend that the configuration file describes."""

    #: Key of the backend.
    key: str
    #: ``fsspec`` or ``obstore``.
    driver: str
    #: An fsspec protocol, or an obstore URL.
    fs: str
    prefix: str | None = None
    #: Further arguments of the fsspec filesystem or the obstore store.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def build(self) -> StorageBackend:
        """Make the backend. It is not registered, and no request is sent.

        Raises:
            ConfigurationError: when the library raises an error, or is not installed.
        """
        try:
            if self.driver == "fsspec":
                import fsspec
                from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

                # FSSpecBackend(key=...) is the backend key, but s3fs has an option `key` too. So the filesystem is made here.
                filesystem = fsspec.filesystem(self.fs, **self.options)
                return FSSpecBackend(key=self.key, fs=filesystem, prefix=self.prefix)
            from migrate_storage.backend import ObstoreBackend

            return ObstoreBackend(key=self.key, fs=self.fs, prefix=self.prefix or "", **self.options)
        except ConfigurationError as error:
            raise ConfigurationError(f"the backend {self.key!r} cannot be made: {error}") from None
        except Exception as error:  # noqa: BLE001 - each library raises its own types
            raise ConfigurationError(f"the backend {self.key!r} cannot be made: {one_line(error)}") from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The content of the configuration file."""

    #: The file; ``None`` if there is no file.
    path: Path | None = None
    #: Options by their name on the command line, without the dashes.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    source: BackendSettings | None = None
    destination: BackendSettings | None = None

    def backends(self) -> dict[str, StorageBackend]:
        """Make the backends that the file describes, by key.

        Raises:
            ConfigurationError: when one cannot be made.
        """
        return {backend.key: backend.build() for backend in (self.source, self.destination) if backend is not None}


def load_settings(
    path: Path | None,
    known: Collection[str],
    environment: Mapping[str, str] | None = None,
    *,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """Read a configuration file.

    Args:
        path: The file; ``None`` means :data:`DEFAULT_FILE` in the working directory, if it exists.
        known: Names of the command line's options, without the dashes.
        environment: The variables of ``${NAME}``; the process's environment by default.
        renamed: Earlier names of options, with those of today.

    Raises:
        ConfigurationError: the file is not TOML, or has an unknown or earlier name. The message names the line.
    """
    if path is None:
        if not DEFAULT_FILE.is_file():
            return Settings()
        path = DEFAULT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror or one_line(error)}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--config {path}: the file is not UTF-8 text") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {_describe_syntax_error(error, text)}") from None
    reader = _Reader(path, text, os.environ if environment is None else environment)
    return reader.read_settings(data, known, renamed)


def _describe_syntax_error(error: tomllib.TOMLDecodeError, text: str) -> str:
    """Return the message with the line first. The decoder has it last."""
    message = str(error)
    match = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line = match[1] if match else str(text.count("\n") + (not text.endswith("\n")))
    return f"line {line}: not TOML: {visible(re.sub(r' *[(]at [^)]*[)]', '', message))}"


@dataclass(frozen=True)
class _Reader:
    """Turns the parsed TOML of one file into settings."""

    path: Path
    text: str
    environment: Mapping[str, str]

    def read_settings(self, data: Mapping[str, Any], known: Collection[str], renamed: Mapping[str, str]) -> Settings:
        options: dict[str, Any] = {}
        backends: dict[str, BackendSettings] = {}
        for raw, value in data.items():
            name = raw.replace("_", "-")
            if name in _DRIVERS:
                backends[name] = self._read_backend(name, value)
            elif name in renamed:
                raise self._make_error(raw, f"{raw!r} is now called {renamed[name]!r}")
            elif name not in known:
                raise self._refuse_name(raw, "", {*known, *_DRIVERS})
            elif isinstance(value, dict):
                raise self._make_error(raw, f"{raw!r} is a table, but should be a value")
            else:
                options[name] = self._resolve(value, raw)
        for option, side in (("from", "source"), ("to", "destination")):
            if side in backends:
                options.setdefault(option, backends[side].key)
        return Settings(
            path=self.path, options=options, source=backends.get("source"), destination=backends.get("destination")
        )

    def _read_backend(self, side: str, table: object) -> BackendSettings:
        if not isinstance(table, dict):
            raise self._make_error(side, f"{side!r} should be a table: [{side}]")
        for name in table:
            if name not in _BACKEND_KEYS:
                raise self._refuse_name(name, side, _BACKEND_KEYS)
        values = self._resolve(table, side)
        for name in ("key", "fs"):
            if not isinstance(values.get(name), str) or not values[name]:
                raise self._make_error(side, f'[{side}] needs {name} = "..."')
        driver = values.get("driver", _DRIVERS[side])
        if driver not in _DRIVERS.values():
            raise self._make_error("driver", f"[{side}] driver should be fsspec or obstore")
        if not isinstance(values.get("options", {}), dict):
            raise self._make_error("options", f"[{side}] options should be a table")
        return BackendSettings(**{"driver": driver, **values})

    def _resolve(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            return _REFERENCE.sub(lambda match: self._resolve_reference(match, key), value)
        if isinstance(value, list):
            return [self._resolve(item, key) for item in value]
        if isinstance(value, dict):
            return {name: self._resolve(item, name) for name, item in value.items()}
        return value

    def _resolve_reference(self, match: re.Match[str], key: str) -> str:
        if match["plain"]:
            return match["plain"]
        name = match["name"]
        if not name.startswith("file:"):
            try:
                return self.environment[name]
            except KeyError:
                raise self._make_error(key, f"{key}: the environment variable {visible(name)!r} is not set") from None
        try:
            return Path(name.removeprefix("file:")).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise self._make_error(
                key, f"{key}: {visible(name.removeprefix('file:'))} cannot be read: {reason}"
            ) from None

    def _refuse_name(self, name: str, table: str, known: Collection[str]) -> ConfigurationError:
        near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(known))}"
        where = f" in [{table}]" if table else ""
        return self._make_error(name, f"{visible(name)!r} is no option{where}: {hint}")

    def _make_error(self, key: str, message: str) -> ConfigurationError:
        line = self._find_line(key)
        return ConfigurationError(f"{self.path}: {f'line {line}: ' if line else ''}{message}")

    def _find_line(self, key: str) -> int | None:
        """Return the first line with a key. ``tomllib`` reports no positions."""
        pattern = re.compile(
            rf"^\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[\]=.]|[{{,]\s*[\"']?{re.escape(key)}[\"']?\s*="
        )
        for number, line in enumerate(self.text.splitlines(), 1):
            if pattern.search(line):
                return number
        return None
