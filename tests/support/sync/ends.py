"""Backends for the two ends of a sync, and what lies in a bucket or container."""

from __future__ import annotations

from typing import Any

from migrate_storage.application.endpoints import backend_at
from tests.support.servers import AzureServer, S3Server


def s3_backend(server: S3Server, bucket: str, prefix: str = "") -> Any:
    """Return an obstore backend."""
    options = {**server.options(), **server.options()["client_options"]}
    del options["client_options"]
    return backend_at(f"s3://{bucket}/{prefix}", {}, options, "TO")


def fsspec_s3_backend(server: S3Server, bucket: str, prefix: str = "") -> Any:
    """Return an fsspec backend."""
    return backend_at(f"s3://{bucket}/{prefix}", {}, server.fs_options(), "FROM")


def azure_backend(server: AzureServer, container: str) -> Any:
    """Return an obstore backend of a container."""
    options = {"account_name": server.account, "account_key": server.key, "endpoint": server.endpoint}
    return backend_at(f"az://{container}", {}, {**options, "allow_http": "true"}, "TO")


def objects_of(server: S3Server, bucket: str) -> dict[str, bytes]:
    """Return the bytes of each object by key."""
    pages = server.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    listed = [each for page in pages for each in page.get("Contents", [])]
    return {each["Key"]: server.client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed}


def blobs_of(server: AzureServer, container: str) -> dict[str, bytes]:
    """Return the bytes of each blob by name."""
    fs = server.fs()
    return {path.partition("/")[2]: fs.cat_file(path) for path in fs.find(container)}
