"""Import the object of ``module:name``, and enter an ASGI lifespan."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from migrate_storage.application.describe_error import describe_error
from migrate_storage.application.lifespan import Lifespan
from migrate_storage.core.errors import ApplicationError
from migrate_storage.core.extras import install_advice
from migrate_storage.core.text import masked

__all__ = ("enter_lifespan", "import_function", "import_target")


def import_target(spec: str) -> tuple[ModuleType, Any]:
    """Import ``module`` or ``module:name``, and call it if it is a factory.

    Raises:
        ApplicationError: the module cannot be imported, or the object not be found or called.
    """
    name, _, attribute = spec.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ApplicationError(f"--app {masked(spec)}: write it as module or module:name, such as myapp.storage:app")
    module = _import_module(f"--app {spec}", name)
    target: Any = module
    for part in attribute.split(".") if attribute else ():
        try:
            target = getattr(target, part)
        except AttributeError:
            raise ApplicationError(f"--app {spec}: {name} has no {part!r}") from None
    if target is not module and _is_factory(target):
        try:
            target = target()
            if inspect.iscoroutine(target):
                target = asyncio.run(target)
        except (Exception, SystemExit) as error:
            raise ApplicationError(f"--app {spec}: calling it raised {describe_error(error)}") from error
    return module, target


def import_function(flag: str, spec: str) -> Callable[..., Any]:
    """Import the function of ``module:function``. It is not called.

    Args:
        flag: the option that names it, for messages.
        spec: as the user typed it.

    Raises:
        ApplicationError: the module cannot be imported, or has no such function.
    """
    name, _, attribute = spec.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise ApplicationError(
            f"{flag} {masked(spec)}: write a function as module:function, such as myapp.layout:name_copy"
        )
    target: Any = _import_module(f"{flag} {spec}", name)
    for part in attribute.split("."):
        target = getattr(target, part, None)
    if not callable(target) or inspect.iscoroutinefunction(target):
        raise ApplicationError(f"{flag} {spec}: {name} has no function {attribute!r}")
    return target  # type: ignore[no-any-return]


def _import_module(label: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ApplicationError(
                f"{label}: there is no module {error.name!r} in {here} or on the Python path"
            ) from None
        advice = install_advice(error)
        raise ApplicationError(
            f"{label}: importing it needs {error.name!r}, which is not installed here{advice and f': {advice}'}"
        ) from error
    except (Exception, SystemExit) as error:
        raise ApplicationError(f"{label}: importing it raised {describe_error(error)}") from error


def _is_factory(target: object) -> bool:
    return inspect.isroutine(target) or (inspect.isclass(target) and not hasattr(target, "__table__"))


def enter_lifespan(label: str, target: object) -> Lifespan:
    """Enter the lifespan of an ASGI application, or of a module's ``app``.

    Args:
        label: The name of the application in messages.
        target: The application or the module.

    Raises:
        ApplicationError: it is not an ASGI application, or its start-up failed.
    """
    if isinstance(target, ModuleType):
        target = getattr(target, "app", None) or getattr(target, "application", None)
    if target is None or not callable(target):
        raise ApplicationError(f"{label}: --lifespan needs an ASGI application: name it, as in myapp.main:app")
    entered = Lifespan(target)
    entered.enter()
    return entered
