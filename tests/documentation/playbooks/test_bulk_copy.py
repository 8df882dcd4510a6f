"""``playbooks/bulk-copy.md``: rclone copies what the plan lists, and the run reads no more than 20 of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.playbooks.page import Page
from tests.support.servers import S3Server


@pytest.mark.slow
def test_what_rclone_copied_is_used(
    playbook: Callable[..., Page], environment: dict[str, str], moto_s3: S3Server
) -> None:
    bucket = moto_s3.new_bucket()
    called = {bucket: "acme-uploads", environment["AWS_ENDPOINT_URL"]: "https://0a1b2c3d.r2.cloudflarestorage.com"}
    keys = {
        "ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
    }
    environment |= {
        **{f"R2_{name}": key for name, key in keys.items()},
        **{f"RCLONE_CONFIG_R2_{name}": key for name, key in keys.items()},
        "RCLONE_CONFIG_AMAZON_ENDPOINT": moto_s3.endpoint,
        "AWS_ENDPOINT_URL": moto_s3.endpoint,
        "ACME_UPLOADS": bucket,
    }
    playbook("bulk-copy", called).follow()
