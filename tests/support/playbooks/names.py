"""The buckets of the playbooks, and the public names that stand for local ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

BUCKETS = ("acme-uploads", "acme-files", "acme-archive")


def public_names(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the public name of each local one, for every page."""
    return {
        environment["DATABASE_URL"]: "postgresql+psycopg://acme@db.acme.example/acme",
        environment["AWS_ENDPOINT_URL"]: "https://s3.acme.example",
        str(folder): "/srv/acme",
        '        client_options={"allow_http": True},\n': "",
        "--older-than 0s": "--older-than 30d",
    }
