"""``playbooks/store-to-store.md``: from Amazon, Google and Azure to one another, as servers here play them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.playbooks.page import Page
from tests.support.servers import AzureServer, GCSServer, S3Server

HTTP = 'client_options={"allow_http": True}'


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_each_service_is_left_and_reached(
    playbook: Callable[..., Page],
    environment: dict[str, str],
    tmp_path: Path,
    moto_s3: S3Server,
    gcs: GCSServer,
    azurite: AzureServer,
) -> None:
    buckets = {
        "acme-uploads": moto_s3.new_bucket(),
        **{name: gcs.new_bucket() for name in ("acme-reports", "acme-pictures")},
        **{name: azurite.new_container() for name in ("acme-scans", "acme-papers")},
    }
    called = {
        **{here: name for name, here in buckets.items()},
        environment["AWS_ENDPOINT_URL"]: "https://0a1b2c3d.r2.cloudflarestorage.com",
        f'token="google.json", endpoint_url="{gcs.endpoint}"': 'token="google.json"',
        f'google_service_account="google.json", {HTTP}': 'google_service_account="google.json"',
        f'azure_storage_account_name="{azurite.account}", endpoint="{azurite.endpoint}", {HTTP}': (
            'azure_storage_account_name="acme"'
        ),
    }
    environment |= {
        "R2_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "R2_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
        # moto is Amazon: it knows roles, and the keys that it gives for them.
        "AWS_ENDPOINT_URL": moto_s3.endpoint,
        "AWS_CONFIG_FILE": "aws.ini",
        "GOOGLE": gcs.endpoint,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string,
        "AZURE_STORAGE_KEY": azurite.key,
        **{name.replace("-", "_").upper(): here for name, here in buckets.items()},
    }
    page = playbook("store-to-store", called)
    shutil.copy(gcs.service_account_path, tmp_path / "acme" / "google.json")
    page.follow()
