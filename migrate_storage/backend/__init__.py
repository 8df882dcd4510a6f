"""ObstoreBackend: advanced-alchemy's storage backend over obstore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrate_storage.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from migrate_storage.backend.obstore import ObstoreBackend
    from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, UploadRefusedError
    from migrate_storage.translate.model import CredentialSource

__all__ = ("ConfigurationError", "CredentialSource", "KeyRefusedError", "ObstoreBackend", "UploadRefusedError")

__getattr__ = lazy_attributes(
    __name__,
    {
        "migrate_storage.backend.obstore": ("ObstoreBackend",),
        "migrate_storage.core.errors": ("ConfigurationError", "KeyRefusedError", "UploadRefusedError"),
        "migrate_storage.translate.model": ("CredentialSource",),
    },
)
