"""Read a URL or path: service, bucket, key prefix and implied options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.translate.places import normalise_endpoint
from migrate_storage.translate.protocols.s3_hosts import S3Host, vendor_host

__all__ = ("Target", "parse_path", "parse_url")


@dataclass(frozen=True, slots=True)
class Target:
    """The place that a URL names."""

    service: str
    root: str
    prefix: str = ""
    #: Options that the URL's host implies, such as ``endpoint`` and ``region``.
    options: Mapping[str, str] = field(default_factory=dict)


_SCHEMES = {
    "s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "azure": "azure",
    "adl": "azure", "abfs": "azure", "abfss": "azure", "wasb": "azure", "wasbs": "azure", "r2": "r2",
    "file": "file", "local": "file", "memory": "memory", "http": "http", "https": "http",
}  # fmt: skip

_EXAMPLES = "s3://BUCKET/, gs://BUCKET/, az://CONTAINER/, file:///DIRECTORY/, memory:// or ./DIRECTORY"


def parse_path(path: Path) -> Target:
    """Return the directory that a path names, absolute, with ``~`` resolved."""
    return Target("file", str(path.expanduser().absolute()))


def parse_url(url: str, service: str | None = None) -> Target:
    """Return the place that a URL names.

    Args:
        url: a URL, or a path that begins with ``/``, ``./``, ``../`` or ``~``.
        service: the service of the options given with it (``s3``, ``gcs``, ``azure``). It decides for an
            ``https://`` URL of an unknown host.

    Raises:
        ConfigurationError: it names no place, or is ambiguous.
    """
    if url.startswith(("/", "./", "../", "~")) or url in (".", "..") or re.match(r"[A-Za-z]:[\\/]", url):
        return parse_path(Path(url))
    scheme = url.partition(":")[0].lower()
    if scheme not in _SCHEMES or ":" not in url:
        raise ConfigurationError(f"{_mask_url(url)!r} names no store; write {_EXAMPLES}")
    if any(ord(character) < 32 or ord(character) == 127 for character in url):
        raise ConfigurationError("the store's URL has a control character; percent-encode it")
    if scheme in ("file", "local"):
        return _parse_file(url)
    if scheme == "memory":
        return Target("memory", "", _decode_prefix(url.partition("://")[2]))
    parts = urlsplit(url)
    if "://" not in url or not parts.netloc:
        raise ConfigurationError(f"{_mask_url(url)!r} has no bucket; write {scheme}://BUCKET/")
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{_mask_url(url)!r}: ? and # end a URL's path; percent-encode them, or give the prefix as prefix=…"
        )
    if _SCHEMES[scheme] == "http":
        return _parse_http(parts, service)
    return _parse_bucket(parts, _SCHEMES[scheme])


def _mask_url(url: str) -> str:
    """Return the URL without parts that may be secret."""
    head, _, rest = url.partition("://")
    return (f"{head}://{rest.rpartition('@')[2]}" if rest else head).partition("?")[0][:100]


def _decode_prefix(path: str) -> str:
    return unquote(path).strip("/")


def _parse_file(url: str) -> Target:
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        if authority in (".", "..") or authority.startswith("~"):
            rest = f"{authority}{slash}{path}"
        elif authority in ("", "localhost"):
            rest = f"{slash}{path}"
        else:
            raise ConfigurationError(
                f"{_mask_url(url)!r} names a directory on the host {authority!r}; "
                f"write file:///{authority}/{path}, ./{authority}/{path} or a Path"
            )
    if "?" in rest or "#" in rest:
        raise ConfigurationError(f"{_mask_url(url)!r}: percent-encode ? and #, or pass a Path")
    path = unquote(rest)
    if not path:
        raise ConfigurationError(f"{url!r} has no directory; write file:///DIRECTORY/")
    return parse_path(Path(path))


def _parse_bucket(parts: SplitResult, service: str) -> Target:
    user, at, host = parts.netloc.rpartition("@")
    if service == "azure" and at:
        host = _normalise_host(parts._replace(netloc=host)).netloc
        found = re.fullmatch(_AZURE_HOST, host)
        if not found:
            raise ConfigurationError(
                f"{parts.scheme}://…@{host}: no host of Azure; write {parts.scheme}://CONTAINER@ACCOUNT.dfs.core.windows.net/, "
                "or az://CONTAINER/ with azure_storage_account_name and azure_endpoint"
            )
        return Target("azure", user, _decode_prefix(parts.path), _make_azure_options(found["account"], host))
    if at or ":" in parts.netloc:
        raise ConfigurationError(
            f"{parts.scheme}://{host}: a bucket has neither user nor port; give keys and endpoint as options"
        )
    return Target(service, unquote(parts.netloc), _decode_prefix(parts.path))


def _make_azure_options(account: str, host: str) -> dict[str, str]:
    """Return the account, and the endpoint where obstore would not ask this host by itself."""
    host = host.lower().replace(".dfs.", ".blob.", 1)
    name = account.lower().removesuffix("-secondary")
    options = {"account_name": name}
    if host != f"{name}.blob.core.windows.net":
        options["endpoint"] = f"https://{host}"
    return options


def _split_first_segment(parts: SplitResult, what: str) -> tuple[str, str]:
    root, _, rest = parts.path.lstrip("/").partition("/")
    if not root:
        raise ConfigurationError(
            f"{parts.scheme}://{parts.hostname}: no {what}; write {parts.scheme}://{parts.netloc}/{what.upper()}/"
        )
    return unquote(root), _decode_prefix(rest)


def _parse_s3_path(parts: SplitResult, **options: str) -> Target:
    bucket, prefix = _split_first_segment(parts, "bucket")
    return Target("s3", bucket, prefix, {"endpoint": f"{parts.scheme}://{parts.netloc}", **options})


def _parse_s3_host(parts: SplitResult, host: S3Host) -> Target:
    """Read the URL of a vendor. Path style is used where the vendor has both."""
    options = {"region": host.region} if host.region else {}
    if host.refusal:
        raise ConfigurationError(
            f"{parts.scheme}://{parts.hostname}: {host.refusal}; write s3://BUCKET/ with aws_endpoint and aws_region"
        )
    if not host.bucket:
        return _parse_s3_path(parts, **options)
    if host.only_virtual:
        options |= {"endpoint": f"{parts.scheme}://{parts.netloc}", "virtual_hosted_style_request": "true"}
    else:
        options["endpoint"] = f"{parts.scheme}://{parts.netloc[len(host.bucket) + 1 :]}"
    return Target("s3", host.bucket, _decode_prefix(parts.path), options)


def _parse_gcs(parts: SplitResult, found: re.Match[str]) -> Target:
    if found["bucket"]:
        return Target("gcs", found["bucket"], _decode_prefix(parts.path))
    bucket, prefix = _split_first_segment(parts, "bucket")
    return Target("gcs", bucket, prefix)


def _parse_azure(parts: SplitResult, found: re.Match[str]) -> Target:
    container, prefix = _split_first_segment(parts, "container")
    return Target("azure", container, prefix, _make_azure_options(found["account"], parts.netloc))


_GCS_HOST = r"(?:(?P<bucket>.+)\.)?storage\.(?:googleapis|cloud\.google)\.com"
_AZURE_HOST = r"(?P<account>[a-z0-9-]+)(?:\.privatelink|\.z\d+)?\.(?:blob|dfs)\.(?:core\.|storage\.|fabric\.)?[a-z.]+"


def _normalise_host(parts: SplitResult) -> SplitResult:
    """Return a URL without the final dot and the default port, which name the same server."""
    if "@" in parts.netloc:
        return parts
    return parts._replace(netloc=urlsplit(normalise_endpoint(f"{parts.scheme}://{parts.netloc}")).netloc)


def _parse_http(parts: SplitResult, service: str | None) -> Target:
    parts = _normalise_host(parts)
    host = (parts.hostname or "").lower()
    if service in (None, "s3") and (found := vendor_host(host)):
        return _parse_s3_host(parts, found)
    if service in (None, "gcs") and (match := re.fullmatch(_GCS_HOST, host)):
        return _parse_gcs(parts, match)
    if service in (None, "azure") and (match := re.fullmatch(_AZURE_HOST, host)):
        return _parse_azure(parts, match)
    if service == "s3":
        return _parse_s3_path(parts)
    if service == "gcs":
        bucket, prefix = _split_first_segment(parts, "bucket")
        return Target("gcs", bucket, prefix, {"base_url": f"{parts.scheme}://{parts.netloc}"})
    if service == "azure":
        return _parse_azure_path(parts)
    return Target("http", f"{parts.scheme}://{parts.netloc}", parts.path.strip("/"))


def _parse_azure_path(parts: SplitResult) -> Target:
    """Read ``http://127.0.0.1:10000/ACCOUNT/CONTAINER``, as emulators have it."""
    account, _, rest = parts.path.lstrip("/").partition("/")
    container, _, prefix = rest.partition("/")
    if not container:
        raise ConfigurationError(
            f"{parts.scheme}://{parts.hostname}: no container; write {parts.scheme}://{parts.netloc}/ACCOUNT/CONTAINER/"
        )
    endpoint = f"{parts.scheme}://{parts.netloc}/{account}"
    return Target("azure", unquote(container), _decode_prefix(prefix), {"account_name": account, "endpoint": endpoint})
