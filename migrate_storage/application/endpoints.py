"""Open the storage backend that a key, a path or a URL names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import fsspec
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.backend import ObstoreBackend
from migrate_storage.backend.urls import parse_url
from migrate_storage.core.errors import ConfigurationError, UnknownOptionError
from migrate_storage.core.text import masked, one_line
from migrate_storage.translate import PROTOCOLS

__all__ = ("backend_at",)

_CLOUDS = ("s3", "gcs", "azure")


def backend_at(text: str, backends: Mapping[str, Any], options: Mapping[str, Any], what: str) -> Any:
    """Return the storage backend that a text names.

    Args:
        text: A key of ``backends``, a path that contains a slash, or a URL of obstore or fsspec.
        backends: The registered backends and those of the configuration file.
        options: Options for a URL. If fsspec's filesystem knows them all and obstore does not, fsspec opens the URL.
        what: The name of the argument in messages, such as ``FROM``.

    Raises:
        ConfigurationError: the text names no backend, or the store cannot be opened.
    """
    if text in backends:
        if options:
            raise ConfigurationError(f"{what} {text} is registered with its own options: give others with a URL")
        return backends[text]
    local = text.startswith(("/", "./", "../", "~", "file:")) or text in (".", "..")
    if not local and "://" not in text and "::" not in text:
        known = ", ".join(sorted(backends)) or "none is known without --app or a configuration file"
        raise ConfigurationError(
            f"{what} {text!r} is no storage backend's key ({known}); write a folder as ./{text}, a store as s3://BUCKET/PREFIX"
        )
    try:
        if local:
            if options:
                raise ConfigurationError("a folder takes no options")
            folder = parse_url(text).root
            return FSSpecBackend(key=folder, fs=fsspec.filesystem("file", auto_mkdir=True), prefix=folder)
        return _open_url(text, options)
    except ConfigurationError as error:
        raise ConfigurationError(f"{what} {masked(text)}: {error}") from None
    except Exception as error:
        raise ConfigurationError(f"{what} {masked(text)} cannot be opened: {one_line(error)}") from error


def _open_url(url: str, options: Mapping[str, Any]) -> Any:
    shown = _strip_secrets(url)
    protocol = re.split(r"::|://", url, maxsplit=1)[0]
    if "::" in url or PROTOCOLS.get(protocol) not in (*_CLOUDS, "http"):
        return _open_with_fsspec(shown, url, options)
    try:
        return ObstoreBackend(shown, url, config=dict(options))
    except UnknownOptionError:
        takes = inspect.signature(fsspec.get_filesystem_class(protocol).__init__).parameters
        if not set(options) <= set(takes) - {"self", "kwargs"}:
            raise
        return _open_with_fsspec(shown, url, options)


def _open_with_fsspec(shown: str, url: str, options: Mapping[str, Any]) -> Any:
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    return FSSpecBackend(key=shown, fs=filesystem, prefix=path or None)


def _strip_secrets(url: str) -> str:
    """Return the URL as the journal stores it: without password and query."""
    parts = urlsplit(url)
    plain = url.partition("?")[0] if "::" not in url else url
    if "@" in parts.netloc:
        user, _, host = parts.netloc.rpartition("@")
        plain = plain.replace(parts.netloc, f"{user.partition(':')[0]}@{host}", 1)
    return plain.rstrip("/")[:250]
