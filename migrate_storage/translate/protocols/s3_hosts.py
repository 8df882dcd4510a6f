"""The hosts of S3 and of services like it: bucket and region in their names.

Sources: the vendors' lists of endpoints; for AWS "Amazon Simple Storage Service endpoints and quotas" and the rules of
botocore. A host of AWS that is none of these is refused, so that no bucket is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from migrate_storage.core.errors import ConfigurationError

__all__ = ("S3Host", "fit_endpoint", "vendor_host")


@dataclass(frozen=True, slots=True)
class S3Host:
    """What a host's name shows."""

    #: Empty where the bucket is in the path.
    bucket: str = ""
    #: Empty where the name has none and the service needs none.
    region: str = ""
    #: Whether the bucket must stay in the host.
    only_virtual: bool = False
    #: Why no bucket can be read from it; empty where one can.
    refusal: str = ""
    #: Whether it serves objects, but not by the protocol of S3.
    for_readers: bool = False


_BUCKET = r"(?:(?P<bucket>.+)\.)?"
_REGION = r"(?P<region>[a-z]{2,4}(?:-[a-z0-9]+)+-\d+)"
_ORACLE = r"(?:oraclecloud\.com|oci\.customer-oci\.com)"

#: Patterns of hosts, with the region where the name has none, and whether the bucket must stay in the host.
_VENDORS: tuple[tuple[str, str, bool], ...] = (
    (rf"{_BUCKET}(?!eu\.|fedramp\.)[a-z0-9-]+(?:\.eu|\.fedramp)?\.r2\.cloudflarestorage\.com", "auto", False),
    (rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.digitaloceanspaces\.com", "", False),
    (rf"{_BUCKET}s3\.(?P<region>[a-z0-9-]+)\.backblazeb2\.com", "", False),
    (rf"{_BUCKET}s3(?:\.(?P<region>[a-z0-9-]+))?\.wasabisys\.com", "us-east-1", False),
    (rf"{_BUCKET}s3\.(?P<region>[a-z0-9-]+)\.scw\.cloud", "", False),
    (rf"{_BUCKET}s3\.(?P<region>[a-z0-9-]+)\.(?:io\.|perf\.)?cloud\.ovh\.(?:net|us)", "", False),
    (rf"{_BUCKET}(?P<region>[a-z]{{2,3}}(?:-[a-z]+)+-\d+)\.linodeobjects\.com", "", False),
    (rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.your-objectstorage\.com", "", False),
    (rf"{_BUCKET}(?P<region>[a-z]{{3}}\d)\.vultrobjects\.com", "", False),
    (rf"{_BUCKET}sos-(?P<region>[a-z]{{2}}-[a-z]+-\d)\.exo\.io", "", False),
    (
        rf"{_BUCKET}s3\.(?:(?:private|direct)\.)?(?P<region>[a-z0-9-]+)\.cloud-object-storage\.appdomain\.cloud",
        "",
        False,
    ),
    (rf"{_BUCKET}(?:fly\.storage\.tigris|t3\.storage)\.dev", "auto", False),
    (rf"{_BUCKET}storage\.yandexcloud\.net", "ru-central1", False),
    (rf"{_BUCKET}gateway(?:\.[a-z]{{2}}\d)?\.storjshare\.io", "us-east-1", False),
    (rf"{_BUCKET}[a-z0-9]+\.[a-z]{{2,4}}\d*\.idrivee2-\d+\.com", "us-east-1", False),
    (rf"{_BUCKET}s3\.(?P<region>[a-z0-9-]+)\.idrivee2\.com", "", False),
    (rf"[a-z0-9]+\.compat\.objectstorage\.(?P<region>[a-z0-9-]+)\.{_ORACLE}", "", False),
    (rf"(?P<bucket>[^.]+)\.vhcompat\.objectstorage\.(?P<region>[a-z0-9-]+)\.{_ORACLE}", "", True),
    (rf"{_BUCKET}cos\.(?P<region>[a-z]{{2,}}-[a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)", "", True),
    (rf"{_BUCKET}oss-(?P<region>[a-z]{{2}}-[a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com", "", True),
)

#: Hosts of these vendors that serve objects in another way, with the bucket in front.
_NOT_S3 = (
    r"(?:^|\.)(cdn\.digitaloceanspaces\.com|f\d{3}\.backblazeb2\.com|link\.storjshare\.io|r2\.dev|"
    r"website(?:[.-][a-z0-9.-]+)?\.(?:linodeobjects\.com|yandexcloud\.net|scw\.cloud|aliyuncs\.com|myqcloud\.com))$"
)

_SUFFIX = r"(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
_AWS: tuple[tuple[str, bool], ...] = (
    (rf"{_BUCKET}s3(?:-fips)?(?:\.dualstack)?(?:[.-]{_REGION})?\.{_SUFFIX}", False),
    (rf"(?:(?P<bucket>[^.]+)\.)?s3-accelerate(?:\.dualstack)?\.{_SUFFIX}", True),
    (rf"(?P<bucket>[^.]+--x-s3)\.s3express-(?:fips-)?[a-z0-9-]+(?:\.dualstack)?\.{_REGION}\.{_SUFFIX}", True),
    (rf"bucket\.vpce-[a-z0-9-]+\.s3\.{_REGION}\.vpce\.{_SUFFIX}", False),
)


def vendor_host(host: str) -> S3Host | None:
    """Return what the host of a known service shows; ``None`` for any other host.

    Args:
        host: in lower case, without port.
    """
    for pattern, only_virtual in _AWS:
        if found := re.fullmatch(pattern, host):
            return _read_aws(found.groupdict(), host, only_virtual=only_virtual)
    if re.search(rf"(?:^|\.){_SUFFIX}$", host):
        return S3Host(refusal="the bucket cannot be read from this host of AWS")
    for pattern, region, only_virtual in _VENDORS:
        if found := re.fullmatch(pattern, host):
            names = found.groupdict()
            return S3Host(names.get("bucket") or "", names.get("region") or region, only_virtual)
    if found := re.search(_NOT_S3, host):
        refusal = f"{found[1]} is a host for readers: give the vendor's endpoint of S3"
        return S3Host(refusal=refusal, for_readers=True)
    return None


def fit_endpoint(endpoint: str, bucket: str) -> dict[str, str]:
    """Return the options that a vendor's endpoint implies for a bucket.

    Vendors' consoles show the endpoint with the bucket, which is removed. A vendor without path style gets it in front.

    Args:
        endpoint: a normalised URL.
        bucket: the bucket that is asked for.

    Returns:
        ``endpoint``, ``region`` and, where the bucket is in the host, ``virtual_hosted_style_request``. Nothing where
        the vendor is not known.

    Raises:
        ConfigurationError: the endpoint names another bucket or a path, or it serves no S3.
    """
    parts = urlsplit(endpoint)
    found = vendor_host(parts.hostname or "")
    if not found or (found.refusal and not found.for_readers and not found.only_virtual):
        return {}
    if found.for_readers:
        raise ConfigurationError(f"s3://{bucket}: the endpoint's {found.refusal}")
    if found.bucket and found.bucket.lower() != bucket.lower():
        raise ConfigurationError(f"s3://{bucket}: the endpoint names another bucket, {found.bucket!r}; keep one")
    path = parts.path.strip("/")
    if path and (found.bucket or path != bucket):
        raise ConfigurationError(
            f"s3://{bucket}: the endpoint has a path, {path!r}; write it as the prefix, s3://{bucket}/PREFIX"
        )
    netloc = parts.netloc[len(bucket) + 1 :] if found.bucket else parts.netloc
    options = {"region": found.region} if found.region else {}
    if found.only_virtual:
        return {**options, "endpoint": f"{parts.scheme}://{bucket}.{netloc}", "virtual_hosted_style_request": "true"}
    return {**options, "endpoint": f"{parts.scheme}://{netloc}"}


def _read_aws(names: dict[str, str | None], host: str, *, only_virtual: bool) -> S3Host:
    bucket, region = names.get("bucket") or "", names.get("region") or ""
    if only_virtual and not bucket:
        return S3Host(only_virtual=True, refusal="this host needs the bucket in front of it")
    if bucket.split(".")[-1].startswith(("s3-", "vpce-")) or ".s3." in f".{bucket}.":
        return S3Host(refusal="the bucket cannot be read from this host of AWS")
    if not region and not host.endswith("amazonaws.com"):
        return S3Host(refusal="this host of AWS names no region")
    # An accelerated host has no region, and its signature needs the bucket's.
    return S3Host(bucket, region or ("" if only_virtual else "us-east-1"), only_virtual)
