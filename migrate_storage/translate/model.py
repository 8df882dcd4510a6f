"""The result of a translation: a store's configuration and credential source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrate_storage.core.model import Note, Severity

__all__ = ("CredentialSource", "StoreConfig", "Translation")


@dataclass(frozen=True, kw_only=True, slots=True)
class CredentialSource:
    """The source of credentials that are not plain options, without the credentials.

    ``kind`` selects the provider that is built when the store is opened: ``boto3`` (a profile, SSO, an assumed role),
    ``google`` (google.auth), ``azure`` (azure.identity), ``static`` (``options`` are the credentials), ``object``
    (``provider`` is a live obstore credential provider or a credentials object of the running process).
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    provider: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """The configuration of an obstore store, as values. ``repr`` shows no secret."""

    #: ``s3``, ``gcs``, ``azure``, ``file``, ``memory`` or ``http``.
    service: str
    #: Bucket, container, absolute directory or base URL. Empty when each row names its own bucket.
    root: str
    #: Raw key prefix inside ``root``: never percent-encoded, no slash at either end.
    prefix: str = ""
    #: obstore configuration keys without the ``aws_``, ``google_``, ``azure_`` prefix, such as ``region``.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: obstore ``ClientConfig`` keys, such as ``allow_http``.
    client_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: obstore ``RetryConfig`` keys.
    retry: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: CredentialSource | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """An fsspec configuration as an obstore configuration, with notes.

    ``config`` is ``None`` where obstore has no such store; then at least one note is ``refused``.
    """

    config: StoreConfig | None
    notes: tuple[Note, ...] = ()

    @property
    def refused(self) -> tuple[Note, ...]:
        """The notes about what cannot be translated."""
        return tuple(note for note in self.notes if note.severity is Severity.REFUSED)
