"""The URL that a request for one object asks."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

__all__ = ("RequestedUrl",)

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class RequestedUrl:
    """The parts of a URL that decide which object of which service is asked."""

    scheme: str
    host: str
    port: int
    #: Decoded.
    path: str
    #: The region of the signature on S3; empty elsewhere.
    region: str = ""

    @classmethod
    def of(cls, url: str, region: str = "") -> RequestedUrl:
        """Read a URL. Query, user and fragment are left out.

        Args:
            url: an absolute URL.
            region: the region of its signature.
        """
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        return cls(parts.scheme, (parts.hostname or "").rstrip("."), port, unquote(parts.path), region)

    def __str__(self) -> str:
        port = "" if _PORTS.get(self.scheme) == self.port else f":{self.port}"
        region = f" (region {self.region})" if self.region else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.path}{region}"
