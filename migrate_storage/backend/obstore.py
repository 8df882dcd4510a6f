"""ObstoreBackend: advanced-alchemy's storage backend over obstore."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend import signing
from migrate_storage.backend.base import several
from migrate_storage.backend.config import read_configuration, read_store
from migrate_storage.backend.confirm import Confirms
from migrate_storage.backend.frameworks import register_file_object
from migrate_storage.backend.locators import BucketLocator, StoreLocator
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.option_names import SECRETS
from migrate_storage.translate.registration import read

__all__ = ("ObstoreBackend",)

register_file_object()

#: A shorter secret is not masked in messages: it would occur in other words.
_MIN_MASKED_CHARACTERS = 4


class ObstoreBackend(Confirms):
    """Files on S3, Google Cloud Storage, Azure, a local disk or in memory.

    Replaces advanced-alchemy's class of the same name. Every operation has two forms with the same behaviour, ``name``
    and ``name_async``.

    Args:
        key: the name by which rows and columns refer to the backend.
        fs: a URL (``s3://BUCKET/PREFIX/``, ``gs://``, ``az://``, ``file:///``, ``memory://``, or a vendor's
            ``https://``), a path, or an obstore store.
        prefix: raw key prefix below ``fs``, never percent-encoded.
        store_metadata: whether the user metadata of a file is stored with the object; the row always has it.
        exact_last_modified: whether to send a HEAD for the time of a save; otherwise it is the time of this machine.
        **options: store options in any spelling of obstore, with or without ``aws_``, ``google_``, ``azure_``;
            client options; ``config``, ``client_options``, ``retry_config``, ``credential_provider``. ``None`` means
            not given. ``virtual_hosted_style_request`` may also name one of botocore's styles, ``auto``, ``path`` or ``virtual``,
            or ``default`` for the one of the files of AWS. Region and endpoint are then botocore's too.

    Raises:
        ConfigurationError: it cannot work; one line with what to write instead.

    Attributes:
        fs: the obstore store, ``prefix`` inside; ``None`` where each filename names a bucket.
        config: the configuration of the store; ``None`` where a store was passed that does not show it.
        registration: how an fsspec backend's filenames become places; ``None`` unless made by :meth:`from_fsspec`.
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
        register_file_object()  # again: a framework may have been imported since
        self._locator = locator = _make_locator(fs, prefix, options)
        self.key = key
        self.fs = locator.store
        self.config = config = locator.config
        self.protocol = locator.protocol
        self.registration = locator.registration
        self.store_metadata = store_metadata
        self.exact_last_modified = exact_last_modified
        #: The store's options as given, without what is secret.
        self.options = {n: "***" if n in SECRETS else v for n, v in (config.options if config else {}).items()}
        self._secrets = _collect_secrets(config)

    @classmethod
    def from_fsspec(
        cls, backend: Any, *, key: str | None = None, store_metadata: bool = True, exact_last_modified: bool = False
    ) -> ObstoreBackend:
        """Make a backend for the files of an ``FSSpecBackend``, through obstore.

        Every filename means the object that it meant: ``/x``, ``bucket/x``, ``s3://bucket/x``, below the backend's
        prefix and the folders of its filesystem. One store for each bucket, made when it is first needed.

        Args:
            backend: the ``FSSpecBackend``; it is read, never used.
            key: the key of the new backend, the same as before if ``None``.
            store_metadata: see :class:`ObstoreBackend`.
            exact_last_modified: see :class:`ObstoreBackend`.

        Raises:
            ConfigurationError: its filesystem has no counterpart in obstore; the message has the reason.
        """
        locator = BucketLocator(read(backend), backend)
        key = key or locator.registration.key
        return ObstoreBackend(key, locator, store_metadata=store_metadata, exact_last_modified=exact_last_modified)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r}, fs={self._locator.where!r})"

    def __reduce__(self) -> Any:
        how: Any = {"store_metadata": self.store_metadata, "exact_last_modified": self.exact_last_modified}
        if isinstance(self._locator, BucketLocator):
            return partial(ObstoreBackend.from_fsspec, key=self.key, **how), (self._locator.backend,)
        if self.config is None or self.protocol == "memory":
            raise TypeError(f"{self!r} cannot be pickled: its content or its store lives in this process only")
        return partial(type(self), **how), (self.key, self.config)

    # Signed URLs

    def sign(
        self, paths: PathLike | Sequence[PathLike], *, expires_in: int | None = None, for_upload: bool = False
    ) -> str | list[str]:
        """Return URLs that give access to one object each, for a limited time.

        Args:
            paths: key or keys.
            expires_in: seconds, one hour if ``None``; at most 7 days on S3 and Google Cloud Storage.
            for_upload: ``True`` for a URL to ``PUT`` to (on Azure with the header ``x-ms-blob-type: BlockBlob``).

        Returns:
            One URL for one path, a list for several.

        Raises:
            NotImplementedError: the store has no signed URLs, or its credentials cannot sign.
            ValueError: the service refuses such a lifetime.
            KeyRefusedError: no correct URL can be made for a key.
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
            config = self._locator.config_of(store)
            with self._translate_errors("signing a URL for", path):
                urls.append(await signing.sign(caller, store, config, key, expires_in=seconds, method=method))
        return urls[0] if isinstance(paths, str | os.PathLike) else urls


def _make_locator(fs: Any, prefix: str | None, options: Mapping[str, Any]) -> StoreLocator:
    """Open a configuration, a URL or a path; an obstore store is open already."""
    if isinstance(fs, StoreLocator):
        return fs
    if isinstance(fs, StoreConfig):
        return StoreLocator(open_store(fs), fs)
    if isinstance(fs, str | PurePath):
        config = read_configuration(Path(fs) if isinstance(fs, PurePath) else fs, prefix, options)
        return StoreLocator(open_store(config), config)
    given = sorted(name for name, value in {**options, "prefix": prefix}.items() if value is not None)
    if given:
        raise ConfigurationError(f"{', '.join(given)}: a store is opened already; pass options with a URL")
    return StoreLocator(fs, read_store(fs))


class _Hidden(tuple[str, ...]):
    """Texts whose ``repr`` is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


def _collect_secrets(config: StoreConfig | None) -> tuple[str, ...]:
    if config is None:
        return ()
    return _Hidden(
        str(value)
        for name, value in config.options.items()
        if name in SECRETS and len(str(value)) >= _MIN_MASKED_CHARACTERS
    )
