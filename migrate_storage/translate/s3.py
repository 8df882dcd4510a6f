"""S3: ``s3fs.S3FileSystem`` to ``S3Store``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.model import CredentialSource, Note, StoreConfig, Translation
from migrate_storage.translate.keys import unaddressable
from migrate_storage.translate.notes import note
from migrate_storage.translate.options import Option, leftovers, mapping, text, truth
from migrate_storage.translate.places import join_prefix, normalise_endpoint, split

__all__ = ("OPTIONS", "translate")

OPTIONS = (
    Option("key", "access_key_id"),
    Option("username", "access_key_id"),
    Option("secret", "secret_access_key"),
    Option("password", "secret_access_key"),
    Option("token", "session_token"),
    Option("anon", "skip_signature"),
    Option("endpoint_url", "endpoint"),
    Option("client_kwargs.region_name", "region"),
    Option("client_kwargs.endpoint_url", "endpoint"),
    Option("client_kwargs.aws_access_key_id", "access_key_id"),
    Option("client_kwargs.aws_secret_access_key", "secret_access_key"),
    Option("client_kwargs.aws_session_token", "session_token"),
    Option("config_kwargs.region_name", "region"),
    Option("config_kwargs.s3.addressing_style", "virtual_hosted_style_request"),
)


def translate(options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]) -> Translation:
    """Translate the options of an ``S3FileSystem``; see :func:`migrate_storage.translate.translate`."""
    notes: list[Note] = []
    client = mapping(options.get("client_kwargs"))
    config = mapping(options.get("config_kwargs"))
    place = split("s3", join_prefix(prefix, "x"))
    bucket = place.root if prefix and prefix.strip("/") else ""
    inner = place.key[:-2] if bucket and place.key.endswith("/x") else ""
    if inner and (reason := unaddressable(inner)):
        notes.append(note("place.prefix", why=reason))
    if not bucket:
        notes.append(note("place.per_row", root="bucket"))
    result: dict[str, Any] = {}
    client_options: dict[str, Any] = {}

    endpoint = text(options.get("endpoint_url")) or text(client.get("endpoint_url"))
    endpoint = endpoint or environment.get("AWS_ENDPOINT_URL_S3", "") or environment.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        result["endpoint"] = normalise_endpoint(endpoint)
        if result["endpoint"].startswith("http:"):
            client_options["allow_http"] = True
    region = text(client.get("region_name")) or text(config.get("region_name"))
    region = region or environment.get("AWS_DEFAULT_REGION", "")
    result["region"] = region or ("auto" if ".r2.cloudflarestorage.com" in endpoint else "us-east-1")
    result["virtual_hosted_style_request"] = False

    credentials = None
    if truth(options.get("anon")):
        result["skip_signature"] = True
    else:
        key = options.get("key") or options.get("username") or client.get("aws_access_key_id")
        secret = options.get("secret") or options.get("password") or client.get("aws_secret_access_key")
        token = options.get("token") or client.get("aws_session_token")
        if key and secret:
            result["access_key_id"], result["secret_access_key"] = text(key), text(secret)
            if token:
                result["session_token"] = text(token)
        elif key or secret:
            notes.append(note("s3.credentials.incomplete"))
        else:
            credentials = CredentialSource(kind="boto3", options={"profile_name": text(options.get("profile")) or None})
    notes.extend(leftovers(OPTIONS, options))
    store = StoreConfig(
        service="s3", root=bucket, prefix=inner, options=result, client_options=client_options, credentials=credentials
    )
    return Translation(config=store, notes=tuple(notes))
