"""Every environment variable that obstore reads, with a value that would change a request or break the store."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ("REFUSED", "VARIABLES")

_NOWHERE = "http://127.0.0.1:9"

_CLIENT: Mapping[str, str] = {
    "ALLOW_HTTP": "false", "ALLOW_INVALID_CERTIFICATES": "nonsense", "CONNECT_TIMEOUT": "1ms", "TIMEOUT": "1ms",
    "DEFAULT_CONTENT_TYPE": "text/ambient", "HTTP2_ONLY": "true", "HTTP1_ONLY": "nonsense", "PROXY_URL": _NOWHERE,
    "PROXY_EXCLUDES": "nothing", "USER_AGENT": "ambient", "READ_TIMEOUT": "1ms", "POOL_IDLE_TIMEOUT": "nonsense",
}  # fmt: skip

_S3: Mapping[str, str] = {
    "ACCESS_KEY_ID": "AMBIENT", "SECRET_ACCESS_KEY": "AMBIENT", "SESSION_TOKEN": "ambient", "TOKEN": "ambient",
    "REGION": "ambient", "DEFAULT_REGION": "ambient", "ENDPOINT": _NOWHERE, "ENDPOINT_URL": _NOWHERE,
    "ENDPOINT_URL_S3": _NOWHERE, "BUCKET": "ambient", "BUCKET_NAME": "ambient", "SKIP_SIGNATURE": "true",
    "VIRTUAL_HOSTED_STYLE_REQUEST": "true", "S3_EXPRESS": "true", "IMDSV1_FALLBACK": "nonsense",
    "METADATA_ENDPOINT": _NOWHERE, "UNSIGNED_PAYLOAD": "true", "CONTAINER_CREDENTIALS_RELATIVE_URI": "/x",
    "CONTAINER_CREDENTIALS_FULL_URI": _NOWHERE, "CONTAINER_AUTHORIZATION_TOKEN_FILE": "/none", "PROFILE": "none",
    "WEB_IDENTITY_TOKEN_FILE": "/none", "ROLE_ARN": "arn:x", "ROLE_SESSION_NAME": "x", "ENDPOINT_URL_STS": _NOWHERE,
    "CONDITIONAL_PUT": "disabled", "COPY_IF_NOT_EXISTS": "nonsense", "DISABLE_TAGGING": "true",
    "DISABLE_BULK_DELETE": "true", "REQUEST_PAYER": "true", "SSE_KMS_KEY_ID": "ambient",
    "SSE_BUCKET_KEY_ENABLED": "true", "SSE_CUSTOMER_KEY_BASE64": "YQ==", "SERVER_SIDE_ENCRYPTION": "AES256",
    "CHECKSUM_ALGORITHM": "sha256",
}  # fmt: skip

_GCS: Mapping[str, str] = {
    "SERVICE_ACCOUNT": "/none.json", "SERVICE_ACCOUNT_PATH": "/none.json", "SERVICE_ACCOUNT_KEY": "{}",
    "BUCKET": "ambient", "BUCKET_NAME": "ambient", "APPLICATION_CREDENTIALS": "/none.json",
    "BEARER_TOKEN": "ambient", "SKIP_SIGNATURE": "true", "BASE_URL": _NOWHERE,
}  # fmt: skip

_AZURE: Mapping[str, str] = {
    "STORAGE_ACCOUNT_NAME": "ambient", "STORAGE_ACCOUNT_KEY": "YW1iaWVudA==", "STORAGE_ACCESS_KEY": "YW1iaWVudA==",
    "STORAGE_SAS_KEY": "sv=1&sig=ambient", "STORAGE_SAS_TOKEN": "sv=1&sig=ambient", "STORAGE_TOKEN": "ambient",
    "STORAGE_CLIENT_ID": "c", "CLIENT_ID": "c", "CLIENT_SECRET": "s", "TENANT_ID": "t",
    "STORAGE_AUTHORITY_ID": "t", "AUTHORITY_HOST": _NOWHERE, "FEDERATED_TOKEN_FILE": "/none",
    "CREDENTIAL_TYPE": "access_key", "USE_AZURE_CLI": "true", "STORAGE_USE_EMULATOR": "true",
    "USE_FABRIC_ENDPOINT": "true", "SKIP_SIGNATURE": "true", "STORAGE_ENDPOINT": _NOWHERE, "ENDPOINT": _NOWHERE,
    "CONTAINER_NAME": "ambient", "MSI_ENDPOINT": _NOWHERE, "MSI_RESOURCE_ID": "x", "OBJECT_ID": "x",
    "DISABLE_TAGGING": "true", "STORAGE_ENCRYPTION_KEY": "YQ==", "FABRIC_TOKEN_SERVICE_URL": _NOWHERE,
    "FABRIC_WORKLOAD_HOST": _NOWHERE, "FABRIC_SESSION_TOKEN": "ambient", "FABRIC_CLUSTER_IDENTIFIER": "x",
    "STORAGE_CONNECTION_STRING": "AccountName=ambient;AccountKey=YW1iaWVudA==",
}  # fmt: skip

VARIABLES: Mapping[str, Mapping[str, str]] = {
    "s3": {f"AWS_{name}": value for name, value in {**_CLIENT, **_S3}.items()},
    "gcs": {f"GOOGLE_{name}": value for name, value in {**_CLIENT, **_GCS}.items()} | {"SERVICE_ACCOUNT": "/none.json"},
    "azure": {f"AZURE_{name}": value for name, value in {**_CLIENT, **_AZURE}.items()}
    | {"IDENTITY_ENDPOINT": _NOWHERE, "IDENTITY_HEADER": "x", "MSI_ENDPOINT": _NOWHERE},
}
"""By service: the variable's name, and the value."""
REFUSED = frozenset({"AWS_SERVER_SIDE_ENCRYPTION", "AWS_CHECKSUM_ALGORITHM", "AZURE_STORAGE_ENCRYPTION_KEY"})
"""Variables that obstore cannot be told to leave out: a store beside them is refused."""
