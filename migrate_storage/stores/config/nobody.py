"""Credentials that exist nowhere, for stores that need some in place of others."""

from __future__ import annotations

import base64
import json
from functools import cache

from migrate_storage.core.errors import ConfigurationError

__all__ = ("make_credentials", "make_service_account")


def make_credentials(service: str) -> dict[str, str]:
    """Return obstore's options of made-up credentials: of ``s3``, ``azure`` or ``gcs``.

    Raises:
        ConfigurationError: see :func:`make_service_account`.
    """
    if service == "s3":
        return {"access_key_id": "A", "secret_access_key": "S"}
    if service == "azure":
        return {"account_key": base64.b64encode(b"nobody").decode()}
    return {"service_account_key": make_service_account()}


@cache
def make_service_account() -> str:
    """Return the JSON of a service account without an owner; its key takes 100 milliseconds to make.

    Raises:
        ConfigurationError: there is no ``cryptography`` to make a key with.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
    except ImportError:
        raise ConfigurationError("a key cannot be made without the package cryptography; install it") from None
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "client_email": "nobody@example.com",
        "private_key_id": "none",
        "private_key": pem.decode(),
    }
    return json.dumps(account)
