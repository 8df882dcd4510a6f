"""Move an application's stored files from fsspec to obstore without losing one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrate_storage.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from migrate_storage.application.pair_registration import register_pair
    from migrate_storage.backend.obstore import ObstoreBackend
    from migrate_storage.cli import add_storage_commands
    from migrate_storage.cutover.backend import CutoverBackend

__version__ = "0.1.0"

__all__ = ("CutoverBackend", "ObstoreBackend", "__version__", "add_storage_commands", "register_pair")

__getattr__ = lazy_attributes(
    __name__,
    {
        "migrate_storage.application.pair_registration": ("register_pair",),
        "migrate_storage.backend.obstore": ("ObstoreBackend",),
        "migrate_storage.cli": ("add_storage_commands",),
        "migrate_storage.cutover.backend": ("CutoverBackend",),
    },
)
