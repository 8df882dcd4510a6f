"""Every documented form of gcsfs and adlfs: obstore asks the URL that fsspec asks, as the same requester, or it is refused.

Each is read twice: from the live filesystem, and from its options alone, as ``convert`` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adlfs import AzureBlobFileSystem
from gcsfs import GCSFileSystem
from gcsfs.credentials import GoogleCredentials

from migrate_storage.stores.config.requester import configured_requester, filesystem_requester
from migrate_storage.stores.config.url_check import compare_urls, requested_by_store
from migrate_storage.translate import translate
from migrate_storage.translate.registration import read_filesystem
from migrate_storage.translate.registration.adlfs_rule import with_default_of_anon
from tests.support.translate.documented_forms import AZURE, GOOGLE, SAS, Form, isolate_clouds

NAMES = ("x", "a b/ü+y%20.txt")
MAKERS: dict[str, Callable[..., Any]] = {"gcs": GCSFileSystem, "azure": AzureBlobFileSystem}
FORMS = {
    f"{service}: {name}": (service, form)
    for service, forms in (("gcs", GOOGLE), ("azure", AZURE))
    for name, form in forms.items()
}
#: fsspec itself makes no filesystem of them.
IMPOSSIBLE = frozenset(
    {
        "gcs: google_default, and nothing is found", "gcs: cache", "gcs: a federation's file", "gcs: no such access",
        "azure: principal, half", "azure: no account", "azure: no such mode", "azure: host acct.dfs.core.windows.net",
        "azure: host https://acct.blob.core.windows.net", "azure: host http://127.0.0.1:10000/acct",
        "azure: string BlobSecondaryEndpoint=https://acct-secondary.blob.core.windows.net;AccountName=acct;AccountKey=KEY",
        "azure: string UseDevelopmentStorage=True", 'azure: string "AccountName=acct;AccountKey=KEY"',
        "azure: string 'AccountName=acct;AccountKey=KEY'", "azure: string nonsense",
    }
)  # fmt: skip


#: obstore cannot ask the same, or nobody could say what is meant; every other form is translated.
REFUSED = frozenset(
    {
        "gcs: browser", "gcs: JSON text", "gcs: a user's mapping", "gcs: endpoint without a scheme",
        "gcs: a certificate of the workload", "azure: host user@acct.blob.core.windows.net", "azure: host with a SAS",
        f"azure: host acct.blob.core.windows.net?{SAS}", "azure: host 127.0.0.1:10000/acct, secondary",
        "azure: host cdn.example.com, SAS, secondary", "azure: host acct.z22.blob.storage.azure.net, SAS, secondary",
        *(
            f"azure: string {text}"
            for text in (
                "AccountName=acct;AccountKey=KEY;EndpointSuffix=.core.windows.net", "AccountName=acct;AccountKey=KEY;EndpointSuffix=",
                "AccountName=acct; AccountKey=KEY", "AccountName= acct;AccountKey=KEY", "AccountName=acct;AccountKey=KEY;Unknown=1",
                "BlobEndpoint=acct.blob.core.windows.net;AccountName=acct;AccountKey=KEY",
                f"BlobEndpoint=https://cdn.example.com;SharedAccessSignature={SAS}", "AccountName=one;AccountName=acct;AccountKey=KEY",
            )
        ),
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_cached_tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(GoogleCredentials, "tokens", {}, raising=False)
    yield


def compare_live(service: str, filesystem: Any, prefix: str) -> str:
    """Return ``equal``, a difference, or ``refused``."""
    registration = read_filesystem(filesystem, prefix)
    translation = registration.translation
    if translation.config is None:
        assert all(note.todo and note.message for note in translation.refused)
        return "refused"
    for name in NAMES:
        place = registration.place(name)
        split = filesystem.split_path(registration.path(name))
        # The service reads a backslash as a slash.
        assert (place.root, place.key) == (split[0], split[1].replace("\\", "/") if service == "azure" else split[1])
        compared = compare_urls(registration, name)
        if found := compared.difference or compared.reason:
            return found
        assert compared.requesters[0] == compared.requesters[1] != None  # noqa: E711
    return "equal"


def compare_options(service: str, options: dict[str, Any], filesystem: Any, form: Form) -> str:
    """Return the same for the options alone."""
    import os

    if service == "azure":
        options = dict(with_default_of_anon(options, os.environ))
    translation = translate(service, options, form.prefix, os.environ)
    if translation.config is None:
        assert all(note.todo and note.message for note in translation.refused)
        return "refused"
    registration = read_filesystem(filesystem, form.prefix)
    place = registration.place("x")
    asked = registration.requested_url(place)
    ours = requested_by_store(replace(translation.config, prefix=""), place)
    if asked != ours:
        return f"fsspec asks {asked}, obstore {ours}"
    codes = {note.code for note in translation.notes}
    # It says that gcsfs goes on without credentials, and obstore does not.
    if "gcs.token.silent" in codes:
        return "equal"
    one, other = filesystem_requester(service, filesystem), configured_requester(translation.config)
    return "equal" if one == other else f"fsspec asks as {one}, obstore as {other}"


@pytest.mark.parametrize("name", FORMS)
def test_form(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service, form = FORMS[name]
    isolate_clouds(monkeypatch, tmp_path, form.environment)
    options = form.all_options(tmp_path)
    try:
        filesystem = MAKERS[service](**options, skip_instance_cache=True)
    except Exception as error:
        assert name in IMPOSSIBLE, error
        return
    assert name not in IMPOSSIBLE
    # An old gcsfs does not show whether it presents a certificate.
    unknown = service == "gcs" and "certificate" in name and not hasattr(filesystem, "_use_client_cert")
    refused = name in REFUSED or (unknown and not name.startswith("gcs: no client"))
    assert compare_live(service, filesystem, form.prefix) == ("refused" if refused else "equal")
    assert compare_options(service, options, filesystem, form) in ("equal", "refused")
