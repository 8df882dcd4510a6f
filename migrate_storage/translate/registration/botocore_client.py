"""Ask botocore where an ``S3FileSystem`` sends its requests.

The client is made from the filesystem's own session and arguments, as s3fs makes it. It has keys of its own, so
that no credentials are requested, and each request is stopped before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from migrate_storage.core.model import Note
from migrate_storage.core.text import printable
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, truth
from migrate_storage.translate.protocols.s3_address import S3Address, is_ip_address

__all__ = ("BotocoreClient", "make_client")

_KEY = "key-of-a-file"
_NO_BUCKET = ("Any_Bucket", "any-bucket")
"""Names for the address of the service: the first is never a part of a host."""
_SESSION_ARGUMENTS = ("profile", "session_vars", "event_hooks", "include_builtin_handlers")
_OPERATIONS = ("GetObject", "CreateSession")
_CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class _StoppedError(BaseException):
    """A request, right before it would be sent."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


@dataclass(frozen=True, slots=True)
class BotocoreClient:
    """A client that sends nothing, made like the one of the filesystem."""

    _client: Any
    #: The client configuration of its session that counts beside the filesystem's own options.
    session_config: Mapping[str, Any]
    #: Where a configured endpoint comes from: a variable's name, ``profile``, or empty.
    endpoint_source: str

    def address(self, bucket: str) -> S3Address | Note:
        """Return the address of a bucket; the note that refuses it where obstore cannot ask it."""
        if bucket:
            return self._read_address(bucket)
        first, second = (self._read_address(name) for name in _NO_BUCKET)
        if isinstance(first, S3Address):
            return first
        if isinstance(second, Note):
            return second
        scheme, _, rest = second.endpoint.partition("://")
        endpoint = f"{scheme}://{rest.removeprefix(f'{_NO_BUCKET[1]}.')}"
        return S3Address(endpoint=endpoint, region=second.region, virtual=False)

    def _read_address(self, bucket: str) -> S3Address | Note:
        asked = self.request(bucket, _KEY)
        if isinstance(asked, Note):
            return asked
        url, region = asked
        parts = urlsplit(url)
        host, _, port = _split_port(parts.netloc.rpartition("@")[2])
        base = f"{parts.scheme}://{host}{port}"
        if bucket.startswith("arn:") and parts.path.endswith(f"/{_KEY}"):
            # The host is the access point's own. Before an IP address it is none.
            if is_ip_address(host.partition(".")[2]):
                return note("s3.address.unlike", "prefix", why=f"the host {printable(host)}")
            return S3Address(endpoint=base + parts.path.removesuffix(f"/{_KEY}"), region=region, virtual=True)
        path = f"/{quote(bucket, safe='')}/{_KEY}"
        if parts.path.endswith(path):
            return S3Address(endpoint=base + parts.path.removesuffix(path), region=region, virtual=False)
        if host.startswith(f"{bucket}.") and is_ip_address(host.removeprefix(f"{bucket}.")):
            return note("s3.address.unlike", "config_kwargs.s3.addressing_style", why=f"the host {printable(host)}")
        if host.startswith(f"{bucket}.") and parts.path.endswith(f"/{_KEY}"):
            return S3Address(endpoint=base + parts.path.removesuffix(f"/{_KEY}"), region=region, virtual=True)
        return note("s3.address.unlike", "prefix", why=printable(f"{base}{unquote(parts.path)}"[:200]))

    def request(self, bucket: str, key: str) -> tuple[str, str] | Note:
        """Return the URL of a GET and the region of its signature."""
        try:
            _finish(self._client.get_object(Bucket=bucket, Key=key))
        except _StoppedError as stopped:
            return self._read_request(stopped.request, bucket, key)
        except Exception as error:  # noqa: BLE001 - botocore's own errors have no common base with those of a hook
            return note("s3.address", "prefix", why=printable(str(error)[:200]))
        return note("s3.address", "session", why="a hook of the session answers its requests")

    def _read_request(self, request: Any, bucket: str, key: str) -> tuple[str, str] | Note:
        authorization = request.headers.get("Authorization", b"")
        text = authorization.decode() if isinstance(authorization, bytes) else str(authorization)
        scope = re.search(r"Credential=[^/]*/\d+/([^/]+)/([^/]+)/aws4_request", text)
        region = self._client.meta.region_name or "us-east-1"
        url = str(request.url)
        if scope:
            region, service = scope.groups()
            if service == "s3express" and bucket.endswith("--x-s3"):
                # A session of the bucket is asked for first; objects are below the same host.
                parts = urlsplit(url)
                if not parts.netloc.startswith(f"{bucket}.s3express-"):
                    return note("s3.address.unlike", "endpoint_url", why="an express bucket at a custom endpoint")
                url = f"{parts.scheme}://{parts.netloc}/{quote(key)}"
            elif service != "s3":
                return note("s3.address.unlike", "prefix", why=f"the service {printable(service)}")
        elif "AWS4-ECDSA" in text:
            return note("s3.address.unlike", "prefix", why="with a signature for several regions")
        return url, "us-east-1" if region == "aws-global" else region

    def sign(self, bucket: str, key: str) -> tuple[str, str] | Note:
        """Return the pre-signed URL of a GET and the region of its signature; empty where its version has none."""
        try:
            url = str(_finish(self._client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})))
        except _StoppedError:
            return note("s3.address", "prefix", why="the service is asked for a session first")
        except Exception as error:  # noqa: BLE001 - botocore's own errors have no common base with those of a hook
            return note("s3.address", "prefix", why=printable(str(error)[:200]))
        scope = parse_qs(urlsplit(url).query).get("X-Amz-Credential", [""])[0].split("/")
        region = scope[2] if len(scope) > 2 else ""
        return url, "us-east-1" if region == "aws-global" else region

    @property
    def has_region(self) -> bool:
        """Whether the options, a variable or the profile name a region."""
        return self._client.meta.config.region_name not in (None, "", "aws-global")

    @property
    def ca_bundle(self) -> str:
        """The certificates' file that the session's configuration names; empty for none."""
        verify = getattr(getattr(getattr(self._client, "_endpoint", None), "http_session", None), "_verify", None)
        return verify if isinstance(verify, str) else ""

    @property
    def signature_version(self) -> Any:
        """The signature that the client's requests have."""
        return self._client.meta.config.signature_version

    @property
    def signs_payload(self) -> bool:
        """Whether the content of a PUT is part of its signature."""
        return mapping(self._client.meta.config.s3).get("payload_signing_enabled") is not False


def _split_port(netloc: str) -> tuple[str, str, str]:
    host, colon, port = netloc.rpartition(":")
    return (host, colon, f":{port}") if colon and port.isdigit() else (netloc, "", "")


def make_client(options: Mapping[str, Any], session: Any = None) -> BotocoreClient | Note | None:
    """Make the client of a filesystem.

    Args:
        options: the filesystem's options.
        session: the aiobotocore session that it was given; ``None`` where it makes its own.

    Returns:
        The client; a note where botocore refuses the options; ``None`` where botocore is not installed.
    """
    try:
        from botocore import UNSIGNED
        from botocore.exceptions import BotoCoreError, ProfileNotFound
    except ImportError:
        return None
    config = dict(mapping(options.get("config_kwargs")))
    client = {name: value for name, value in mapping(options.get("client_kwargs")).items() if name != "config"}
    if truth(options.get("anon")):
        config["signature_version"] = UNSIGNED
    arguments = {name: options.get(name) for name in ("endpoint_url", "use_ssl") if options.get(name) is not None}
    arguments |= {name: value for name, value in client.items() if name not in _CREDENTIALS}
    arguments |= {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "example"}
    try:
        if session is None:
            session = _make_session(
                {name: options[name] for name in _SESSION_ARGUMENTS if options.get(name) is not None}
            )
        made = _make_client(session, config, arguments)
        made.meta.events.register_last("before-send.s3", _stop_request)
        default = session.get_default_client_config()
        return BotocoreClient(
            made, getattr(default, "_user_provided_options", None) or {}, _find_endpoint_source(session)
        )
    except ProfileNotFound as error:
        return note("s3.profile.missing", "profile", why=printable(str(error)[:200]))
    except BotoCoreError as error:
        return note("s3.address", "profile", why=printable(str(error)[:200]))
    except Exception as error:  # noqa: BLE001 - an option may be any object, a session may have hooks of any kind
        return note("s3.address", "config_kwargs", why=f"{type(error).__name__}: {printable(str(error)[:200])}")


def _make_session(arguments: Mapping[str, Any]) -> Any:
    """Return a session of aiobotocore, as s3fs has it; one of botocore where only boto3 is installed."""
    try:
        from aiobotocore.session import AioSession as Session
    except ImportError:
        from botocore.session import Session
    session = Session(**arguments)
    if not session.get_config_variable("data_path"):
        session.register_component("data_loader", _load_data())
    return session


def _make_client(session: Any, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    if type(session).__module__.startswith("botocore"):
        from botocore.config import Config

        return session.create_client("s3", config=Config(**config), **arguments)
    from aiobotocore.config import AioConfig

    create = session._create_client  # noqa: SLF001 - the context of its public name would open connections
    return _finish(create("s3", config=AioConfig(**config), **arguments))


@cache
def _load_data() -> Any:
    """Return botocore's descriptions of services, which take 100 milliseconds to load; of S3 only what is asked here.

    The whole description of S3 would take 10 MB for as long as a client lives.
    """
    from botocore.loaders import create_loader

    loader = create_loader()
    model = loader.load_service_model("s3", "service-2", api_version=None)
    operations, shapes = model["operations"], model["shapes"]
    for operation in operations.values():
        operation.pop("documentation", None)
    needed = _find_shapes({name: operations[name] for name in _OPERATIONS if name in operations}, shapes)
    model["shapes"] = {name: shapes[name] for name in needed}
    endpoints, _ = loader.load_data_with_path("endpoints")
    for partition in endpoints["partitions"]:
        partition["services"] = {name: each for name, each in partition["services"].items() if name == "s3"}
    return loader


def _find_shapes(described: Any, shapes: Mapping[str, Any]) -> set[str]:
    """Return the names of the shapes that a description needs, without their documentation."""
    found: set[str] = set()
    waiting = [described]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            each.pop("documentation", None)
            waiting += each.values()
            name = each.get("shape")
            if isinstance(name, str) and name in shapes and name not in found:
                found.add(name)
                waiting.append(shapes[name])
    return found


def _stop_request(request: Any, **_: Any) -> None:
    raise _StoppedError(request)


def _find_endpoint_source(session: Any) -> str:
    from botocore.configprovider import ConfiguredEndpointProvider

    provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3")
    if provider.provide() is None or session.get_config_variable("ignore_configured_endpoint_urls"):
        return ""
    without_variables = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3", environ={})
    return "profile" if without_variables.provide() == provider.provide() else "AWS_ENDPOINT_URL"


def _finish(coroutine: Any) -> Any:
    """Return the result of a coroutine that waits for nothing; any other object as it is.

    Raises:
        RuntimeError: it waits, as that of a hook which sends something.
    """
    if not isinstance(coroutine, Coroutine):
        return coroutine
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    finally:
        coroutine.close()
    raise RuntimeError("a hook of the session waits for something")
