"""Options of a store's HTTP client: proxies, certificates, timeouts, attempts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, text

__all__ = ("duration", "retries", "shared_client")


def duration(seconds: Any) -> str | None:
    """Return seconds as a duration of obstore, such as ``15s``; ``None`` unless a positive number is given.

    ``0s`` would fail at once in obstore, where botocore and aiohttp read zero as "no limit".
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 1e9:
        return None
    return f"{int(seconds)}s" if float(seconds).is_integer() else f"{max(1, round(seconds * 1000))}ms"


def retries(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """Translate botocore's ``retries``.

    ``max_attempts`` counts retries, ``total_max_attempts`` the first request too.
    """
    notes = (note("option.no_effect", "config_kwargs.retries.mode"),) if "mode" in settings else ()
    total, most = settings.get("total_max_attempts"), settings.get("max_attempts")
    count = total - 1 if isinstance(total, int) else most
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31:
        return {"max_retries": count}, notes
    return {}, notes


def shared_client(config: Mapping[str, Any], *, https: bool) -> Part:
    """Translate the client options in botocore's ``Config``.

    Args:
        config: the arguments of botocore's ``Config``.
        https: whether the endpoint is https, which decides which proxy is used.
    """
    result: dict[str, Any] = {}
    notes: list[Note] = []
    proxies = {key: text(value) for key, value in mapping(config.get("proxies")).items()}
    proxy = proxies.get("https" if https else "http", "")
    if proxy:
        result["proxy_url"] = proxy if "://" in proxy else f"http://{proxy}"
    elif any(proxies.values()):
        notes.append(note("client.proxy", "config_kwargs.proxies"))
    proxy_ca = text(mapping(config.get("proxies_config")).get("proxy_ca_bundle"))
    if proxy_ca:
        result["proxy_ca_certificate"] = Path(proxy_ca)
    pool = config.get("max_pool_connections")
    if isinstance(pool, int) and not isinstance(pool, bool) and 0 < pool < 2**31:
        result["pool_max_idle_per_host"] = str(pool)
    if agent := text(config.get("user_agent")):
        result["user_agent"] = agent
    return Part(client_options=result, notes=tuple(notes))
