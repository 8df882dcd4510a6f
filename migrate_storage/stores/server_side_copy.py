"""Let an S3 service copy objects from one of its buckets to another.

obstore copies within one store only. A store of the source's bucket whose endpoint is that of the destination's bucket
sends ``PUT /destination/key`` with ``x-amz-copy-source: source/key``. S3 defines that as a copy between buckets
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html).
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any

from migrate_storage.core.model import Attributes
from migrate_storage.stores.config.open import open_across
from migrate_storage.stores.obstore_store import HEADERS, unpanicked
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.translate.model import StoreConfig

__all__ = ("ServerSideCopier",)

_MAX_OPEN_STORES = 32
"""There is one store for each content type, and rows may have many."""
_TOKEN = re.compile(r"[!#$%&'*+.^`|~0-9a-z_-]{1,200}")
"""The name of a header, in lower case."""
_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


class ServerSideCopier:
    """Lets a service copy objects from one of its buckets to another one.

    Args:
        config: the destination, its bucket as ``root``. Its credentials must also permit reading the source.
        endpoint: the service's address, without any bucket.
        bucket: the source's bucket.
        pace: limits the requests; ``None`` sets no limit.
        create_only: whether the service refuses to copy onto an existing object, as a probe has shown.
    """

    def __init__(
        self, config: StoreConfig, endpoint: str, bucket: str, *, pace: StoreLimits | None, create_only: bool = False
    ) -> None:
        self._config, self._endpoint, self._bucket, self._pace = config, endpoint, bucket, pace
        self.create_only = create_only
        #: Whether a copy was seen without a header or user metadata of its source.
        self.loses_attributes = False
        self._stores: OrderedDict[tuple[tuple[str, str], ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def refusing(self) -> ServerSideCopier:
        """Return the same with ``create_only``."""
        return ServerSideCopier(self._config, self._endpoint, self._bucket, pace=self._pace, create_only=True)

    @staticmethod
    def can_send(attributes: Attributes) -> bool:
        """Whether attributes can be sent as headers of a copy."""
        named = all(_TOKEN.fullmatch(name) for name in attributes.metadata)
        return named and all(_HEADER.fullmatch(value) for value in _make_headers(attributes).values())

    def copy(self, source: str, destination: str, *, attributes: Attributes | None, create: bool) -> None:
        """Copy one object.

        Args:
            source: its full key in the source's bucket.
            destination: its full key in the destination's bucket.
            attributes: of the copy; ``None`` keeps all headers and metadata of the source.
            create: ask the service to refuse where there is an object.

        Raises:
            FileExistsError: ``create`` was given, the service supports it, and there is an object.
            Exception: any error of obstore.
        """
        headers = {}
        if attributes is not None:
            headers.update({"x-amz-metadata-directive": "REPLACE", **_make_headers(attributes)})
        if create:
            headers["if-none-match"] = "*"
        if self._pace is not None:
            self._pace.requests.acquire(1)
        store = self._open_store(headers)
        try:
            unpanicked(lambda: store.copy(source, destination))
        except Exception as error:
            if create and type(error).__name__ in ("AlreadyExistsError", "PreconditionError"):
                raise FileExistsError(f"an object is at {destination} already") from error
            raise

    def _open_store(self, headers: dict[str, str]) -> Any:
        """Return the store for a set of headers: obstore fixes headers per store."""
        key = tuple(headers.items())
        with self._lock:
            if key not in self._stores:
                self._stores[key] = open_across(self._config, self._endpoint, self._bucket, headers)
                if len(self._stores) > _MAX_OPEN_STORES:
                    self._stores.popitem(last=False)
            self._stores.move_to_end(key)
            return self._stores[key]


def _make_headers(attributes: Attributes) -> dict[str, str]:
    named = {header.lower(): value for field, header in HEADERS.items() if (value := getattr(attributes, field))}
    return named | {f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()}
