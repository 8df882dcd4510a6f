"""Complete the explicit options of an S3 store, so that no variable changes where and as whom it asks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from urllib.parse import urlsplit

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.config.credentials import Provider, StaticCredentials
from migrate_storage.stores.config.isolation import check_endpoint, environment_options, is_true
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.protocols.s3_address import add_bucket, fits_host, is_host_label, partition_suffix

__all__ = ("isolate_s3",)

_KEYS = {"access_key_id": "aws_secret_access_key", "secret_access_key": "aws_access_key_id"}
_DEFAULTS = {
    "s3_express": "false", "request_payer": "false", "unsigned_payload": "false", "disable_tagging": "false",
    "imdsv1_fallback": "false", "skip_signature": "false", "conditional_put": "etag", "disable_bulk_delete": "false",
    "copy_if_not_exists": "multipart",
}  # fmt: skip
"""What obstore does without the variable of an option; nothing here copies only if nothing exists."""
_WITHOUT_DEFAULT = ("server_side_encryption", "checksum_algorithm")
"""Options that cannot be switched off again once a variable sets them."""


def isolate_s3(config: StoreConfig, options: dict[str, str], source: Provider | None, _: ExitStack) -> Provider | None:
    """Keep credentials, endpoint, style and request options of the environment away from explicit options.

    Args:
        config: the store.
        options: its options, which are completed here.
        source: its credential provider.

    Returns:
        The credential provider to use.

    Raises:
        ConfigurationError: an option is incomplete, or a variable would change what is explicit.
    """
    ambient = environment_options("s3")
    if "s3_express" in ambient and not config.root.endswith("--x-s3"):
        options.setdefault("s3_express", "false")
    _complete_address(config, options, ambient)
    keys = [name for name in _KEYS if options.get(name)]
    if len(keys) == 1:
        raise ConfigurationError(
            f"s3://{config.root}: aws_{keys[0]} is given without {_KEYS[keys[0]]}; give both or neither"
        )
    federated = "web_identity_token_file" in options or any(name.startswith("container_") for name in options)
    anonymous = is_true(options.get("skip_signature"))
    if federated and not keys and source is None and ambient.keys() & _KEYS:
        raise ConfigurationError(
            f"s3://{config.root}: {_name_variable(ambient)} in the environment would be used instead of the role that "
            "is configured; unset it"
        )
    if keys or source or federated or anonymous:
        _keep_request_options(config, options, ambient)
    if keys and not options.get("session_token") and ambient.get("session_token") is not None and source is None:
        return StaticCredentials({**{name: options[name] for name in keys}, "token": None})
    if anonymous and source is None and not keys and ambient.keys() & _KEYS:
        # obstore refuses half a key of the environment, though nothing is signed.
        return StaticCredentials({"access_key_id": "", "secret_access_key": "", "token": None})
    return source


def _name_variable(ambient: Mapping[str, str]) -> str:
    return next(f"AWS_{name.upper()}" for name in _KEYS if name in ambient)


def _keep_request_options(config: StoreConfig, options: dict[str, str], ambient: Mapping[str, str]) -> None:
    """Write out obstore's defaults where a variable would replace them."""
    for name, value in _DEFAULTS.items():
        if name in ambient:
            options.setdefault(name, value)
    for name in _WITHOUT_DEFAULT:
        if name in ambient and name not in options:
            raise ConfigurationError(
                f"s3://{config.root}: AWS_{name.upper()} in the environment would change each request; "
                f"unset it, or write aws_{name}=…"
            )


def _complete_address(config: StoreConfig, options: dict[str, str], ambient: Mapping[str, str]) -> None:
    """Write out endpoint and style: the bucket is in the host where its name and the endpoint allow it."""
    explicit = options.get("endpoint") or options.pop("endpoint_url_s3", "")
    if explicit:
        check_endpoint("aws_endpoint", explicit)
        options.setdefault("virtual_hosted_style_request", "false")
    endpoint = explicit or ambient.get("endpoint_url_s3") or ambient.get("endpoint") or ""
    style = options.get("virtual_hosted_style_request", ambient.get("virtual_hosted_style_request"))
    region = options.get("region") or ambient.get("region") or ambient.get("default_region") or ""
    suffix = partition_suffix(region)
    if not endpoint and suffix != "amazonaws.com":
        endpoint = f"https://s3.{region}.{suffix}"
        if is_true(style):
            # Its first label is the service, also where the bucket has the same name.
            hosted = add_bucket(endpoint, config.root)
            endpoint, options["virtual_hosted_style_request"] = hosted or endpoint, "true" if hosted else "false"
    elif is_true(style) and endpoint:
        endpoint, virtual = _place_bucket(endpoint, config.root)
        options["virtual_hosted_style_request"] = "true" if virtual else "false"
    elif is_true(style) and not is_host_label(config.root):
        options["virtual_hosted_style_request"] = "false"
    elif "virtual_hosted_style_request" in ambient:
        options.setdefault("virtual_hosted_style_request", "false")
    if endpoint:
        options["endpoint"] = endpoint
        if "endpoint_url_s3" in ambient:
            options["aws_endpoint_url_s3"] = options.pop("endpoint")


def _place_bucket(endpoint: str, bucket: str) -> tuple[str, bool]:
    """Return an endpoint as obstore takes it for a virtual host, and whether it is one."""
    if bucket.startswith("arn:"):
        return endpoint, True  # which is the access point's own
    parts = urlsplit(endpoint)
    if parts.netloc.startswith(f"{bucket}."):
        if fits_host(bucket, parts.scheme):
            return endpoint, True
        return f"{parts.scheme}://{parts.netloc.removeprefix(f'{bucket}.')}{parts.path}", False
    hosted = add_bucket(endpoint, bucket)
    return hosted or endpoint, bool(hosted)
