"""The options of a filesystem, with what its own SDK makes of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from migrate_storage.core.model import Note, Place
from migrate_storage.translate import translate
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, truth
from migrate_storage.translate.places import normalise_endpoint
from migrate_storage.translate.protocols.s3_address import Resolver, S3Address
from migrate_storage.translate.registration.botocore_client import BotocoreClient, make_client
from migrate_storage.translate.registration.endpoints import endpoint_of, endpoint_url
from migrate_storage.translate.registration.requested_url import RequestedUrl

__all__ = ("FilesystemOptions", "read_service_url", "s3_options")


@dataclass(frozen=True, slots=True)
class FilesystemOptions:
    """Options from which a store for any prefix is translated. ``repr`` shows none of them."""

    service: str
    options: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    #: Knows the addresses of an ``S3FileSystem``.
    resolver: Resolver | None = field(default=None, repr=False)

    #: The address that gcsfs or adlfs has resolved; empty where there is no live filesystem.
    service_url: str = ""

    def translate(self, prefix: str | None) -> Translation:
        """Return the translation for a prefix of a backend."""
        found = translate(self.service, self.options, prefix, self.environment, self.resolver)
        return found if found.config is None else replace(found, config=self._set_service_url(found.config))

    def _set_service_url(self, config: StoreConfig) -> StoreConfig:
        name = {"gcs": "base_url", "azure": "endpoint"}.get(self.service, "")
        if not name or not self.service_url or endpoint_url(config) == normalise_endpoint(self.service_url):
            return config
        client = dict(config.client_options)
        if self.service_url.startswith("http:"):
            client["allow_http"] = True
        return replace(config, options={**config.options, name: self.service_url}, client_options=client)

    def requested_url(self, place: Place) -> RequestedUrl | str:
        """Return the URL that the filesystem asks for a place; the reason where no URL can be known."""
        if self.service in ("gcs", "azure"):
            if not self.service_url:
                return "there is no live filesystem to ask"
            return RequestedUrl.of(f"{self.service_url}/{quote(place.root)}/{quote(place.key)}")
        if self.service != "s3":
            return "its files have no URL of a service"
        if not isinstance(self.resolver, BotocoreClient):
            return "botocore is not asked"
        if truth(self.options.get("cache_regions")):
            return "s3fs asks the service for the bucket's region (cache_regions)"
        if not place.root:
            return "there is no bucket"
        asked = self.resolver.request(place.root, place.key)
        return asked.message if isinstance(asked, Note) else RequestedUrl.of(*asked)

    def signed_url(self, place: Place) -> RequestedUrl | str:
        """Return the URL that s3fs signs for a place; the reason where none can be known.

        botocore signs for the global endpoint of AWS, where it opens the same bucket at its region's. The host is then the
        region's here.
        """
        asked = self.requested_url(place)
        if isinstance(asked, str):
            return asked
        if not isinstance(self.resolver, BotocoreClient):
            return "only s3fs is asked to sign"
        signed = self.resolver.sign(place.root, place.key)
        if isinstance(signed, Note):
            return signed.message
        url, region = signed
        found = RequestedUrl.of(url, region or asked.region)
        return replace(found, host=asked.host) if found.host in _find_global_hosts(asked) else found

    @property
    def endpoint(self) -> str:
        """The endpoint of all buckets, as a place has it: without a bucket no name of one can be refused."""
        config = self.translate(None).config
        return endpoint_of(config) if config else ""


def _find_global_hosts(asked: RequestedUrl) -> set[str]:
    """Return the hosts of the global endpoint for a URL at a region's; FIPS has none but that of us-east-1."""
    before, region, after = asked.host.rpartition(f".{asked.region.lower()}.")
    if not region or after != "amazonaws.com":
        return set()
    return {f"{before}.{after}", f"{before}.us-east-1.{after}"}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Refuses each bucket, for botocore refuses the options."""

    reason: Note
    endpoint_source: str = ""
    has_region: bool = True

    def address(self, _: str) -> S3Address | Note:
        """Return the reason."""
        return self.reason


def read_service_url(filesystem: Any) -> str:
    """Return the address that a live gcsfs or adlfs filesystem has resolved; empty where there is none."""
    try:
        location = getattr(filesystem, "_location", None)
        if isinstance(location, str):
            return location.rstrip("/")
        url = getattr(getattr(filesystem, "service_client", None), "url", "")
        return str(url).partition("?")[0].rstrip("/")
    except Exception:  # noqa: BLE001 - another package's properties, on options of any kind
        return ""


def s3_options(options: Mapping[str, Any], environment: Mapping[str, str], session: Any = None) -> FilesystemOptions:
    """Return the options of an ``S3FileSystem``, with botocore's view of session, profile, variables and addresses.

    Args:
        options: those of the filesystem.
        environment: environment variables. botocore reads those of this process; for others its rules are followed
            without it.
        session: the session that the filesystem was given; ``None`` for its own.
    """
    if environment is not os.environ:
        return FilesystemOptions("s3", options, environment)
    client = make_client(options, session)
    if isinstance(client, Note):
        return FilesystemOptions("s3", options, environment, _Refusal(client))
    if client is None:
        if options.get("profile") or any(environment.get(name) for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")):
            return FilesystemOptions("s3", options, environment, _Refusal(note("s3.profile.unread", "profile")))
        return FilesystemOptions("s3", options, environment)
    variables = {name: value for name, value in environment.items() if name != "AWS_CA_BUNDLE"}
    if client.ca_bundle:
        variables["AWS_CA_BUNDLE"] = client.ca_bundle
    return FilesystemOptions("s3", {**options, **_merge_config(options, client)}, variables, client)


def _merge_config(options: Mapping[str, Any], client: BotocoreClient) -> dict[str, Any]:
    """Return the ``config_kwargs`` with the configuration of the session and of the profile."""
    config = {**client.session_config, **mapping(options.get("config_kwargs"))}
    if client.signature_version in ("s3", "s3-query") or not isinstance(client.signature_version, str):
        config["signature_version"] = client.signature_version
    if not client.signs_payload:
        config["s3"] = {**mapping(config.get("s3")), "payload_signing_enabled": False}
    return {"config_kwargs": config} if config else {}
