"""Why no blob is copied by Azure itself: its copies have the Content-MD5 of the source, whether it is that of the bytes or not."""

from __future__ import annotations

import hashlib

import obstore
from azure.storage.blob import BlobServiceClient, ContentSettings
from obstore.store import AzureStore

from tests.support.servers import AzureServer


def test_a_copy_between_two_containers_has_a_digest_that_nobody_computed(azurite: AzureServer) -> None:
    """obstore leaves a container named "." out of the address, so that both containers are parts of a key."""
    source, destination = azurite.new_container(), azurite.new_container()
    obstore.put(azurite.store(source), "file", b"bytes")
    across = AzureStore(".", **azurite.options())
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        for digest in (hashlib.md5(b"bytes").digest(), bytes(16)):
            settings = ContentSettings(content_md5=bytearray(digest))
            client.get_blob_client(source, "file").set_http_headers(settings)
            obstore.copy(across, f"{source}/file", f"{destination}/copy")
            copied = client.get_blob_client(destination, "copy")
            assert copied.download_blob().readall() == b"bytes"
            assert bytes(copied.get_blob_properties().content_settings.content_md5) == digest
