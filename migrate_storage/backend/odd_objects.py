"""Objects whose answer obstore cannot read, though the service has sent it.

Google Cloud Storage decompresses a gzip-encoded object for a client that does not accept gzip, and then names no length.
Asked for the stored bytes it does, so that they are read and decompressed here, as gcsfs does. User metadata outside
UTF-8 cannot be read at all.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from typing import Any

from obstore.exceptions import BaseError

from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.sync_async import Caller
from migrate_storage.translate.model import StoreConfig

__all__ = ("is_unreadable", "open_stored", "read_decompressed")

#: What obstore reports of an answer with status 200.
_UNREADABLE = ("Header missing from response", "contained non UTF-8 characters", "non-partial response when range")


def is_unreadable(error: BaseException) -> bool:
    """Whether the object is there, and only obstore cannot read its answer."""
    return isinstance(error, BaseError) and any(text in str(error) for text in _UNREADABLE)


def open_stored(config: StoreConfig | None) -> Any:
    """Return a store that asks for the stored bytes; ``None`` where no service decompresses objects.

    Args:
        config: the store that could not read an object; ``None`` where that is not known.
    """
    if config is None or config.service != "gcs":
        return None
    headers = {**config.client_options.get("default_headers", {}), "accept-encoding": "gzip"}
    return open_store(replace(config, client_options={**config.client_options, "default_headers": headers}))


async def read_decompressed(caller: Caller, store: Any, key: str) -> bytes:
    """Return the content of an object as the service would have decompressed it.

    Args:
        caller: blocking or awaiting.
        store: one that :func:`open_stored` gave.
        key: a key below the store's prefix.

    Raises:
        OSError: its bytes are not the gzip that its header names.
    """
    result = await caller.call(store, "get", key)
    stored: bytes = (await caller.call(result, "bytes")).to_bytes()
    encoding = {str(name).lower(): value for name, value in result.attributes.items()}.get("content-encoding", "")
    if "gzip" not in encoding:
        return stored
    try:
        return gzip.decompress(stored)
    except (OSError, EOFError, zlib.error) as error:
        raise OSError(f"its Content-Encoding is {encoding}, but its bytes are no gzip: {error}") from None
