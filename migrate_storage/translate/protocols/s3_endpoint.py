"""The endpoint, region and addressing style of an ``S3FileSystem``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, text, truth
from migrate_storage.translate.places import normalise_endpoint

__all__ = ("access_point", "endpoint")

_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ACCESS_POINT = re.compile(r"arn:(aws[a-z\-]*):s3:([a-z0-9\-]+):([0-9]{12}):accesspoint[:/]([^/]+)")


def endpoint(options: Mapping[str, Any], bucket: str, environment: Mapping[str, str]) -> Part:
    """Make endpoint, region and style independent of the process's environment.

    Args:
        options: those of the filesystem, with the profile's ``region`` and ``endpoint_url`` merged in.
        bucket: empty where each row names its own.
        environment: the variables that botocore reads: ``AWS_DEFAULT_REGION`` but not ``AWS_REGION``, and the endpoint
            URLs.
    """
    client, config = mapping(options.get("client_kwargs")), mapping(options.get("config_kwargs"))
    notes: list[Note] = []
    given, conflict = _read_endpoint(options, client, config, environment)
    notes.extend(conflict)
    region = _read_region(client, config, environment, notes)
    custom = _normalise_custom(given, options, client, config, notes)
    virtual = text(mapping(config.get("s3")).get("addressing_style")) == "virtual"
    result: dict[str, Any] = {}
    if custom is None:
        result |= _make_vendor_options(config, region, bucket, virtual=virtual, notes=notes)
        if (
            _ignores_environment(config, environment)
            and "endpoint" not in result
            and _read_environment_url(environment)
        ):
            result["endpoint"] = f"https://s3.{region or 'us-east-1'}.amazonaws.com"
        if not region:
            notes.append(note("s3.region.missing", "client_kwargs.region_name"))
        result["region"] = region or "us-east-1"
    else:
        result["endpoint"] = custom
        result["region"] = region or ("auto" if ".r2.cloudflarestorage.com" in custom else "us-east-1")
        if virtual and bucket:
            scheme, _, rest = custom.partition("://")
            result |= {"endpoint": f"{scheme}://{bucket}.{rest}", "virtual_hosted_style_request": True}
        elif virtual:
            notes.append(note("s3.endpoint.per_bucket", "config_kwargs.s3.addressing_style"))
    if bucket.endswith("--x-s3"):
        result["s3_express"] = True
    notes.extend(_counter_traps(result, custom, environment))
    allow_http = {"allow_http": True} if str(result.get("endpoint", "")).startswith("http:") else {}
    return Part(options=result, client_options=allow_http, notes=tuple(notes))


def access_point(bucket: str) -> Part:
    """Translate an access point's ARN into its own host; other ARNs are refused."""
    if not bucket.startswith("arn:"):
        return Part()
    match = _ACCESS_POINT.fullmatch(bucket)
    if match is None:
        return Part(notes=(note("s3.bucket.arn", "prefix"),))
    partition, region, account, name = match.groups()
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    return Part(
        options={
            "endpoint": f"https://{name}-{account}.s3-accesspoint.{region}.{suffix}",
            "region": region,
            "virtual_hosted_style_request": True,
        },
        notes=(note("s3.bucket.access_point", "prefix"),),
    )


def _read_environment_url(environment: Mapping[str, str]) -> str:
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""


def _ignores_environment(config: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    configured = environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return truth(config.get("ignore_configured_endpoint_urls", configured))


def _read_endpoint(
    options: Mapping[str, Any], client: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[str, list[Note]]:
    own, of_client = text(options.get("endpoint_url")), text(client.get("endpoint_url"))
    if own and of_client and own != of_client:
        return own, [note("option.conflict", "endpoint_url")]
    if own or of_client:
        return own or of_client, []
    if not _ignores_environment(config, environment) and (url := _read_environment_url(environment)):
        return url, [note("s3.endpoint.environment", "AWS_ENDPOINT_URL")]
    return "", []


def _normalise_custom(
    given: str, options: Mapping[str, Any], client: Mapping[str, Any], config: Mapping[str, Any], notes: list[Note]
) -> str | None:
    """Return the endpoint, normalised; ``None`` for the vendor's own."""
    if not given:
        if not truth(client.get("use_ssl", options.get("use_ssl", True))):
            notes.append(note("s3.use_ssl", "use_ssl"))
        return None
    normal = normalise_endpoint(given)
    if not normal.startswith(("http://", "https://")):
        notes.append(note("endpoint.scheme", "endpoint_url"))
        return None
    if "@" in given:
        notes.append(note("endpoint.userinfo", "endpoint_url"))
    if any(truth(config.get(name)) or truth(mapping(config.get("s3")).get(name)) for name in _HOSTS):
        notes.append(note("s3.endpoint.variant", "config_kwargs"))
    return normal


def _read_region(
    client: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, str], notes: list[Note]
) -> str:
    region = text(client.get("region_name")) or text(config.get("region_name"))
    region = region or environment.get("AWS_DEFAULT_REGION", "")
    if region and not _REGION.fullmatch(region):
        notes.append(note("option.invalid", "region_name", expected="a region's name"))
        return ""
    return region


_HOSTS = ("use_accelerate_endpoint", "use_dualstack_endpoint", "use_fips_endpoint")


def _make_vendor_options(
    config: Mapping[str, Any], region: str, bucket: str, *, virtual: bool, notes: list[Note]
) -> dict[str, Any]:
    accelerate, dualstack, fips = (
        truth(config.get(name)) or truth(mapping(config.get("s3")).get(name)) for name in _HOSTS
    )
    region = region or "us-east-1"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    middle = ".dualstack" if dualstack else ""
    if accelerate and bucket:
        return {"endpoint": f"https://{bucket}.s3-accelerate{middle}.{suffix}", "virtual_hosted_style_request": True}
    if accelerate:
        notes.append(note("s3.endpoint.per_bucket", "config_kwargs.s3.use_accelerate_endpoint"))
    # A bucket with a dot does not match the vendor's certificate, so botocore puts it into the path.
    hosted = virtual and bool(bucket) and "." not in bucket
    if fips or dualstack or suffix.endswith(".cn"):
        host = f"{'s3-fips' if fips else 's3'}{middle}.{region}.{suffix}"
        if hosted:
            return {"endpoint": f"https://{bucket}.{host}", "virtual_hosted_style_request": True}
        return {"endpoint": f"https://{host}"}
    return {"virtual_hosted_style_request": True} if hosted else {}


def _counter_traps(result: dict[str, Any], custom: str | None, environment: Mapping[str, str]) -> list[Note]:
    """Make explicit what obstore would read from the environment, and note it."""
    notes = []
    if "AWS_VIRTUAL_HOSTED_STYLE_REQUEST" in environment:
        result.setdefault("virtual_hosted_style_request", False)
        notes.append(note("s3.trap.virtual_hosted", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"))
    url = environment.get("AWS_ENDPOINT_URL_S3", "")
    if url and (custom or result.get("endpoint")) and normalise_endpoint(url) != (custom or result.get("endpoint")):
        notes.append(note("s3.trap.endpoint", "AWS_ENDPOINT_URL_S3"))
    return notes
