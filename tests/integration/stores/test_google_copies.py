"""Why no object is copied by Google Cloud Storage itself: obstore names one bucket for the source and the copy."""

from __future__ import annotations

import json

import obstore
import pytest
from obstore.store import GCSStore

from tests.support.backend.echo import Seen, echo


@pytest.mark.parametrize(
    ("bucket", "source", "copy", "sent"),
    [
        ("one", "file", "copy", ("/one/copy", "one/file")),
        # On Azure the same puts both containers into the address; here both slashes and the dot are encoded.
        (".", "one/file", "two/copy", ("/two%2Fcopy", "%2E/one%2Ffile")),
    ],
)
def test_a_copy_is_within_one_bucket(bucket: str, source: str, copy: str, sent: tuple[str, str]) -> None:
    asked: list[tuple[str, str]] = []

    def answer(seen: Seen) -> None:
        asked.append((seen.path, seen.headers["x-goog-copy-source"]))

    with echo(answer) as server:
        account = {
            "gcs_base_url": server.url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": "",
        }  # fmt: skip
        store = GCSStore(bucket, service_account_key=json.dumps(account), client_options={"allow_http": True})
        obstore.copy(store, source, copy)
    assert asked == [sent]
