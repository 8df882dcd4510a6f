"""Read an AWS profile as botocore does; region, endpoint and certificates are returned as environment variables."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ("addressing_style", "profile_environment")


def profile_environment(profile: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with a profile's settings, which obstore does not read.

    Args:
        profile: its name; ``None`` for the one that the environment names, or ``default``.
        environment: environment variables, which take precedence over the profile.

    Returns:
        ``environment`` and, where it lacks them, ``AWS_DEFAULT_REGION``, ``AWS_ENDPOINT_URL`` and ``AWS_CA_BUNDLE`` of
        the profile.
    """
    section, everything = _read_section(profile, environment)
    found: dict[str, str] = {}
    if region := section.get("region"):
        found["AWS_DEFAULT_REGION"] = region
    services = everything.get(f"services {section.get('services', '')}", {})
    if endpoint := _read_nested(services.get("s3", "")).get("endpoint_url") or section.get("endpoint_url"):
        found["AWS_ENDPOINT_URL"] = endpoint
    if bundle := section.get("ca_bundle"):
        found["AWS_CA_BUNDLE"] = bundle
    return {**found, **environment}


def addressing_style(profile: str | None, environment: Mapping[str, str]) -> str:
    """Return the profile's ``s3.addressing_style``; empty where it sets none."""
    section, _ = _read_section(profile, environment)
    return _read_nested(section.get("s3", "")).get("addressing_style", "")


def _read_section(
    profile: str | None, environment: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]:
    name = profile or environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - text
    path = environment.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}, {}
    everything = {section: dict(parser.items(section)) for section in parser.sections()}
    return everything.get(f"profile {name}") or everything.get(name) or {}, everything


def _read_nested(text: str) -> dict[str, str]:
    """Return the indented ``name = value`` lines below an option."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}
