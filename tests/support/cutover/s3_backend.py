"""An obstore backend in a fresh bucket."""

from __future__ import annotations

from typing import Any

from migrate_storage import ObstoreBackend


def s3_backend(server: Any, key: str, below: str) -> ObstoreBackend:
    """Return a backend under the prefix ``below`` of a new bucket."""
    return ObstoreBackend(
        key,
        f"s3://{server.new_bucket()}/{below}",
        aws_endpoint=server.endpoint,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        aws_region=server.region,
        aws_allow_http=True,
    )
