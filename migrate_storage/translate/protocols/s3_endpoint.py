"""The endpoint, region and addressing style of an ``S3FileSystem``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, text, truth
from migrate_storage.translate.places import normalise_endpoint
from migrate_storage.translate.protocols.s3_address import (
    Resolver,
    S3Address,
    add_bucket,
    is_host_label,
    is_ip_address,
    partition_name,
    partition_suffix,
    vendor_address,
)
from migrate_storage.translate.protocols.s3_hosts import fit_endpoint

__all__ = ("ENDPOINT_VARIABLES", "endpoint")

_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ACCESS_POINT = re.compile(r"arn:aws[a-z\-]*:s3:([a-z0-9\-]+):([0-9]{12}):accesspoint[:/]([^/]+)")

#: Variables with an endpoint that botocore or obstore reads.
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def endpoint(
    options: Mapping[str, Any], bucket: str, environment: Mapping[str, str], resolver: Resolver | None = None
) -> Part:
    """Make endpoint, region and style independent of the process's environment.

    Args:
        options: those of the filesystem.
        bucket: empty where each row names its own.
        environment: the variables that botocore reads: ``AWS_DEFAULT_REGION`` but not ``AWS_REGION``, and the endpoint
            URLs.
        resolver: asks botocore for the address; ``None`` where only the options are known.
    """
    notes: list[Note] = []
    if bucket.startswith("arn:"):
        if not _ACCESS_POINT.fullmatch(bucket):
            return Part(notes=(note("s3.bucket.arn", "prefix"),))
        notes.append(note("s3.bucket.access_point", "prefix"))
    given = _read_endpoint(options, {} if resolver else environment, notes)
    region = _read_region(options, environment, notes)
    per_bucket = _note_conflicts(options, given, bucket, notes)
    address = resolver.address(bucket) if resolver else _find_address(options, given, region, bucket)
    if isinstance(address, Note):
        return Part(notes=(*notes, address))
    if resolver and resolver.endpoint_source and not given:
        given = address.endpoint
        notes.append(note("s3.endpoint.environment", resolver.endpoint_source))
    if not given and not (resolver.has_region if resolver else region) and not bucket.startswith("arn:"):
        notes.append(note("s3.region.missing", "client_kwargs.region_name"))
    if address.endpoint.startswith("http:") and not given:
        notes.append(note("s3.use_ssl", "use_ssl"))
    if per_bucket:
        notes.append(note("s3.endpoint.per_bucket", per_bucket))
    result = _make_options(address, bucket, environment, custom=bool(given))
    if options.get("profile"):
        # Explicit, so that the profile's own style is not read where the store is opened.
        result.setdefault("virtual_hosted_style_request", False)
    if bucket.endswith("--x-s3"):
        result["s3_express"] = True
    notes.extend(_counter_traps(result, given, environment))
    if not mapping(options.get("config_kwargs")).get("proxies") and (
        proxy := _find_proxy(address.endpoint, environment)
    ):
        notes.append(note("s3.trap.proxy", proxy))
    allow_http = {"allow_http": True} if address.endpoint.startswith("http:") else {}
    return Part(options=result, client_options=allow_http, notes=tuple(notes))


def _make_options(address: S3Address, bucket: str, environment: Mapping[str, str], *, custom: bool) -> dict[str, Any]:
    """Return obstore's options for an address; no endpoint where obstore would compose the same one."""
    composed = f"https://{bucket}.s3.{address.region}.amazonaws.com"
    if not address.virtual:
        composed = f"https://s3.{address.region}.amazonaws.com"
    result: dict[str, Any] = {}
    # An older botocore may not know a partition, and ask another host than the one of its region.
    known = address.endpoint == composed and partition_suffix(address.region) == "amazonaws.com"
    if custom or not known or any(environment.get(name) for name in ENDPOINT_VARIABLES):
        result["endpoint"] = address.endpoint
    result["region"] = address.region
    if address.virtual:
        result["virtual_hosted_style_request"] = True
    elif bucket and _changes_for_bucket(address.endpoint, bucket):
        # Explicit, so that the backend asks the endpoint as it is written, with the bucket in the path.
        result["virtual_hosted_style_request"] = False
    return result


def _changes_for_bucket(endpoint: str, bucket: str) -> bool:
    """Return whether the backend would ask another URL than the endpoint, or refuse it."""
    parts = urlsplit(endpoint)
    if parts.netloc.lower().startswith(f"{bucket.lower()}.") or bucket in parts.path.split("/"):
        return True
    try:
        return fit_endpoint(endpoint, bucket).get("endpoint", endpoint) != endpoint
    except ConfigurationError:
        return True


def _find_access_point(match: re.Match[str], given: str, region: str, variants: frozenset[str]) -> S3Address | Note:
    """Return the host of an access point."""
    signed, account, name = match.groups()
    if "accelerate" in variants:
        return note("s3.address", "config_kwargs.s3.use_accelerate_endpoint", why="no access point is accelerated")
    if partition_name(signed) != partition_name(region):
        return note("s3.address", "prefix", why="the partition is not the one of the region")
    if not is_host_label(f"{name}-{account}"):
        return note("s3.address", "prefix", why="the access point has a name that no host has")
    if given:
        scheme, _, rest = given.partition("://")
        if is_ip_address(urlsplit(given).hostname or ""):
            return note("s3.address.unlike", "prefix", why=f"the host {name}-{account}.{rest.partition('/')[0]}")
        return S3Address(endpoint=f"{scheme}://{name}-{account}.{rest}", region=signed, virtual=True)
    host = f"s3-accesspoint{'-fips' if 'fips' in variants else ''}{'.dualstack' if 'dualstack' in variants else ''}"
    endpoint = f"https://{name}-{account}.{host}.{signed}.{partition_suffix(signed)}"
    return S3Address(endpoint=endpoint, region=signed, virtual=True)


def _read_environment_url(environment: Mapping[str, str]) -> str:
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""


def _ignores_environment(config: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    configured = environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return truth(config.get("ignore_configured_endpoint_urls", configured))


def _read_endpoint(options: Mapping[str, Any], environment: Mapping[str, str], notes: list[Note]) -> str:
    client, config = mapping(options.get("client_kwargs")), mapping(options.get("config_kwargs"))
    own, of_client = text(options.get("endpoint_url")), text(client.get("endpoint_url"))
    if own and of_client and own != of_client:
        notes.append(note("option.conflict", "endpoint_url"))
    given = own or of_client
    if not given and not _ignores_environment(config, environment):
        given = _read_environment_url(environment)
        if given:
            notes.append(note("s3.endpoint.environment", "AWS_ENDPOINT_URL"))
    if not given:
        return ""
    normal = normalise_endpoint(given)
    if not normal.startswith(("http://", "https://")):
        notes.append(note("endpoint.scheme", "endpoint_url"))
        return ""
    if "@" in given:
        notes.append(note("endpoint.userinfo", "endpoint_url"))
    if "?" in given or "#" in given:
        notes.append(note("endpoint.query", "endpoint_url"))
    return normal


def _read_region(options: Mapping[str, Any], environment: Mapping[str, str], notes: list[Note]) -> str:
    client, config = mapping(options.get("client_kwargs")), mapping(options.get("config_kwargs"))
    region = text(client.get("region_name")) or text(config.get("region_name"))
    region = region or environment.get("AWS_DEFAULT_REGION", "")
    if region and not _REGION.fullmatch(region):
        notes.append(note("s3.region.invalid", "region_name"))
        return ""
    return "us-east-1" if region == "aws-global" else region


_VARIANTS = {
    "use_accelerate_endpoint": "accelerate", "use_dualstack_endpoint": "dualstack", "use_fips_endpoint": "fips",
}  # fmt: skip


def _read_variants(config: Mapping[str, Any]) -> frozenset[str]:
    s3 = mapping(config.get("s3"))
    return frozenset(variant for name, variant in _VARIANTS.items() if truth(config.get(name)) or truth(s3.get(name)))


def _note_conflicts(options: Mapping[str, Any], given: str, bucket: str, notes: list[Note]) -> str:
    """Note what does not go together; return the option that puts the bucket into the host without one."""
    config = mapping(options.get("config_kwargs"))
    variants = _read_variants(config)
    style = text(mapping(config.get("s3")).get("addressing_style"))
    if given and "accelerate" in variants:
        notes.append(note("s3.endpoint.accelerate", "config_kwargs.s3.use_accelerate_endpoint"))
    elif given and variants:
        notes.append(note("s3.endpoint.variant", "config_kwargs"))
    if not bucket and not given and "accelerate" in variants:
        return "config_kwargs.s3.use_accelerate_endpoint"
    if not bucket and given and style == "virtual":
        return "config_kwargs.s3.addressing_style"
    return ""


def _find_address(options: Mapping[str, Any], given: str, region: str, bucket: str) -> S3Address | Note:
    """Return the address by our own rules, which are botocore's."""
    config = mapping(options.get("config_kwargs"))
    style = text(mapping(config.get("s3")).get("addressing_style"))
    variants = _read_variants(config)
    if arn := _ACCESS_POINT.fullmatch(bucket):
        found = _find_access_point(arn, given, region, variants)
        return found if isinstance(found, Note) or given else _use_scheme(found, options)
    if given:
        signed = region or "us-east-1"
        accelerated = (urlsplit(given).hostname or "").partition(".")[0] == "s3-accelerate" and style != "path"
        hosted = add_bucket(given, bucket) if style == "virtual" or accelerated else ""
        return S3Address(endpoint=hosted or given, region=signed, virtual=bool(hosted))
    if "accelerate" in variants and bucket and not is_host_label(bucket):
        return note("s3.address", "config_kwargs.s3.use_accelerate_endpoint", why="such a bucket cannot be accelerated")
    if region.startswith("cn-") and variants & {"fips", "accelerate"}:
        return note("s3.address", "config_kwargs", why="the partition has neither FIPS nor acceleration")
    return _use_scheme(vendor_address(bucket, region, style=style, variants=variants), options)


def _use_scheme(address: S3Address, options: Mapping[str, Any]) -> S3Address:
    """Return an address at AWS with the scheme that the options name."""
    if truth(mapping(options.get("client_kwargs")).get("use_ssl", options.get("use_ssl", True))):
        return address
    return S3Address(
        endpoint=address.endpoint.replace("https:", "http:", 1), region=address.region, virtual=address.virtual
    )


def _counter_traps(result: dict[str, Any], given: str, environment: Mapping[str, str]) -> list[Note]:
    """Make explicit what obstore would read from the environment, and note it."""
    notes = []
    if "AWS_VIRTUAL_HOSTED_STYLE_REQUEST" in environment:
        result.setdefault("virtual_hosted_style_request", False)
        notes.append(note("s3.trap.virtual_hosted", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"))
    url = environment.get("AWS_ENDPOINT_URL_S3", "")
    if url and result.get("endpoint") and normalise_endpoint(url) not in (given, result["endpoint"]):
        notes.append(note("s3.trap.endpoint", "AWS_ENDPOINT_URL_S3"))
    return notes


def _find_proxy(endpoint: str, environment: Mapping[str, str]) -> str:
    """Return the variable of a proxy that only obstore asks for an endpoint; empty for none."""
    parts = urlsplit(endpoint)
    read = {name: environment.get(name) or environment.get(name.upper(), "") for name in ("all_proxy", "no_proxy")}
    excluded = [name.strip().lstrip(".") for name in read["no_proxy"].split(",") if name.strip()]
    excepted = any(name == "*" or f".{parts.hostname}".endswith(f".{name}") for name in excluded)
    of_scheme = environment.get(f"{parts.scheme}_proxy") or environment.get(f"{parts.scheme.upper()}_PROXY")
    return "ALL_PROXY" if read["all_proxy"] and not excepted and not of_scheme else ""
