"""Where the requests for a bucket go, by botocore's rules: style by the bucket's name, partition, region.

``registration/botocore_client.py`` asks botocore itself where a live filesystem is at hand. These rules are for what is
only written down: options in a source file, and those of an ``ObstoreBackend``. The round trips in
``tests/unit/translate/codegen`` compare both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from migrate_storage.core.model import Note

__all__ = (
    "PARTITIONS",
    "Resolver",
    "S3Address",
    "add_bucket",
    "is_host_label",
    "is_ip_address",
    "partition_name",
    "partition_suffix",
    "vendor_address",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Address:
    """The address of one bucket."""

    #: Scheme, host, port and path, as obstore takes it: with the bucket in the host where ``virtual``, else without it.
    endpoint: str
    #: The region of the signature.
    region: str
    #: Whether the bucket is in the host.
    virtual: bool


class Resolver(Protocol):
    """Knows the addresses that a filesystem asks."""

    @property
    def endpoint_source(self) -> str:
        """Where an endpoint comes from that the options do not name: a variable, ``profile``, or empty."""

    @property
    def has_region(self) -> bool:
        """Whether any source names a region."""

    def address(self, bucket: str) -> S3Address | Note:
        """Return the address of a bucket, of the service for an empty one; or the note that refuses it."""


#: The start of a partition's regions, the end of its hosts, and its name. The last one is of all other regions.
PARTITIONS = (
    ("cn-", "amazonaws.com.cn", "aws-cn"),
    ("us-gov-", "amazonaws.com", "aws-us-gov"),
    ("eusc-", "amazonaws.eu", "aws-eusc"),
    ("us-iso-", "c2s.ic.gov", "aws-iso"),
    ("us-isob-", "sc2s.sgov.gov", "aws-iso-b"),
    ("eu-isoe-", "cloud.adc-e.uk", "aws-iso-e"),
    ("us-isof-", "csp.hci.ic.gov", "aws-iso-f"),
    ("", "amazonaws.com", ""),
)

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SHORTEST_BUCKET, _LONGEST_BUCKET = 3, 63


def partition_suffix(region: str) -> str:
    """Return the end of the vendor's hosts in a region's partition."""
    return next(suffix for start, suffix, _ in PARTITIONS if region.startswith(start))


def partition_name(region: str) -> str:
    """Return the name of a region's partition; empty for the one of most regions."""
    return next(name for start, _, name in PARTITIONS if region.startswith(start))


def is_host_label(bucket: str, scheme: str = "https") -> bool:
    """Return whether a bucket can be the first part of a host's name.

    Upper case would be another bucket, and a certificate covers no further dot.

    Args:
        bucket: its name.
        scheme: dots are possible where there is no certificate, with ``http``.
    """
    length = _SHORTEST_BUCKET <= len(bucket) <= _LONGEST_BUCKET
    return length and fits_host(bucket, scheme) and not is_ip_address(bucket)


def fits_host(bucket: str, scheme: str) -> bool:
    """Return whether a bucket may stay in a host into which it was written: any length, else as :func:`is_host_label`."""
    labels = bucket.split(".") if scheme == "http" else [bucket]
    return all(_LABEL.fullmatch(label) for label in labels)


def is_ip_address(host: str) -> bool:
    """Return whether a host is an address of version 4 or 6, with or without brackets."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def add_bucket(endpoint: str, bucket: str) -> str:
    """Return an endpoint with the bucket in its host; empty where the bucket or the host does not allow it."""
    parts = urlsplit(endpoint)
    if not is_host_label(bucket, parts.scheme) or is_ip_address(parts.hostname or ""):
        return ""
    return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}"


def vendor_address(bucket: str, region: str, *, style: str = "", variants: frozenset[str] = frozenset()) -> S3Address:
    """Return the address at AWS itself.

    Args:
        bucket: empty for the address of the service.
        region: empty for none.
        style: botocore's ``addressing_style``.
        variants: some of ``accelerate``, ``dualstack``, ``fips``.
    """
    signed = region or "us-east-1"
    suffix = partition_suffix(signed)
    middle = ".dualstack" if "dualstack" in variants else ""
    hosted = is_host_label(bucket) and style != "path"
    if "accelerate" in variants and is_host_label(bucket):
        return S3Address(endpoint=f"https://{bucket}.s3-accelerate{middle}.{suffix}", region=signed, virtual=True)
    host = f"s3-fips{middle}.{signed}.{suffix}" if "fips" in variants else f"s3{middle}.{signed}.{suffix}"
    if signed == "us-east-1" and not variants:
        # botocore keeps the global host for this region.
        host = "s3.amazonaws.com"
    if hosted:
        return S3Address(endpoint=f"https://{bucket}.{host}", region=signed, virtual=True)
    return S3Address(endpoint=f"https://{host}", region=signed, virtual=False)
