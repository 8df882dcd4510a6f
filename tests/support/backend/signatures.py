"""Keys that sign URLs, and checks that compute each signature again as the vendors document it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, quote, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)

SERVICE_ACCOUNT = {
    "type": "service_account",
    "private_key": _PRIVATE.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode(),
    "private_key_id": "key-1",
    "client_email": "robot@project.iam.gserviceaccount.com",
    "token_uri": "http://127.0.0.1:9/token",
}

KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "SECRET"}

ACCOUNT_KEY = base64.b64encode(b"k" * 32).decode()


def _v4_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def check_s3_signature(url: str, method: str, secret: str = "SECRET") -> dict[str, str]:
    """Compute the signature again from what AWS documents, and return the URL's parameters."""
    parts = urlsplit(url)
    query = {name: value[0] for name, value in parse_qs(parts.query).items()}
    day, region = query["X-Amz-Credential"].split("/")[1:3]
    signed = "&".join(
        f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in sorted(query.items()) if n != "X-Amz-Signature"
    )
    canonical = f"{method}\n{parts.path}\n{signed}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            query["X-Amz-Date"],
            f"{day}/{region}/s3/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    expected = hmac.new(_v4_key(secret, day, region), to_sign.encode(), hashlib.sha256).hexdigest()
    assert query["X-Amz-Signature"] == expected
    return {**query, "region": region, "key": query["X-Amz-Credential"].split("/")[0]}


def check_gcs_signature(url: str, method: str) -> None:
    """Verify the signature with the account's public key, as Google does."""
    parts = urlsplit(url)
    query = {name: value[0] for name, value in parse_qs(parts.query).items()}
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    signed = "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in sorted(query.items()))
    canonical = f"{method}\n{parts.path}\n{signed}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    to_sign = "\n".join(
        ("GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest())
    )
    _PRIVATE.public_key().verify(signature, to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
