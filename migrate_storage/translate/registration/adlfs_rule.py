"""Ask the installed adlfs what it does without credentials: ask anonymously, or make a ``DefaultAzureCredential``.

Versions before 2026 ask anonymously, later ones do not. A live filesystem has the answer in its attribute ``anon``; here
it is asked for options that are only written down.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

__all__ = ("asks_anonymously", "find_default_of_project", "with_default_of_anon")


class _AskedError(BaseException):
    """Ends a constructor that has decided."""


def asks_anonymously(environment: Mapping[str, str]) -> bool | None:
    """Return the ``anon`` of the installed adlfs for a filesystem that is made without it.

    Its constructor runs up to the point where it would connect. Nothing is opened, and no thread is started.

    Args:
        environment: the variables that it reads instead of those of the process.

    Returns:
        ``None`` where adlfs is not installed, or has another constructor than is known.
    """
    try:
        from adlfs import AzureBlobFileSystem
    except Exception:  # noqa: BLE001 - a broken installation answers nothing, whatever it raises
        return None

    class Asked(AzureBlobFileSystem):  # type: ignore[misc]
        def do_connect(self) -> None:
            raise _AskedError

        def _get_default_azure_credential(self, **_: Any) -> Any:
            raise _AskedError

        def _get_credential_from_service_principal(self) -> Any:
            raise _AskedError

    made = object.__new__(Asked)
    try:
        _with_environment(AzureBlobFileSystem.__init__, environment)(
            made, account_name="nobody", loop=SimpleNamespace(), asynchronous=True, skip_instance_cache=True
        )
    except _AskedError:
        pass
    except Exception:  # noqa: BLE001 - the constructor of an unknown version may expect anything
        return None
    found = getattr(made, "anon", None)
    return found if isinstance(found, bool) else None


def _with_environment(function: Any, environment: Mapping[str, str]) -> Any:
    """Return a function that reads other variables than those of the process."""

    def getenv(name: str, default: str | None = None) -> str | None:
        return environment.get(name, default)

    variables = {**function.__globals__, "os": SimpleNamespace(getenv=getenv, environ=environment)}
    made = FunctionType(
        function.__code__, variables, function.__name__, function.__defaults__, closure=function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def with_default_of_anon(options: Mapping[str, Any], environment: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the options of an ``AzureBlobFileSystem`` with what the installed version takes for ``anon``."""
    if options.get("anon") is not None:
        return options
    found = asks_anonymously(environment)
    return options if found is None else {**options, "anon": found}


def find_default_of_project(project: Path | None) -> tuple[bool | None, str]:
    """Return the ``anon`` of the adlfs that a project uses, as far as the installed one shows it, and the reason.

    Args:
        project: its folder, whose lock files may name another version; ``None`` for code that belongs to none.
    """
    try:
        installed = version("adlfs")
    except PackageNotFoundError:
        return None, "adlfs is not installed here"
    if locked := _find_locked_versions(project) - {installed}:
        return (
            None,
            f"the lock of the project names adlfs {' and '.join(sorted(locked))}, and {installed} is installed here",
        )
    found = asks_anonymously({})
    if found is None:
        return None, f"adlfs {installed}, installed here, does not show it"
    return (
        found,
        f"adlfs {installed}, installed here, then {'asks anonymously' if found else 'makes a DefaultAzureCredential'}",
    )


def _find_locked_versions(project: Path | None) -> frozenset[str]:
    """Return the versions in the lock files of a project, or of the nearest folder above it in the same repository."""
    for folder in (project, *project.parents) if project else ():
        if found := frozenset(each for name in _LOCKS for each in _read_lock(folder / name)):
            return found
        if (folder / ".git").exists():
            break
    return frozenset()


_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock", "requirements.txt", "requirements.lock")


def _read_lock(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.name == "Pipfile.lock":
            sections = json.loads(text)
            found = (sections.get(name, {}).get("adlfs", {}).get("version", "") for name in ("default", "develop"))
            yield from (each.lstrip("=") for each in found if each)
        elif path.name.startswith("requirements"):
            yield from re.findall(r"(?mi)^adlfs(?:\[[^\]]*\])?\s*===?\s*([^\s;#\\]+)", text)
        else:
            lock = tomllib.loads(text)
            packages = [*lock.get("package", ()), *lock.get("packages", ())]
            yield from (str(each["version"]) for each in packages if each.get("name") == "adlfs" and "version" in each)
    except (OSError, ValueError, AttributeError, TypeError):
        return
