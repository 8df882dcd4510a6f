"""Each form of a configuration that the documentation of gcsfs and of adlfs names, and what their SDKs read beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.identity.aio import ClientSecretCredential, ManagedIdentityCredential
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials
from google.oauth2.service_account import Credentials as ServiceAccount

from migrate_storage.stores.config.nobody import make_service_account

__all__ = ("AZURE", "GOOGLE", "SAS", "Form", "isolate_clouds")

USER = {
    "type": "authorized_user", "client_id": "CLIENT", "client_secret": "S", "refresh_token": "R",
}  # fmt: skip
EXTERNAL = {
    "type": "external_account", "audience": "A", "subject_token_type": "T", "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/none"},
}  # fmt: skip
KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="
SAS = "sv=2023-01-03&sp=r&sig=abc%3D"


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write a filesystem down."""

    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: str = "bkt/up"
    #: Makes options that need a file or an object; gets an empty folder.
    make: Callable[[Path], Mapping[str, Any]] = lambda _: {}

    def all_options(self, folder: Path) -> dict[str, Any]:
        """Return the options, with those that are made."""
        return {**self.options, **self.make(folder)}


def make_account() -> dict[str, Any]:
    """Return the content of a service account's file."""
    return {**json.loads(make_service_account()), "token_uri": "https://oauth2.googleapis.com/token"}


def isolate_clouds(monkeypatch: pytest.MonkeyPatch, folder: Path, environment: Mapping[str, str]) -> None:
    """Set no variable of Google or Azure but the given ones, and no file of a user."""
    for name in list(os.environ):
        if name.startswith(("GOOGLE", "GCSFS_", "AZURE", "STORAGE_EMULATOR", "SERVICE_ACCOUNT", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    variables = {
        "CLOUDSDK_CONFIG": str(folder / "gcloud"), "NO_GCE_CHECK": "true", "FETCH_RAW_TOKEN_EXPIRY": "false",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false", "GCE_METADATA_HOST": "127.0.0.1:9",
    }  # fmt: skip
    for name, value in {**variables, **environment}.items():
        monkeypatch.setenv(name, value.replace("FOLDER", str(folder)))
    for name, content in (
        ("account", json.dumps(make_account())),
        ("user", json.dumps(USER)),
        ("external", json.dumps(EXTERNAL)),
        (
            "certificate",
            json.dumps(
                {"cert_configs": {"workload": {name: str(folder / "account") for name in ("cert_path", "key_path")}}}
            ),
        ),
    ):
        (folder / f"{name}.json").write_text(content)
    (folder / "account").write_text(json.dumps(make_account()))


def google(options: Mapping[str, Any] | None = None, **more: Any) -> Form:
    """A filesystem of gcsfs; anonymous where nothing else is said."""
    return Form(options={"token": "anon", **(options or {})}, **more)


def token(make: Callable[[Path], Any], options: Mapping[str, Any] | None = None, **more: Any) -> Form:
    """A filesystem of gcsfs with a token that is made."""
    return Form(options=options or {}, make=lambda folder: {"token": make(folder)}, **more)


GOOGLE: dict[str, Form] = {
    # token
    "anonymous": google(),
    "nothing, and nothing is found": Form(),
    "nothing, and a file of the environment": Form(environment={"GOOGLE_APPLICATION_CREDENTIALS": "FOLDER/user.json"}),
    "nothing, and a project that is not the file's": Form(
        options={"project": "other"}, environment={"GOOGLE_APPLICATION_CREDENTIALS": "FOLDER/user.json"}
    ),
    "google_default, and nothing is found": Form(options={"token": "google_default"}),
    "google_default of a service account": Form(
        options={"token": "google_default"}, environment={"GOOGLE_APPLICATION_CREDENTIALS": "FOLDER/account.json"}
    ),
    "google_default of a user": Form(
        options={"token": "google_default"}, environment={"GOOGLE_APPLICATION_CREDENTIALS": "FOLDER/user.json"}
    ),
    "google_default of a federation": Form(
        options={"token": "google_default"}, environment={"GOOGLE_APPLICATION_CREDENTIALS": "FOLDER/external.json"}
    ),
    "cache": Form(options={"token": "cache"}),
    "browser": Form(options={"token": "browser"}),
    "a service account's file": token(lambda folder: str(folder / "account.json")),
    "a service account's file without a suffix": token(lambda folder: str(folder / "account")),
    "a service account's mapping": token(lambda _: make_account()),
    "JSON text": token(lambda _: json.dumps(make_account())),
    "a user's file": token(lambda folder: str(folder / "user.json")),
    "a user's mapping": token(lambda _: USER),
    "a federation's file": token(lambda folder: str(folder / "external.json")),
    "an access token": Form(options={"token": "ya29.a0Af/x"}),
    "a service account's object": token(
        lambda _: ServiceAccount.from_service_account_info(make_account())
    ),
    "a user's object": token(lambda _: Credentials(None, refresh_token="R", client_id="CLIENT", client_secret="S", token_uri="https://x")),
    "an object with a token only": token(lambda _: Credentials("T")),
    "an object of nobody": token(lambda _: AnonymousCredentials()),
    # project, access, requester_pays
    "project": google({"project": "p"}),
    "read only": google({"access": "read_only"}),
    "read and write": google({"access": "read_write"}),
    "full control": google({"access": "full_control"}),
    "no such access": google({"access": "all"}),
    "requester pays": google({"requester_pays": True, "project": "p"}),
    "requester pays, and no project": google({"requester_pays": True}),
    "requester pays, by another project": google({"requester_pays": "payer", "project": "p"}),
    # where
    "endpoint": google({"endpoint_url": "http://127.0.0.1:4443"}),
    "endpoint with a slash": google({"endpoint_url": "http://127.0.0.1:4443/"}),
    "endpoint with a path": google({"endpoint_url": "https://proxy.example.com/gcs/"}),
    "endpoint in capitals": google({"endpoint_url": "https://Storage.Example.COM"}),
    "endpoint with its own port": google({"endpoint_url": "https://storage.example.com:443"}),
    "endpoint without a scheme": google({"endpoint_url": "localhost:4443"}),
    "endpoint with a user": google({"endpoint_url": "https://user:pw@storage.example.com"}),
    "endpoint, empty": google({"endpoint_url": ""}),
    "endpoint of Google": google({"endpoint_url": "https://storage.googleapis.com"}),
    "endpoint of a private network": google({"endpoint_url": "https://storage-mine.p.googleapis.com"}),
    "emulator": google(environment={"STORAGE_EMULATOR_HOST": "localhost:4443"}),
    "emulator with a scheme": google(environment={"STORAGE_EMULATOR_HOST": "https://emulator.example.com"}),
    "emulator with a slash": google(environment={"STORAGE_EMULATOR_HOST": "http://localhost:4443/"}),
    "emulator with a path": google(environment={"STORAGE_EMULATOR_HOST": "http://localhost:4443/base"}),
    "emulator in capitals": google(environment={"STORAGE_EMULATOR_HOST": "HTTP://localhost:4443"}),
    "emulator, off": google(environment={"STORAGE_EMULATOR_HOST": "default"}),
    "emulator, empty": google(environment={"STORAGE_EMULATOR_HOST": ""}),
    "endpoint before emulator": google(
        {"endpoint_url": "https://storage.example.com"}, environment={"STORAGE_EMULATOR_HOST": "localhost:4443"}
    ),
    "universe": google(environment={"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.org"}),
    "emulator before universe": google(
        environment={"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.org", "STORAGE_EMULATOR_HOST": "localhost:4443"}
    ),
    "client certificate": google(environment={"GOOGLE_API_USE_CLIENT_CERTIFICATE": "true"}),
    "client certificate, never at another endpoint": google(
        environment={"GOOGLE_API_USE_CLIENT_CERTIFICATE": "true", "GOOGLE_API_USE_MTLS_ENDPOINT": "never"}
    ),
    "no client certificate, always at another endpoint": google(environment={"GOOGLE_API_USE_MTLS_ENDPOINT": "always"}),
    "a certificate of the workload": google(environment={"GOOGLE_API_CERTIFICATE_CONFIG": "FOLDER/certificate.json"}),
    "no certificate in the file": google(environment={"GOOGLE_API_CERTIFICATE_CONFIG": "FOLDER/user.json"}),
    "variables of obstore": google(environment={"GOOGLE_BASE_URL": "https://other.example.com"}),
    # the rest
    "session": google({"session_kwargs": {"trust_env": True}}),
    "session with a proxy": google({"session_kwargs": {"proxy": "http://proxy.example.com:3128"}}),
    "timeouts": google({"timeout": 20, "requests_timeout": 10}),
    "consistency": google({"consistency": "md5"}),
    "cache_timeout": google({"cache_timeout": 0}),
    "default_location": google({"default_location": "EUROPE-WEST3"}),
    "version_aware": google({"version_aware": True}),
    "block_size": google({"block_size": 1 << 20}),
    "secure_serialize": google({"secure_serialize": True}),
    "listings": google({"use_listings_cache": False, "listings_expiry_time": 1, "max_paths": 2}),
    "cache_type": google({"cache_type": "none"}),
    # paths
    **{f"path {prefix}": google(prefix=prefix) for prefix in (
        "bkt", "bkt/up", "/bkt/up/", "gs://bkt", "gs://bkt/up/", "gcs://bkt/up", "gs::bkt/up", "my.dotted.bucket/up",
        "my_bucket/up", "example.com:bkt/up", "bkt/a b/ü#x",
    )},
}  # fmt: skip


def azure(options: Mapping[str, Any] | None = None, **more: Any) -> Form:
    """A filesystem of adlfs with a name and a key."""
    return Form(options={"account_name": "acct", "account_key": KEY, **(options or {})}, **more)


def plain(**options: Any) -> Form:
    """A filesystem of adlfs with a name and these options."""
    return Form(options={"account_name": "acct", **options})


def connection(text: str, **more: Any) -> Form:
    """A filesystem of adlfs with a connection string."""
    return Form(options={"connection_string": text}, **more)


NAMED = f"AccountName=acct;AccountKey={KEY}"
PRINCIPAL = {"tenant_id": "00000000-0000-0000-0000-000000000000", "client_id": "i", "client_secret": "s"}
VARIABLES = {"AZURE_STORAGE_ACCOUNT_NAME": "acct", "AZURE_STORAGE_ACCOUNT_KEY": KEY}

AZURE: dict[str, Form] = {
    # credentials
    "key": azure(),
    "SAS": plain(sas_token=SAS),
    "SAS with a question mark": plain(sas_token=f"?{SAS}"),
    "key and SAS": azure({"sas_token": SAS}),
    "principal": plain(**PRINCIPAL),
    "principal, half": plain(client_id="i"),
    "principal and key": azure(PRINCIPAL),
    "anonymous": plain(anon=True),
    "anonymous at the secondary": plain(anon=True, location_mode="secondary"),
    "anonymous and key": azure({"anon": True}),
    "default": plain(),
    "default, said": plain(anon=False),
    "default with an argument": plain(exclude_cli_credential=True),
    "anon is zero": plain(anon=0),
    "anon is empty": plain(anon=""),
    "anon of the environment": Form(options={"account_name": "acct"}, environment={"AZURE_STORAGE_ANON": "true"}),
    "anon of the environment, off": Form(options={"account_name": "acct"}, environment={"AZURE_STORAGE_ANON": "f"}),
    "credential is a key": plain(credential=KEY),
    "credential is a SAS": plain(credential=SAS),
    "credential is a mapping": plain(credential={"account_name": "acct", "account_key": KEY}),
    "credential is a mapping of another account": plain(credential={"account_name": "other", "account_key": KEY}),
    "credential is a named key": Form(
        options={"account_name": "acct"}, make=lambda _: {"credential": AzureNamedKeyCredential("acct", KEY)}
    ),
    "credential is another account's named key": Form(
        options={"account_name": "acct"}, make=lambda _: {"credential": AzureNamedKeyCredential("other", KEY)}
    ),
    "credential is a SAS object": Form(
        options={"account_name": "acct"}, make=lambda _: {"credential": AzureSasCredential(SAS)}
    ),
    "credential is an identity": Form(
        options={"account_name": "acct"}, make=lambda _: {"credential": ClientSecretCredential(*PRINCIPAL.values())}
    ),
    "credential is a managed identity": Form(
        options={"account_name": "acct"}, make=lambda _: {"credential": ManagedIdentityCredential()}
    ),
    "credential and key": azure({"credential": SAS}),
    "empty key": plain(account_key="", sas_token=SAS),
    # environment
    "environment, key": Form(environment=VARIABLES),
    "environment, SAS": Form(environment={"AZURE_STORAGE_ACCOUNT_NAME": "acct", "AZURE_STORAGE_SAS_TOKEN": SAS}),
    "environment, principal": Form(
        environment={
            "AZURE_STORAGE_ACCOUNT_NAME": "acct",
            **{f"AZURE_STORAGE_{name.upper()}": value for name, value in PRINCIPAL.items()},
        }
    ),
    "environment, string": Form(environment={"AZURE_STORAGE_CONNECTION_STRING": NAMED}),
    "environment, string before name and key": azure(
        {"account_name": "other"}, environment={"AZURE_STORAGE_CONNECTION_STRING": NAMED}
    ),
    "environment, key before an explicit SAS": Form(
        options={"account_name": "acct", "sas_token": SAS}, environment={"AZURE_STORAGE_ACCOUNT_KEY": KEY}
    ),
    "environment, key before anonymous": Form(
        options={"account_name": "acct", "anon": True}, environment={"AZURE_STORAGE_ACCOUNT_KEY": KEY}
    ),
    "environment, emulator of obstore": azure(environment={"AZURE_STORAGE_USE_EMULATOR": "true"}),
    "environment, endpoint of obstore": azure(environment={"AZURE_STORAGE_ENDPOINT": "https://other.example.com"}),
    "environment, account of obstore": azure(environment={"AZURE_STORAGE_ACCOUNT_NAME": "other"}),
    # connection strings
    **{f"string {text.replace(KEY, 'KEY')}": connection(text) for text in (
        NAMED, f"{NAMED};", f"DefaultEndpointsProtocol=https;{NAMED};EndpointSuffix=core.windows.net",
        f"DefaultEndpointsProtocol=http;{NAMED}", f"DefaultEndpointsProtocol=http;{NAMED};EndpointSuffix=core.windows.net",
        f"DefaultEndpointsProtocol=https;{NAMED}",
        f"{NAMED};EndpointSuffix=core.chinacloudapi.cn", f"{NAMED};EndpointSuffix=core.usgovcloudapi.net",
        f"{NAMED};EndpointSuffix=.core.windows.net", f"{NAMED};EndpointSuffix=core.cloudapi.de",
        f"{NAMED};EndpointSuffix=Core.Windows.Net", f"{NAMED};EndpointSuffix=",
        f"accountname=acct;ACCOUNTKEY={KEY}", f"AccountName=acct; AccountKey={KEY}", f"AccountName= acct;AccountKey={KEY}",
        f"BlobEndpoint=https://acct.blob.core.windows.net/;{NAMED}", f"BlobEndpoint=http://127.0.0.1:10000/acct;{NAMED}",
        f"BlobEndpoint=http://azurite:10000/acct/;{NAMED}", f"BlobEndpoint=https://cdn.example.com;{NAMED}",
        f"BlobEndpoint=https://cdn.example.com/base;{NAMED}",
        f"BlobEndpoint=https://acct-secondary.blob.core.windows.net;{NAMED}",
        f"BlobEndpoint=https://acct.z22.blob.storage.azure.net;{NAMED}",
        f"BlobEndpoint=https://other.blob.core.windows.net;{NAMED}", f"BlobEndpoint=acct.blob.core.windows.net;{NAMED}",
        f"BlobEndpoint=https://acct.blob.core.windows.net;SharedAccessSignature={SAS}",
        f"BlobEndpoint=https://acct.blob.core.windows.net;SharedAccessSignature=?{SAS}",
        f"BlobEndpoint=https://acct.blob.core.windows.net/?{SAS}", f"BlobEndpoint=https://acct.blob.core.windows.net?{SAS}",
        f"BlobEndpoint=https://acct.blob.core.windows.net/?{SAS};{NAMED}",
        f"BlobEndpoint=http://127.0.0.1:10000/acct;SharedAccessSignature={SAS}",
        f"BlobEndpoint=https://cdn.example.com;SharedAccessSignature={SAS}",
        f"AccountName=acct;SharedAccessSignature={SAS}", "AccountName=acct", "BlobEndpoint=https://acct.blob.core.windows.net",
        f"BlobSecondaryEndpoint=https://acct-secondary.blob.core.windows.net;{NAMED}",
        f"BlobEndpoint=https://acct.blob.core.windows.net;BlobSecondaryEndpoint=https://acct-secondary.blob.core.windows.net;{NAMED}",
        f"QueueEndpoint=https://acct.queue.core.windows.net;{NAMED}", f"DfsEndpoint=https://acct.dfs.core.windows.net;{NAMED}",
        "UseDevelopmentStorage=true", "UseDevelopmentStorage=true;", "UseDevelopmentStorage=True",
        "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://proxy.example.com", f"{NAMED};UseDevelopmentStorage=false",
        f'"{NAMED}"', f"'{NAMED}'", "nonsense", f"{NAMED};Unknown=1", f"AccountName=one;{NAMED}",
    )},
    "string and other options": connection(NAMED, prefix="c") ,
    "string and a host": Form(options={"connection_string": NAMED, "account_host": "other.example.com"}),
    "string and the secondary": Form(options={"connection_string": NAMED, "location_mode": "secondary"}),
    "string and another name": azure({"account_name": "other", "connection_string": NAMED}),
    # hosts
    "no account": Form(options={"account_key": KEY}),
    "account in capitals": azure({"account_name": "Acct"}),
    "secondary": azure({"location_mode": "secondary"}),
    "primary": azure({"location_mode": "primary"}),
    "no such mode": azure({"location_mode": "tertiary"}),
    **{f"host {host}": azure({"account_host": host}) for host in (
        "acct.blob.core.windows.net", "acct.blob.core.windows.net/", "ACCT.blob.core.windows.net", "other.blob.core.windows.net",
        "acct.blob.core.chinacloudapi.cn", "acct.blob.core.usgovcloudapi.net", "acct.blob.core.cloudapi.de",
        "acct.privatelink.blob.core.windows.net", "acct-secondary.blob.core.windows.net", "acct-dualstack.blob.core.windows.net",
        "acct-ipv6.blob.core.windows.net", "acct.dfs.core.windows.net", "127.0.0.1:10000/acct", "localhost:10000/acct",
        "https://acct.blob.core.windows.net", "http://127.0.0.1:10000/acct", "user@acct.blob.core.windows.net", "",
        f"acct.blob.core.windows.net?{SAS}",
    )},
    **{f"host {host}, SAS": plain(sas_token=SAS, account_host=host) for host in (
        "acct.z22.blob.storage.azure.net", "onelake.blob.fabric.microsoft.com", "cdn.example.com", "cdn.example.com/base",
        "cdn.example.com:8443", "acct.blob.preprod.core.windows.net",
    )},
    **{f"host {host}, secondary": azure({"account_host": host, "location_mode": "secondary"}) for host in (
        "acct.blob.core.usgovcloudapi.net", "acct-secondary.blob.core.windows.net", "acct-ipv6.blob.core.windows.net",
        "acct-dualstack.blob.core.windows.net", "acct.privatelink.blob.core.windows.net", "127.0.0.1:10000/acct",
    )},
    "host cdn.example.com, SAS, secondary": plain(sas_token=SAS, account_host="cdn.example.com", location_mode="secondary"),
    "host acct.z22.blob.storage.azure.net, SAS, secondary": plain(
        sas_token=SAS, account_host="acct.z22.blob.storage.azure.net", location_mode="secondary"
    ),
    "host, anonymous": plain(anon=True, account_host="acct.blob.core.usgovcloudapi.net"),
    "host, default": plain(account_host="acct.blob.core.usgovcloudapi.net"),
    "host with a SAS": plain(anon=True, account_host=f"acct.blob.core.windows.net/?{SAS}"),
    # the rest
    "timeouts": azure({"timeout": 1, "connection_timeout": 2, "read_timeout": 3}),
    "sizes": azure({"blocksize": 1 << 20, "max_concurrency": 2, "default_fill_cache": False, "default_cache_type": "none"}),
    "assume_container_exists": azure({"assume_container_exists": True}),
    "version_aware": azure({"version_aware": True}),
    "request_session": Form(
        options={"account_name": "acct", "account_key": KEY}, make=lambda _: {"request_session": object()}
    ),
    "listings": azure({"use_listings_cache": False, "listings_expiry_time": 1, "max_paths": 2}),
    # paths
    **{f"path {prefix}": azure(prefix=prefix) for prefix in (
        "c", "c/up", "/c/up/", "az://c", "az://c/up/", "abfs://c/up", "abfss://c/up", "abfs://c@acct.dfs.core.windows.net/up",
        "abfs://c@acct.blob.core.windows.net/up", "abfs://acct.dfs.core.windows.net/c/up", "$root", "$web/up", "c/a b/ü",
        "c/back\\slash",
    )},
}  # fmt: skip
