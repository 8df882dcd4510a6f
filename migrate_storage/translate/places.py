"""The path rules of ``FSSpecBackend`` and of each fsspec filesystem.

Each rule does what the installed filesystem does, quirks included; ``tests/unit/translate/test_places.py`` compares
them with the real classes.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from migrate_storage.core.model import Place
from migrate_storage.translate.protocols.s3_address import PARTITIONS, partition_name

__all__ = (
    "GLOBAL_MEMORY", "Split", "join_folder", "join_prefix", "normalise_endpoint", "resolve_links", "root_and_prefix",
    "s3_endpoint", "same_service", "split", "vendor_of",
)  # fmt: skip


def resolve_links(place: Place) -> Place:
    """Resolve the links of a place on a disk: two paths to one file are one place."""
    if place.service != "file":
        return place
    try:
        key = os.path.realpath("/" + place.key).lstrip("/")
    except (OSError, ValueError):
        # No disk can have such a name.
        return place
    return replace(place, key=f"{key}/" if key and place.key.endswith("/") else key)


#: Root of the one dictionary that all ``MemoryFileSystem`` instances of a process share.
GLOBAL_MEMORY = "process"


@dataclass(frozen=True, slots=True)
class Split:
    """A path, split into bucket (or ``/``, or base URL) and key."""

    root: str
    key: str


def join_prefix(prefix: str | None, filename: str) -> str:
    """Join as ``FSSpecBackend`` does: a prefix removes leading slashes of the name."""
    if not prefix:
        return filename
    return f"{prefix.rstrip('/')}/{filename.lstrip('/')}"


def join_folder(folder: str, path: str) -> str:
    """Join as ``DirFileSystem`` does: only trailing slashes of the path are removed."""
    if not folder:
        return path
    if not path:
        return folder
    return f"{folder}/{_strip_protocols(path, 'dir').rstrip('/')}"


def split(protocol: str, path: str) -> Split:
    """Split a path as the filesystem of a protocol does. Never raises.

    Args:
        protocol: a canonical protocol: ``s3``, ``gcs``, ``azure``, ``file``, ``memory``, ``http`` or another one.
        path: the full path, with the prefix.
    """
    rule = _RULES.get(protocol)
    return rule(path) if rule else Split("", path)


def root_and_prefix(protocol: str, prefix: str | None) -> tuple[str, str]:
    """Return the root and the inner prefix that the prefix of a backend names.

    Returns:
        An empty root where each row names its own. The inner prefix has no slash at its end, but obstore may be unable
        to address it.
    """
    parts = split(protocol, join_prefix(prefix, "x"))
    if not prefix or parts.key[-1:] != "x" or not prefix.strip("/"):
        return "", ""
    return parts.root, parts.key[:-2]


def _strip_protocols(path: str, *protocols: str) -> str:
    for protocol in protocols:
        for separator in ("://", "::"):
            if path.startswith(protocol + separator):
                path = path[len(protocol + separator) :]
                break
    return path


_ARN = re.compile(
    r"(arn:aws[^/]*?:s3:[a-z\-0-9]*:[0-9]{12}:accesspoint[:/][^/]+"
    r"|arn:aws[^/]*?:s3-object-lambda:[a-z\-0-9]+:[0-9]{12}:accesspoint[:/][a-zA-Z0-9\-]{1,63}"
    r"|arn:aws[^/]*?:s3-outposts:[a-z\-0-9]+:[0-9]{12}:outpost[/:][a-zA-Z0-9\-]{1,63}"
    r"[/:](?:bucket|accesspoint)[/:][a-zA-Z0-9\-]{1,63})[:/]?(.*)",
    re.DOTALL,
)


def _split_s3(path: str) -> Split:
    trail = path[len(path.rstrip("/")) :]
    stripped = _strip_protocols(path, "s3", "s3a").rstrip("/").lstrip("/")
    if "/" not in stripped:
        return Split(stripped, "")
    arn = _ARN.fullmatch(stripped)
    bucket, rest = arn.groups() if arn else stripped.split("/", 1)
    # s3fs removes the version even where it is not version aware.
    return Split(bucket, rest.partition("?versionId=")[0] + trail)


def _split_gcs(path: str) -> Split:
    bucket, _, key = _strip_protocols(path, "gs", "gcs").lstrip("/").partition("/")
    return Split(bucket, key)


_AZURE_PROTOCOLS = ("abfs://", "az://", "abfss://")
_AZURE_STORE_SUFFIX = ".dfs.core.windows.net"


def _split_azure(path: str) -> Split:
    # adlfs reads every path as a URL.
    url = path if path.startswith(_AZURE_PROTOCOLS) else f"abfs://{path.lstrip('/')}"
    try:
        parts = urlsplit(url)
    except ValueError:
        container, _, key = url.partition("://")[2].partition("/")
        return Split(container, key)
    stripped = f"{parts.path}#{parts.fragment}" if parts.fragment else parts.path
    user, _, host = parts.netloc.rpartition("@")
    if container := user.partition(":")[0]:
        stripped = container + stripped
    elif _AZURE_STORE_SUFFIX not in host:
        stripped = host.rpartition(":")[0] + stripped if ":" in host else host + stripped
    if parts.query:
        stripped = f"{stripped}?{parts.query}"
    container, _, key = stripped.lstrip("/").partition("/")
    # The service reads a backslash as a slash.
    return Split(container, key.partition("?versionid=")[0].replace("\\", "/"))


def _split_file(path: str) -> Split:
    for protocol in ("file", "local"):
        for separator in ("://", ":"):
            if path.startswith(protocol + separator):
                return _split_absolute(path[len(protocol + separator) :])
    return _split_absolute(path)


def _split_absolute(path: str) -> Split:
    if path.startswith("~"):
        path = posixpath.expanduser(path)
    if not path.startswith("/"):
        path = f"{os.getcwd()}/{path}"  # noqa: PTH109 - text, as fsspec does it
    # normpath keeps two leading slashes, which the kernel reads as one.
    return Split("/", posixpath.normpath("/" + path.lstrip("/")).lstrip("/"))


def _split_memory(path: str) -> Split:
    path = path.removeprefix("memory://")
    if "::" in path or "://" in path:
        return Split(GLOBAL_MEMORY, path.rstrip("/"))
    return Split(GLOBAL_MEMORY, path.strip("/"))


def _split_http(path: str) -> Split:
    # HTTPFileSystem never sends a fragment.
    path = path.partition("#")[0]
    if "://" not in path:
        return Split("", path)
    parts = urlsplit(path)
    base = f"{parts.scheme}://{parts.netloc}"
    return Split(normalise_endpoint(base), path[len(base) :].lstrip("/"))


_RULES = {
    "s3": _split_s3, "gcs": _split_gcs, "azure": _split_azure,
    "file": _split_file, "memory": _split_memory, "http": _split_http,
}  # fmt: skip


def normalise_endpoint(url: str) -> str:
    """Return an endpoint in a form in which equal servers compare equal: scheme, host, port and path.

    User, query and fragment are removed. An endpoint that is no URL is returned in lower case without trailing slashes.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url.rpartition("@")[2].lower().rstrip("/")
    if not parts.scheme or not parts.hostname:
        return url.rpartition("@")[2].lower().rstrip("/")
    scheme = parts.scheme.lower()
    host = parts.hostname.rstrip(".")
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != {"http": 80, "https": 443}.get(scheme):
        host = f"{host}:{port}"
    return f"{scheme}://{host}{parts.path.rstrip('/')}"


def s3_endpoint(endpoint: str | None, *, region: str | None = None, bucket: str = "", virtual: bool = False) -> str:
    """Return the endpoint of a :class:`Place` on S3.

    Args:
        endpoint: the endpoint of the store; ``None`` or empty for the vendor's own.
        region: determines the partition where there is no endpoint.
        bucket: with ``virtual``, removed from the front of the host.
        virtual: whether the endpoint's host contains the bucket.

    Returns:
        Empty for AWS, ``aws-cn`` and the like for its other partitions, else a normalised URL.
    """
    # Bucket names are unique within a partition of AWS, so region and style of the endpoint do not matter.
    if not endpoint:
        return partition_name(region or "")
    normal = normalise_endpoint(endpoint)
    scheme, _, rest = normal.partition("://")
    if virtual and bucket and rest.startswith(f"{bucket}."):
        rest = rest[len(bucket) + 1 :]
        normal = f"{scheme}://{rest}"
    host = rest.partition("/")[0].partition(":")[0]
    for start, suffix, name in PARTITIONS:
        if host.endswith(f".{suffix}") and (suffix != "amazonaws.com" or start in host):
            return name
    return normal


#: Hosts that belong to one vendor only: two different vendors are two different services.
_VENDORS = (
    ("amazonaws.com", "aws"), ("amazonaws.com.cn", "aws"), ("r2.cloudflarestorage.com", "cloudflare"),
    ("digitaloceanspaces.com", "digitalocean"), ("backblazeb2.com", "backblaze"), ("wasabisys.com", "wasabi"),
    ("googleapis.com", "google"), ("core.windows.net", "azure"), ("core.chinacloudapi.cn", "azure"),
    ("core.usgovcloudapi.net", "azure"), ("fabric.microsoft.com", "azure"), ("aliyuncs.com", "alibaba"),
    ("oraclecloud.com", "oracle"), ("linodeobjects.com", "linode"), ("scw.cloud", "scaleway"),
    ("storage.yandexcloud.net", "yandex"),
)  # fmt: skip
_VENDOR_OF_SERVICE = {"s3": "aws", "gcs": "google", "azure": "azure"}
#: Services that give access to a disk, perhaps to that of this machine.
_REMOTE_DISKS = frozenset({"sftp", "ssh", "ftp", "smb", "webdav", "http", "hdfs", "webhdfs", "nfs", "jupyter"})


def vendor_of(place: Place) -> str | None:
    """Return the vendor whose own host name a place is asked under; ``None`` for any other host."""
    if not place.endpoint or place.endpoint.startswith("aws-"):
        return _VENDOR_OF_SERVICE.get(place.service)
    host = place.endpoint.partition("://")[2].partition("/")[0].partition(":")[0]
    return next((vendor for suffix, vendor in _VENDORS if f".{host}".endswith(f".{suffix}")), None)


def same_service(a: Place, b: Place) -> bool | None:
    """Return whether two places are on one service: then equal root and key are the same object.

    Returns:
        ``True`` where they are; ``False`` where they cannot be; ``None`` in doubt. Two endpoints may be two names of
        one server, and a server may serve a disk or a bucket that is also reached in another way. Then only a probe of
        the objects decides.
    """
    if a.service == b.service and a.endpoint == b.endpoint:
        return True
    services = {a.service, b.service}
    if "memory" in services:
        return False
    vendors = (vendor_of(a), vendor_of(b))
    if services == {"file"}:
        return True
    if "file" in services:
        other, vendor = (b, vendors[1]) if a.service == "file" else (a, vendors[0])
        if other.service in _REMOTE_DISKS:
            return None
        return False if vendor or other.service in ("gcs", "azure") else None
    if None not in vendors and vendors[0] != vendors[1]:
        return False
    if services in ({"s3", "azure"}, {"gcs", "azure"}):
        return False
    # A storage account is part of its host's name.
    apart = (services == {"azure"} and None not in vendors) or (services == {"s3"} and vendors == ("aws", "aws"))
    return False if apart else None
