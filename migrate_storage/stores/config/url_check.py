"""Compare what fsspec asks and signs for a file with what the obstore store signs. Nothing is sent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import obstore
from obstore.exceptions import BaseError

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Place
from migrate_storage.core.object_keys import unaddressable
from migrate_storage.stores.config.nobody import make_credentials
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.config.requester import Requester, configured_requester, filesystem_requester
from migrate_storage.translate.model import CredentialSource, StoreConfig
from migrate_storage.translate.registration import Registration
from migrate_storage.translate.registration.requested_url import RequestedUrl

__all__ = ("UrlComparison", "compare_urls", "find_url_difference", "requested_by_store")


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlComparison:
    """What both libraries ask for one file, and as whom."""

    filename: str
    #: The URL that fsspec opens.
    fsspec: RequestedUrl | None = None
    obstore: RequestedUrl | None = None
    #: The URL that fsspec signs; ``None`` where it signs none without a request.
    signed: RequestedUrl | None = None
    #: Who asks through fsspec, and who through obstore; ``None`` where it is not known.
    requesters: tuple[Requester | None, Requester | None] = (None, None)
    #: Why they are not compared; empty where they are.
    reason: str = ""

    @property
    def difference(self) -> str:
        """What differs, with the options that decide it; empty where nothing does."""
        if self.fsspec is None or self.obstore is None:
            return ""
        for verb, url in (("asks", self.fsspec), ("signs", self.signed or self.obstore)):
            if named := [each.name for each in fields(RequestedUrl) if self._differs(url, each.name)]:
                options = ", ".join(dict.fromkeys(_OPTIONS[name] for name in named))
                return (
                    f"fsspec {verb} {url}, obstore would ask {self.obstore}: another {' and '.join(named)} ({options})"
                )
        mine, theirs = self.requesters
        if mine is None or theirs is None or mine == theirs:
            return ""
        return (
            f"fsspec asks as {mine}, obstore would ask as {theirs} (token, credential, account_name or requester_pays)"
        )

    def _differs(self, url: RequestedUrl, name: str) -> bool:
        return bool(getattr(url, name) != getattr(self.obstore, name))


_OPTIONS = {
    "scheme": "endpoint_url or use_ssl",
    "host": "endpoint_url, account_host or addressing_style",
    "port": "endpoint_url or account_host",
    "path": "addressing_style or the prefix",
    "region": "region_name",
}
_CREDENTIALS = {
    "s3": ("access_key_id", "secret_access_key", "session_token", "skip_signature", "s3_express"),
    "gcs": ("service_account", "service_account_key", "application_credentials", "bearer_token", "skip_signature"),
    "azure": (
        *("account_key", "sas_key", "token", "client_id", "client_secret", "tenant_id", "skip_signature"),
        *("credential_type", "federated_token_file", "use_azure_cli", "authority_host"),
    ),
}
_ANY_FILE = "name-of-a-file"
_EXPIRY = timedelta(minutes=1)


def compare_urls(registration: Registration, filename: str) -> UrlComparison:
    """Compare both URLs of a file of an fsspec registration.

    Args:
        registration: its translation is the obstore side.
        filename: as in a row.
    """
    place = registration.place(filename)
    config = registration.config_at(place)
    if config is None:
        return UrlComparison(filename=filename, reason="it has no translation")
    if reason := unaddressable(place.key, local=config.service == "file"):
        return UrlComparison(filename=filename, reason=f"obstore cannot address the key: it {reason}")
    asked = registration.requested_url(place)
    if isinstance(asked, str):
        return UrlComparison(filename=filename, reason=asked)
    try:
        ours = requested_by_store(config, place)
    except ConfigurationError as error:
        return UrlComparison(filename=filename, reason=str(error))
    signed = registration.signed_url(place)
    requesters = (filesystem_requester(config.service, registration.filesystem), configured_requester(config))
    return UrlComparison(
        filename=filename,
        fsspec=asked,
        obstore=ours,
        signed=None if isinstance(signed, str) else signed,
        requesters=requesters,
    )


def find_url_difference(registration: Registration, filenames: Collection[str]) -> str:
    """Return the first difference between what both libraries ask for some files; empty where there is none.

    Args:
        registration: of an fsspec backend.
        filenames: as in rows. Where none is given, the URL of any file below the registration's prefix is compared.
    """
    compared = (compare_urls(registration, filename) for filename in filenames or (_ANY_FILE,))
    return next((each.difference for each in compared if each.difference), "")


def requested_by_store(config: StoreConfig, place: Place) -> RequestedUrl:
    """Return the URL that the store of a configuration signs for a place.

    Args:
        config: an S3, Google Cloud Storage or Azure store without a prefix.
        place: its key is the key in the store.

    Raises:
        ConfigurationError: the store cannot be opened.
    """
    # With keys of our own nothing is requested, and no other credentials are used.
    options = {name: value for name, value in config.options.items() if name not in _CREDENTIALS[config.service]}
    source = None
    if config.service == "s3":
        source = CredentialSource(kind="static", options={**make_credentials("s3"), "token": None})
    else:
        options.update(make_credentials(config.service))
    opened: Any = open_store(replace(config, prefix="", options=options, credentials=source))
    # On Google Cloud Storage obstore signs a key as it is given.
    key = quote(place.key, safe="/-._~") if config.service == "gcs" else place.key
    try:
        url = str(obstore.sign(opened, "GET", key, _EXPIRY))
    except BaseError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"{config.service} store {config.root!r}: {reason}") from None
    scope = parse_qs(urlsplit(url).query).get("X-Amz-Credential", [""])[0].split("/")
    return RequestedUrl.of(url, scope[2] if config.service == "s3" else "")
