"""ACME's application, as a command finds it: its models, and the engine and backends of its storage."""

from acme.models import Upload
from acme.storage import engine

__all__ = ("Upload", "engine")
