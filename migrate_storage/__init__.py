"""Move an application's stored files from fsspec to obstore without losing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migrate_storage.backend import ObstoreBackend
    from migrate_storage.cutover.backend import CutoverBackend
    from migrate_storage.dual import dual_register

__version__ = "0.1.0"

__all__ = ("CutoverBackend", "ObstoreBackend", "__version__", "dual_register")


def __getattr__(name: str) -> Any:
    # Late, so that reading a value of the house loads neither obstore nor SQLAlchemy.
    if name == "ObstoreBackend":
        from migrate_storage.backend import ObstoreBackend

        return ObstoreBackend
    if name == "CutoverBackend":
        from migrate_storage.cutover.backend import CutoverBackend

        return CutoverBackend
    if name == "dual_register":
        from migrate_storage.dual import dual_register

        return dual_register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
