"""What obstore would take from the environment although the configuration says otherwise.

obstore lets explicit options win over environment variables one by one, so that an ``AWS_SESSION_TOKEN`` of the shell
is sent with an explicit key, and a federated identity of the pod beats an explicit SAS token. Here explicit
configuration wins source by source: credentials are one source, the endpoint is another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from migrate_storage.stores.names import CLIENT, PREFIXES, canonical

__all__ = ("client_settings", "settings")


def settings(service: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The options that obstore would read from the environment, by their canonical names.

    Args:
        service: ``s3``, ``gcs`` or ``azure``.
        environment: environment variables; ``None`` for those of this process.
    """
    environment = os.environ if environment is None else environment
    prefix = PREFIXES[service][-1].upper()
    found: dict[str, str] = {}
    for name, value in environment.items():
        if name.startswith(prefix):
            bare = name.lower()
            # The one variable that outranks another spelling of the same option.
            found["endpoint_url_s3" if bare == "aws_endpoint_url_s3" else canonical(service, bare)] = value
    if service == "gcs" and "SERVICE_ACCOUNT" in environment:
        found.setdefault("service_account", environment["SERVICE_ACCOUNT"])
    if service == "azure" and "IDENTITY_ENDPOINT" in environment:
        found.setdefault("msi_endpoint", environment["IDENTITY_ENDPOINT"])
    return found


def client_settings(service: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The client options in the environment, which obstore forgets as soon as one is given explicitly."""
    return {name: value for name, value in settings(service, environment).items() if name in CLIENT}
