"""S3: ``s3fs.S3FileSystem`` to ``S3Store``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part, assemble, rooted
from migrate_storage.translate.model import Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import Option, mapping, text, truth, unmatched_notes, without_effect
from migrate_storage.translate.protocols.http_client import duration, retries, shared_client
from migrate_storage.translate.protocols.s3_address import Resolver
from migrate_storage.translate.protocols.s3_credentials import credentials
from migrate_storage.translate.protocols.s3_endpoint import endpoint

__all__ = ("OPTIONS", "translate")

_PER_PUT = "obstore takes it with each put, not with the store"
_DROPPED = "option.dropped"

OPTIONS = (
    Option("key", "access_key_id"),
    Option("username", "access_key_id"),
    Option("secret", "secret_access_key"),
    Option("password", "secret_access_key"),
    Option("token", "session_token", says="it expires, and nothing renews it: a credential provider is better"),
    Option("anon", "skip_signature", says="keys given as well are not used"),
    Option("profile", "credential_provider", says="boto3's, with the profile's region and endpoint made explicit"),
    Option(
        "session",
        "credential_provider",
        says="its keys or profile, region and default configuration are read where it is a live object",
    ),
    Option("session_vars", code=_DROPPED),
    Option("event_hooks", code=_DROPPED),
    Option("include_builtin_handlers", code="option.no_effect"),
    Option("endpoint_url", "endpoint", says="with `allow_http` where it is `http://`"),
    Option("use_ssl", "endpoint", says="false is `http://` at AWS itself; ignored beside an endpoint"),
    Option("client_kwargs.endpoint_url", "endpoint"),
    Option("client_kwargs.region_name", "region"),
    Option("client_kwargs.aws_access_key_id", "access_key_id"),
    Option("client_kwargs.aws_secret_access_key", "secret_access_key"),
    Option("client_kwargs.aws_session_token", "session_token"),
    Option("client_kwargs.verify", "root_certificate", says="a path is read; false is `allow_invalid_certificates`"),
    Option("client_kwargs.use_ssl", "endpoint", says="false is `http://` at AWS itself; ignored beside an endpoint"),
    Option("client_kwargs.api_version", code="option.no_effect"),
    Option("client_kwargs.aws_account_id", code=_DROPPED),
    Option("client_kwargs.config", code=_DROPPED, says="a botocore Config object; give its values as config_kwargs"),
    Option("config_kwargs.region_name", "region"),
    Option("config_kwargs.s3.addressing_style", "virtual_hosted_style_request"),
    Option("config_kwargs.s3.use_accelerate_endpoint", "endpoint"),
    Option("config_kwargs.s3.use_dualstack_endpoint", "endpoint"),
    Option("config_kwargs.s3.payload_signing_enabled", "unsigned_payload"),
    Option("config_kwargs.s3.us_east_1_regional_endpoint", code="option.no_effect"),
    Option("config_kwargs.s3.use_arn_region", code=_DROPPED),
    Option("config_kwargs.use_dualstack_endpoint", "endpoint"),
    Option("config_kwargs.use_fips_endpoint", "endpoint"),
    Option("config_kwargs.ignore_configured_endpoint_urls", "endpoint"),
    Option("config_kwargs.signature_version", "skip_signature", says="only version 4 and unsigned exist in obstore"),
    Option("config_kwargs.proxies", "proxy_url", says="the one for the endpoint's scheme"),
    Option("config_kwargs.proxies_config.proxy_ca_bundle", "proxy_ca_certificate"),
    Option("config_kwargs.proxies_config.proxy_client_cert", code="client.certificate"),
    Option("config_kwargs.proxies_config.proxy_use_forwarding_for_https", code=_DROPPED),
    Option("config_kwargs.retries", "max_retries", says="`mode` has no counterpart"),
    Option("config_kwargs.max_pool_connections", "pool_max_idle_per_host"),
    Option("config_kwargs.connect_timeout", "connect_timeout"),
    Option("config_kwargs.read_timeout", "read_timeout"),
    Option("config_kwargs.request_checksum_calculation", code="option.no_effect"),
    Option("config_kwargs.response_checksum_validation", code="option.no_effect"),
    Option("config_kwargs.user_agent", "user_agent"),
    Option("config_kwargs.user_agent_extra", code="option.no_effect"),
    Option("config_kwargs.user_agent_appid", code="option.no_effect"),
    Option("config_kwargs.client_cert", code="client.certificate"),
    Option("config_kwargs.tcp_keepalive", code="option.no_effect"),
    Option("config_kwargs.parameter_validation", code="option.no_effect"),
    Option("config_kwargs.defaults_mode", code="option.no_effect"),
    Option("config_kwargs.inject_host_prefix", code=_DROPPED),
    Option("config_kwargs.account_id_endpoint_mode", code=_DROPPED),
    Option("config_kwargs.sigv4a_signing_region_set", code=_DROPPED),
    Option("config_kwargs.disable_request_compression", code="option.no_effect"),
    Option("config_kwargs.request_min_compression_size_bytes", code="option.no_effect"),
    Option("config_kwargs.connector_args", code=_DROPPED),
    Option("requester_pays", "request_payer", says="it is added to signed URLs too"),
    Option("s3_additional_kwargs.ServerSideEncryption", "server_side_encryption"),
    Option("s3_additional_kwargs.SSEKMSKeyId", "sse_kms_key_id"),
    Option("s3_additional_kwargs.BucketKeyEnabled", "sse_bucket_key_enabled"),
    Option("s3_additional_kwargs.SSECustomerAlgorithm", "server_side_encryption", says="`sse-c`"),
    Option("s3_additional_kwargs.SSECustomerKey", "sse_customer_key_base64"),
    Option("s3_additional_kwargs.SSECustomerKeyMD5", code="option.no_effect"),
    Option("s3_additional_kwargs.RequestPayer", "request_payer"),
    Option("s3_additional_kwargs.ACL", "default_headers", "s3.header", "x-amz-acl"),
    Option("s3_additional_kwargs.StorageClass", "default_headers", "s3.header", "x-amz-storage-class"),
    Option("s3_additional_kwargs.CacheControl", "default_headers", "s3.header", "cache-control"),
    Option("s3_additional_kwargs.ExpectedBucketOwner", "default_headers", "s3.header", "x-amz-expected-bucket-owner"),
    Option("s3_additional_kwargs.ContentType", "default_content_type"),
    Option("s3_additional_kwargs.ContentDisposition", code=_DROPPED, says=_PER_PUT),
    Option("s3_additional_kwargs.ContentEncoding", code=_DROPPED, says=_PER_PUT),
    Option("s3_additional_kwargs.ContentLanguage", code=_DROPPED, says=_PER_PUT),
    Option("s3_additional_kwargs.Metadata", code=_DROPPED, says=_PER_PUT),
    Option("s3_additional_kwargs.Tagging", code=_DROPPED, says=_PER_PUT),
    Option("s3_additional_kwargs.Expires", code=_DROPPED, says="obstore would store it as user metadata"),
    *(
        Option(f"s3_additional_kwargs.{name}", code=_DROPPED)
        for name in (
            *("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus", "WebsiteRedirectLocation"),
            *("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
        )
    ),
    Option("version_aware", code="s3.version_aware"),
    Option("cache_regions", "region", "option.dropped", "obstore does not find a bucket's region: name it"),
    Option("connect_timeout", "connect_timeout", says="an attribute of a subclass"),
    Option("read_timeout", "read_timeout", says="an attribute of a subclass"),
    *without_effect(
        *("default_block_size", "default_fill_cache", "default_cache_type", "max_concurrency"),
        *("fixed_upload_size", "local_expiry_check", "retries"),
    ),
)

_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")


def translate(
    options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str], resolver: Resolver | None = None
) -> Translation:
    """Translate the options of an ``S3FileSystem``; ``resolver`` asks botocore for addresses."""
    bucket, inner, place = rooted("s3", prefix, "bucket")
    address = endpoint(options, bucket, environment, resolver)
    parts = (
        place,
        address,
        credentials(options, environment),
        _read_signature(options),
        _read_request_options(options),
        _read_client_options(options, environment, https="allow_http" not in address.client_options),
        Part(notes=tuple(unmatched_notes(OPTIONS, options))),
    )
    return assemble("s3", bucket, inner, parts)


def _read_signature(options: Mapping[str, Any]) -> Part:
    config = mapping(options.get("config_kwargs"))
    version = config.get("signature_version")
    refused = isinstance(version, str) and version in ("s3", "s3-query")
    unsigned = mapping(config.get("s3")).get("payload_signing_enabled") is False
    return Part(
        options={"unsigned_payload": True} if unsigned else {},
        notes=(note("s3.signature", "config_kwargs.signature_version"),) if refused else (),
    )


def _read_request_options(options: Mapping[str, Any]) -> Part:
    """Translate what is sent with every request: encryption, requester pays, headers."""
    extra = mapping(options.get("s3_additional_kwargs"))
    result: dict[str, Any] = {}
    notes: list[Note] = []
    if truth(options.get("requester_pays")) or extra.get("RequestPayer"):
        result["request_payer"] = True
    encryption = text(extra.get("ServerSideEncryption"))
    if encryption and encryption not in _ENCRYPTIONS:
        notes.append(note("s3.encryption.unknown", "s3_additional_kwargs.ServerSideEncryption"))
    elif encryption:
        result["server_side_encryption"] = encryption
    if kms := text(extra.get("SSEKMSKeyId")):
        if encryption not in _ENCRYPTIONS[1:]:
            notes.append(note("s3.encryption.kms", "s3_additional_kwargs.SSEKMSKeyId"))
        result["sse_kms_key_id"] = kms
    if extra.get("BucketKeyEnabled") is not None:
        result["sse_bucket_key_enabled"] = truth(extra["BucketKeyEnabled"])
    customer_key = extra.get("SSECustomerKey")
    if isinstance(customer_key, str | bytes) and customer_key:
        raw = customer_key.encode(errors="replace") if isinstance(customer_key, str) else customer_key
        result["server_side_encryption"] = "sse-c"
        result["sse_customer_key_base64"] = base64.b64encode(raw).decode()
    elif extra.get("SSECustomerAlgorithm"):
        notes.append(note("s3.encryption.customer_key", "s3_additional_kwargs.SSECustomerAlgorithm"))
    headers = {
        option.says: text(extra[name])
        for option in OPTIONS
        if option.becomes == "default_headers" and text(extra.get(name := option.name.rpartition(".")[2]))
    }
    client: dict[str, Any] = {"default_headers": headers} if headers else {}
    if content_type := text(extra.get("ContentType")):
        client["default_content_type"] = content_type
    return Part(options=result, client_options=client, notes=tuple(notes))


def _read_client_options(options: Mapping[str, Any], environment: Mapping[str, str], *, https: bool) -> Part:
    client, config = mapping(options.get("client_kwargs")), mapping(options.get("config_kwargs"))
    result: dict[str, Any] = {}
    notes: list[Note] = []
    verify = client.get("verify")
    if verify is False:
        result["allow_invalid_certificates"] = True
        checked = "client.unverified"
    elif bundle := text(verify) or environment.get("AWS_CA_BUNDLE", ""):
        result["root_certificate"] = Path(bundle)
        checked = "client.ca_file"
    else:
        checked = ""
    if checked and https:  # a plain endpoint has no certificate
        notes.append(note(checked, "client_kwargs.verify"))
    for name in ("connect_timeout", "read_timeout"):
        # The reader of live filesystems adds class attributes of a subclass as options of that name.
        value = config.get(name, options.get(name))
        if (written := duration(value)) is not None:
            result[name] = written
        elif value is not None:
            notes.append(note("option.invalid", f"config_kwargs.{name}", expected="a number of seconds"))
    retry, retry_notes = retries(mapping(config.get("retries")))
    shared = shared_client(config, https=https)
    notes.extend((*retry_notes, *shared.notes))
    return Part(client_options={**shared.client_options, **result}, retry=retry, notes=tuple(notes))
