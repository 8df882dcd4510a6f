"""ObstoreBackend: advanced-alchemy's storage backend over obstore, complete."""

from migrate_storage.backend.obstore import ObstoreBackend

__all__ = ("ObstoreBackend",)
