"""ObstoreBackend: advanced-alchemy's storage backend over obstore, complete."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend import signing
from migrate_storage.backend.base import several, text
from migrate_storage.backend.config import read_configuration, read_store
from migrate_storage.backend.read_operations import Reads
from migrate_storage.backend.write_operations import Writes
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.object_keys import unaddressable
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.config.option_names import SECRETS
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run
from migrate_storage.translate.model import StoreConfig

__all__ = ("ObstoreBackend",)

#: Keys that need no second look: by far most of them.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}(?:/[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}){0,3}")
#: Bytes of a key. Sources: Amazon S3 "Naming objects"; Cloud Storage "Object naming"; Azure "Naming blobs".
_LONGEST_KEY = 1024


class ObstoreBackend(Reads, Writes):
    """Files on S3, Google Cloud Storage, Azure, a local disk or in memory.

    Takes the place of advanced-alchemy's class of the same name. Every operation comes in two, ``name`` and
    ``name_async``, with the same behaviour.

    Args:
        key: the name under which rows and columns know the backend.
        fs: a URL (``s3://BUCKET/PREFIX/``, ``gs://``, ``az://``, ``file:///``, ``memory://``, or a vendor's
            ``https://``), a path, or an obstore store.
        prefix: raw key prefix below ``fs``, never percent-encoded.
        store_metadata: whether the user metadata of a file is kept with the object; the row keeps it anyway.
        exact_last_modified: whether to ask the store for the time of a save (one request more); our clock otherwise.
        **options: store options in any spelling that obstore knows, with or without ``aws_``, ``google_``, ``azure_``;
            client options; ``config``, ``client_options``, ``retry_config``, ``credential_provider``. ``None`` is left out.

    Raises:
        ConfigurationError: what cannot work, in one line that says what to write instead.

    Attributes:
        fs: the obstore store, ``prefix`` inside.
        config: the store in values; ``None`` where a store was passed that does not tell.
    """

    driver = "obstore"

    def __init__(
        self,
        key: str,
        fs: Any,
        *,
        prefix: str | None = None,
        store_metadata: bool = True,
        exact_last_modified: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(fs, StoreConfig):
            config: StoreConfig | None = fs
            store = open_store(fs)
        elif isinstance(fs, str | PurePath):
            config = read_configuration(Path(fs) if isinstance(fs, PurePath) else fs, prefix, options)
            store = open_store(config)
        else:
            given = sorted(name for name, value in {**options, "prefix": prefix}.items() if value is not None)
            if given:
                raise ConfigurationError(f"{', '.join(given)}: a store is opened already; pass options with a URL")
            config, store = read_store(fs), fs
        self._describe(key, store, config, store_metadata, exact_last_modified)

    def _describe(
        self, key: str, store: Any, config: StoreConfig | None, store_metadata: bool, exact_last_modified: bool
    ) -> None:
        self.key = key
        self.fs = store
        self.config = config
        self.protocol = config.service if config else _protocol_of(store)
        self.store_metadata = store_metadata
        self.exact_last_modified = exact_last_modified
        #: The store's options as given, without what is secret.
        self.options = {n: "***" if n in SECRETS else v for n, v in (config.options if config else {}).items()}
        self._where = _name(config, self.protocol)
        self._secrets = _secrets(config)

    @classmethod
    def from_fsspec(cls, backend: Any, *, key: str | None = None, **options: Any) -> ObstoreBackend:
        """The same files as an ``FSSpecBackend`` names, through obstore.

        Every filename means the object that it meant: ``/x``, ``bucket/x``, ``s3://bucket/x``, below the backend's prefix
        and the folders of its filesystem. One store for each bucket, made when it is first needed.

        Args:
            backend: the ``FSSpecBackend``; it is looked at, never used.
            key: the key of the new backend, the same as before if ``None``.
            **options: ``store_metadata`` and ``exact_last_modified``.

        Raises:
            ConfigurationError: its filesystem has no counterpart in obstore; the message says why.
        """
        from migrate_storage.backend.translated import TranslatedBackend

        return TranslatedBackend(backend, key=key, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r}, fs={self._where!r})"

    def __reduce__(self) -> Any:
        if self.config is None or self.protocol == "memory":
            raise TypeError(f"{self!r} cannot be pickled: its content or its store lives in this process only")
        return _rebuild, (type(self), self.key, self.config, self.store_metadata, self.exact_last_modified)

    # Signed URLs

    def sign(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> str | list[str]:
        """URLs that give whoever holds them one object, for a time.

        Args:
            paths: key or keys.
            expires_in: seconds, one hour if ``None``; at most 7 days on S3 and Google Cloud Storage.
            for_upload: ``True`` for a URL to ``PUT`` to (on Azure with the header ``x-ms-blob-type: BlockBlob``).

        Returns:
            One URL for one path, a list for several.

        Raises:
            NotImplementedError: the store has no signed URLs, or its credentials cannot sign.
            ValueError: for a lifetime that the service refuses.
            KeyRefusedError: a key for which no right URL can be made.
        """
        return run(self._sign(BLOCKING, paths, expires_in, for_upload))

    async def sign_async(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> str | list[str]:
        """See :meth:`sign`."""
        return await self._sign(AWAITING, paths, expires_in, for_upload)

    async def _sign(
        self, caller: Caller, paths: PathLike | Sequence[PathLike], expires_in: int | None, for_upload: bool
    ) -> str | list[str]:
        seconds = signing.lifetime(self.protocol, expires_in)
        method = "PUT" if for_upload else "GET"
        urls: list[str] = []
        for path in several(paths):
            store, key = self._locate(path)
            config = self._config_of(store)
            with self._explaining("signing a URL for", path):
                urls += await signing.sign(caller, store, config, [key], expires_in=seconds, method=method)
        return urls[0] if isinstance(paths, str | os.PathLike) else urls

    # Within

    def _locate(self, path: PathLike) -> tuple[Any, str]:
        """The store and the key in it that a path means."""
        key = text(path)
        if _PLAIN_KEY.fullmatch(key) is None:
            self._check(key)
        return self.fs, key

    def _config_of(self, store: Any) -> StoreConfig | None:  # noqa: ARG002 - a backend of several stores has several
        return self.config

    def _check(self, key: str) -> None:
        reason = unaddressable(key, local=self.protocol == "file")
        if reason is None and self.protocol in ("s3", "gcs", "azure"):
            whole = f"{self.config.prefix}/{key}" if self.config and self.config.prefix else key
            if len(whole.encode()) > _LONGEST_KEY:
                reason = f"is longer than {_LONGEST_KEY} bytes"
            elif "\ufffe" in key or "\uffff" in key:
                reason = "holds a character that XML cannot, in which services list and delete"
            elif self.protocol == "azure" and "\\" in key:
                reason = "holds a backslash, which Azure takes for a slash"
        if reason:
            shown = key if key.isprintable() else ascii(key)
            raise KeyRefusedError(
                f"the key {shown[:200]!r} {reason}: {self._where} cannot hold it; use another filename"
            )


def _rebuild(
    kind: type[ObstoreBackend], key: str, config: StoreConfig, store_metadata: bool, exact_last_modified: bool
) -> ObstoreBackend:
    return kind(key, config, store_metadata=store_metadata, exact_last_modified=exact_last_modified)


_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}


def _name(config: StoreConfig | None, protocol: str) -> str:
    if config is None or protocol == "memory":
        return protocol
    inner = f"/{config.prefix}" if config.prefix else ""
    return f"{_SCHEMES[protocol]}://{config.root}{inner}" if protocol in _SCHEMES else f"{config.root}{inner}"


def _protocol_of(store: Any) -> str:
    name = type(store).__name__
    return {"S3Store": "s3", "GCSStore": "gcs", "AzureStore": "azure", "LocalStore": "file", "HTTPStore": "http"}.get(
        name, "memory" if name == "MemoryStore" else "obstore"
    )


class _Hidden(tuple[str, ...]):
    """Texts that are never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


def _secrets(config: StoreConfig | None) -> tuple[str, ...]:
    if config is None:
        return ()
    return _Hidden(str(value) for name, value in config.options.items() if name in SECRETS and len(str(value)) > 3)
