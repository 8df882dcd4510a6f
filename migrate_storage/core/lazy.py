"""Imports on first use, so that a command starts without obstore and SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ("lazy_attributes",)


def lazy_attributes(package: str, exports: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` (PEP 562) that imports a name on first use.

    Args:
        package: the ``__name__`` of the module.
        exports: by the dotted name of the module that defines them, the exported names.

    Returns:
        A function that returns the attribute, or raises ``AttributeError`` for any other name.
    """
    homes = {name: module for module, names in exports.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find
