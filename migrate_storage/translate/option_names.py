"""The names of obstore's options, and every other spelling of them.

Source: obstore's ``S3Config``, ``GCSConfig``, ``AzureConfig``, ``ClientConfig`` and ``RetryConfig``, corrected where a
documented name is not the one that it reads (``AWS_STS_ENDPOINT``, ``AZURE_ENCRYPTION_KEY``).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from migrate_storage.core.errors import UnknownOptionError
from migrate_storage.core.text import printable

__all__ = ("CLIENT", "OPTIONS", "PREFIXES", "RETRY", "SECRETS", "canonical", "unknown", "without_prefix")

PREFIXES: Mapping[str, tuple[str, ...]] = {"s3": ("aws_",), "gcs": ("google_",), "azure": ("azure_storage_", "azure_")}
"""Prefixes of an option's name, longest first. Its environment variable has the last one in upper case."""

_S3: Mapping[str, tuple[str, ...]] = {
    "access_key_id": (), "secret_access_key": (), "session_token": ("token",), "region": (),
    "default_region": (), "endpoint": ("endpoint_url", "endpoint_url_s3"), "bucket": ("bucket_name",),
    "virtual_hosted_style_request": (), "skip_signature": (), "s3_express": (), "imdsv1_fallback": (),
    "metadata_endpoint": (), "unsigned_payload": (), "checksum_algorithm": (),
    "container_credentials_relative_uri": (), "container_credentials_full_uri": (),
    "container_authorization_token_file": (), "web_identity_token_file": (), "role_arn": (),
    "role_session_name": (), "endpoint_url_sts": ("sts_endpoint",), "copy_if_not_exists": (),
    "conditional_put": (), "disable_tagging": (), "disable_bulk_delete": (),
    "request_payer": ("requester_pays",), "server_side_encryption": (), "sse_kms_key_id": (),
    "sse_bucket_key_enabled": (), "sse_customer_key_base64": (), "profile": ("profile_name",),
}  # fmt: skip

_GCS: Mapping[str, tuple[str, ...]] = {
    "service_account": ("service_account_path",), "service_account_key": (), "application_credentials": (),
    "bearer_token": (), "skip_signature": (), "base_url": (), "bucket": ("bucket_name",),
}  # fmt: skip

_AZURE: Mapping[str, tuple[str, ...]] = {
    "account_name": (), "account_key": ("access_key", "master_key"), "sas_key": ("sas_token",),
    "token": ("bearer_token",), "client_id": (), "client_secret": (), "tenant_id": ("authority_id",),
    "authority_host": (), "federated_token_file": (), "credential_type": (), "use_azure_cli": (),
    "use_emulator": (), "use_fabric_endpoint": (), "skip_signature": (), "endpoint": (),
    "container_name": ("container",), "msi_endpoint": ("identity_endpoint",), "msi_resource_id": (),
    "object_id": (), "disable_tagging": (), "encryption_key": (), "fabric_token_service_url": (),
    "fabric_workload_host": (), "fabric_session_token": (), "fabric_cluster_identifier": (),
    "connection_string": (),
}  # fmt: skip

OPTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "s3": _S3, "gcs": _GCS, "azure": _AZURE, "file": {"mkdir": (), "automatic_cleanup": ()}, "memory": {}, "http": {},
}  # fmt: skip
"""By service: obstore's name without a prefix, and its other spellings. Only this package has ``profile`` and
``connection_string``."""

CLIENT = frozenset({
    "allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type", "default_headers",
    "http1_only", "http2_keep_alive_interval", "http2_keep_alive_timeout", "http2_keep_alive_while_idle",
    "http2_only", "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes",
    "proxy_url", "randomize_addresses", "read_timeout", "root_certificate", "timeout", "user_agent",
})  # fmt: skip
"""Names of ``ClientConfig``."""

RETRY = frozenset({"backoff", "max_retries", "retry_timeout"})
"""Names of ``RetryConfig``."""

SECRETS = frozenset({
    "secret_access_key", "session_token", "sse_customer_key_base64", "service_account_key", "bearer_token",
    "account_key", "sas_key", "token", "client_secret", "encryption_key", "fabric_session_token",
    "connection_string",
})  # fmt: skip
"""Options whose value must never be shown."""

_OTHER_TOOLS = {
    "secret": "aws_secret_access_key", "username": "aws_access_key_id", "password": "aws_secret_access_key",
    "anon": "skip_signature", "client_kwargs": "aws_endpoint and aws_region", "region_name": "aws_region",
    "verify": "client_options={'root_certificate': …}", "use_ssl": "an endpoint with https:// or http://",
    "credential": "credential_provider", "account_host": "azure_storage_endpoint", "max_attempts": "max_retries",
}  # fmt: skip


def canonical(service: str, name: str) -> str:
    """Return obstore's name of an option, without its service's prefix.

    An unknown name is returned in lower case.

    Args:
        service: ``s3``, ``gcs``, ``azure``, ``file``, ``memory`` or ``http``.
        name: any spelling, in any case, with or without prefix. A client option's name is returned without its prefix.
    """
    name = name.lower()
    known = OPTIONS[service]
    for bare in (name, *(name[len(p) :] for p in PREFIXES.get(service, ()) if name.startswith(p))):
        if bare in known or bare in CLIENT:
            return bare
        for option, others in known.items():
            if bare in others:
                return option
    return name


def without_prefix(service: str, name: str) -> str:
    """Return the name of an option in lower case, without the prefix of its service."""
    bare = name.lower()
    for prefix in PREFIXES.get(service, ()):
        bare = bare.removeprefix(prefix)
    return bare


def unknown(service: str, name: str) -> UnknownOptionError:
    """Return the error for an option that no store has, with the nearest name."""
    known = [*OPTIONS[service], *(other for others in OPTIONS[service].values() for other in others), *CLIENT]
    bare = next((name[len(p) :] for p in PREFIXES.get(service, ()) if name.startswith(p)), name)
    near = difflib.get_close_matches(bare, known, 1, 0.5)
    prefix = PREFIXES.get(service, ("",))[0]
    if any(name.startswith(prefixes) for other, prefixes in PREFIXES.items() if other != service):
        near = []
    advice = _OTHER_TOOLS.get(bare) or (f"{'' if near[0] in CLIENT else prefix}{near[0]}" if near else "")
    shown = printable(name[:60])
    return UnknownOptionError(
        f"{shown!r} is no option of a {service} store; " + (f"did you mean {advice}?" if advice else "leave it out")
    )
