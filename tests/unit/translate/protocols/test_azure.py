"""Each option of ``AzureBlobFileSystem``, in the order in which adlfs uses them."""

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.identity import ClientSecretCredential
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential

from tests.support.translate.option_row import Row

KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="
SAS = "sv=2023-01-03&sp=r&sig=abc%3D"
STRING = f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.windows.net"
PRINCIPAL = {"tenant_id": "t", "client_id": "i", "client_secret": "s"}
BASE = {"account_name": "acct", "account_key": KEY}
OUT = dict(BASE)
NAME = {"account_name": "acct"}


def azure(options, expected=None, *codes, **more) -> Row:
    return Row("az", options, expected or {}, codes=codes, **{"prefix": "c", **more})


ROWS = {
    "key": azure(BASE, OUT),
    "no account": azure({"account_key": KEY}, {}, "azure.account.missing", refused=True),
    "account of the environment": azure({"account_key": KEY}, OUT, environment={"AZURE_STORAGE_ACCOUNT_NAME": "acct"}),
    "connection string": azure(
        {"connection_string": STRING}, {**OUT, "endpoint": "https://acct.blob.core.windows.net"}
    ),
    "connection string wins": azure(
        {"connection_string": STRING, "account_name": "other", "account_key": "eA=="},
        {**OUT, "endpoint": "https://acct.blob.core.windows.net"},
        "azure.connection.wins",
    ),
    "connection string of the environment wins": azure(
        {"account_name": "other", "account_key": "eA=="},
        {**OUT, "endpoint": "https://acct.blob.core.windows.net"},
        "azure.connection.environment",
        "azure.connection.wins",
        environment={"AZURE_STORAGE_CONNECTION_STRING": STRING},
    ),
    "connection string of Azurite": azure(
        {"connection_string": f"AccountName=acct;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/acct/"},
        {**OUT, "endpoint": "http://127.0.0.1:10000/acct"},
        client={"allow_http": True},
    ),
    "connection string with a SAS": azure(
        {"connection_string": f"BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature={SAS}"},
        {"account_name": "acct", "sas_key": SAS, "endpoint": "https://acct.blob.core.windows.net"},
        "credentials.expires",
    ),
    "connection string in quotes": azure(
        {"connection_string": f'"{STRING}"'}, {}, "azure.connection.malformed", refused=True
    ),
    "SAS": azure({**NAME, "sas_token": SAS}, {**NAME, "sas_key": SAS}, "credentials.expires"),
    "SAS with a question mark": azure(
        {**NAME, "sas_token": f"?{SAS}"}, {**NAME, "sas_key": SAS}, "credentials.expires"
    ),
    "key before SAS": azure({**BASE, "sas_token": SAS}, OUT),
    "service principal": azure({**NAME, **PRINCIPAL}, {**NAME, **PRINCIPAL}),
    "half a service principal": azure({**NAME, "client_id": "i"}, {}, "azure.principal.incomplete", refused=True),
    "SAS before service principal": azure(
        {**NAME, **PRINCIPAL, "sas_token": SAS}, {**NAME, "sas_key": SAS}, "credentials.expires"
    ),
    "credential is a key": azure({**NAME, "credential": KEY}, OUT),
    "credential is a SAS": azure({**NAME, "credential": SAS}, {**NAME, "sas_key": SAS}, "credentials.expires"),
    "credential is a mapping": azure({"credential": {"account_name": "acct", "account_key": KEY}}, OUT),
    "credential is a named key": azure({**NAME, "credential": AzureNamedKeyCredential("acct", KEY)}, OUT),
    "credential is a SAS object": azure(
        {**NAME, "credential": AzureSasCredential(SAS)}, {**NAME, "sas_key": SAS}, "credentials.expires"
    ),
    "credential of azure.identity": azure(
        {**NAME, "credential": ClientSecretCredential("t" * 36, "i", "s")},
        NAME,
        "azure.credential.object",
        credentials="object",
    ),
    "credential of azure.identity.aio": azure(
        {**NAME, "credential": AsyncClientSecretCredential("t" * 36, "i", "s")},
        NAME,
        "azure.credential.object",
        credentials="object",
    ),
    "credential before key": azure({**BASE, "account_key": "eA==", "credential": KEY}, OUT),
    "credential of no kind": azure({**NAME, "credential": object()}, {}, "azure.credential.unknown", refused=True),
    "credential is empty": azure({**NAME, "credential": ""}, {}, "azure.credential.unknown", refused=True),
    "SAS is a question mark": azure({**NAME, "sas_token": "?"}, {}, "azure.credential.unknown", refused=True),
    "account with a scheme": azure(
        {**BASE, "account_name": "https://acct.blob.core.windows.net"}, {}, "azure.account.invalid", refused=True
    ),
    "account with a space": azure({**BASE, "account_name": " acct"}, {}, "azure.account.invalid", refused=True),
    "connection string with an empty key": azure(
        {"connection_string": "AccountName=acct;AccountKey="}, {}, "azure.connection.malformed", refused=True
    ),
    "account is the secondary host": azure(
        {**BASE, "account_name": "acct-secondary"}, {**OUT, "endpoint": "https://acct-secondary.blob.core.windows.net"}
    ),
    "host of a feature of the secondary": azure(
        {**BASE, "account_host": "acct-secondary-ipv6.blob.core.windows.net"},
        {**OUT, "endpoint": "https://acct-secondary-ipv6.blob.core.windows.net"},
    ),
    "nothing": azure(NAME, {}, "azure.anon.unknown", refused=True),
    "arguments for the default credential": azure(
        {**NAME, "anon": False, "exclude_cli_credential": True},
        NAME,
        "azure.credentials.default",
        "azure.default_credential",
        credentials="azure",
    ),
    "anon": azure({**NAME, "anon": True}, {**NAME, "skip_signature": True}),
    "anon false": azure({**NAME, "anon": False}, NAME, "azure.credentials.default", credentials="azure"),
    "AZURE_STORAGE_ANON": azure(NAME, {**NAME, "skip_signature": True}, environment={"AZURE_STORAGE_ANON": "true"}),
    "key before anon": azure({**BASE, "anon": True}, OUT),
    "account host": azure(
        {**BASE, "account_host": "acct.privatelink.blob.core.windows.net"},
        {**OUT, "account_name": "acct.privatelink", "endpoint": "https://acct.privatelink.blob.core.windows.net"},
    ),
    **{
        f"a key with the host {host}": azure({**BASE, "account_host": host}, {}, "azure.account.unsigned", refused=True)
        for host in (
            "acct.privatelink.example.com",
            "cdn.example.com",
            "localhost:10000",
            "azurite:10000/acct",
            "10.0.0.4",
        )
    },
    **{
        f"a key with the host {host}, named": azure(
            {"account_name": "acct", "credential": {"account_name": "acct", "account_key": KEY}, "account_host": host},
            {**OUT, "endpoint": f"https://{host}"},
        )
        for host in ("cdn.example.com", "azurite:10000/acct")
    },
    "account host with a scheme": azure({**BASE, "account_host": "http://x"}, {}, "azure.host", refused=True),
    "China": azure(
        {**BASE, "account_host": "acct.blob.core.chinacloudapi.cn"},
        {
            **OUT,
            "endpoint": "https://acct.blob.core.chinacloudapi.cn",
            "authority_host": "https://login.chinacloudapi.cn",
        },
    ),
    "US Government": azure(
        {**BASE, "account_host": "acct.blob.core.usgovcloudapi.net"},
        {
            **OUT,
            "endpoint": "https://acct.blob.core.usgovcloudapi.net",
            "authority_host": "https://login.microsoftonline.us",
        },
    ),
    "secondary": azure(
        {**BASE, "location_mode": "secondary"},
        {**OUT, "endpoint": "https://acct-secondary.blob.core.windows.net"},
        "azure.secondary",
    ),
    "secondary, without credentials": azure(
        {**NAME, "anon": True, "location_mode": "secondary"}, {**NAME, "skip_signature": True}
    ),
    "secondary of a host that has none": azure(
        {**NAME, "sas_token": SAS, "account_host": "cdn.example.com", "location_mode": "secondary"},
        {},
        "azure.secondary.unknown",
        "credentials.expires",
        refused=True,
    ),
    "the account in the host signs": azure(
        {**BASE, "account_host": "other.blob.core.windows.net"},
        {**OUT, "account_name": "other", "endpoint": "https://other.blob.core.windows.net"},
    ),
    "a SAS in the host": azure(
        {**NAME, "anon": True, "account_host": f"acct.blob.core.windows.net?{SAS}"}, {}, "azure.host", refused=True
    ),
    "a key of another account": azure(
        {**NAME, "credential": AzureNamedKeyCredential("other", KEY)},
        {"account_name": "other", "account_key": KEY, "endpoint": "https://acct.blob.core.windows.net"},
    ),
    "connection string with spaces": azure(
        {"connection_string": f"AccountName=acct; AccountKey={KEY}"}, {}, "azure.connection.malformed", refused=True
    ),
    "connection string without credentials": azure(
        {"connection_string": "AccountName=acct"}, {**NAME, "skip_signature": True}
    ),
    "timeouts": azure(
        {**BASE, "connection_timeout": 2, "read_timeout": 3, "timeout": 4},
        OUT,
        "option.no_effect",
        client={"connect_timeout": "2s", "read_timeout": "3s"},
    ),
    "no effect": azure(
        {**BASE, "blocksize": 1, "max_concurrency": 1, "assume_container_exists": True, "default_cache_type": "x"},
        OUT,
        "option.no_effect",
    ),
    "session": azure({**BASE, "request_session": object()}, OUT, "option.dropped"),
    "version aware": azure({**BASE, "version_aware": True}, OUT, "azure.version_aware"),
    "unknown": azure({**BASE, "whatever": 1}, OUT, "option.unknown"),
    # environment
    "key of the environment": azure(
        NAME, OUT, "azure.credentials.environment", environment={"AZURE_STORAGE_ACCOUNT_KEY": KEY}
    ),
    "key of the environment before an explicit SAS": azure(
        {**NAME, "sas_token": SAS},
        OUT,
        "azure.credentials.environment",
        "azure.environment_wins",
        environment={"AZURE_STORAGE_ACCOUNT_KEY": KEY},
    ),
    "key of the environment before a principal": azure(
        {**NAME, **PRINCIPAL},
        OUT,
        "azure.credentials.environment",
        "azure.environment_wins",
        environment={"AZURE_STORAGE_ACCOUNT_KEY": KEY},
    ),
    "SAS of the environment": azure(
        NAME,
        {**NAME, "sas_key": SAS},
        "azure.credentials.environment",
        "credentials.expires",
        environment={"AZURE_STORAGE_SAS_TOKEN": SAS},
    ),
    "principal of the environment": azure(
        NAME,
        {**NAME, **PRINCIPAL},
        environment={f"AZURE_STORAGE_{name.upper()}": value for name, value in PRINCIPAL.items()},
    ),
    "AZURE_STORAGE_TOKEN": azure(BASE, OUT, "azure.trap", environment={"AZURE_STORAGE_TOKEN": "x"}),
    "AZURE_SKIP_SIGNATURE": azure(BASE, OUT, "azure.trap", environment={"AZURE_SKIP_SIGNATURE": "true"}),
    "AZURE_STORAGE_ENDPOINT": azure(BASE, OUT, "azure.trap", environment={"AZURE_STORAGE_ENDPOINT": "https://x"}),
    "workload identity and a SAS": azure(
        {**NAME, "sas_token": SAS},
        {**NAME, "sas_key": SAS},
        "credentials.expires",
        "azure.trap",
        environment={"AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_CLIENT_ID": "i", "AZURE_TENANT_ID": "t"},
    ),
    "workload identity and no other credentials": azure(
        {**NAME, "anon": False},
        NAME,
        "azure.credentials.default",
        credentials="azure",
        environment={"AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_CLIENT_ID": "i", "AZURE_TENANT_ID": "t"},
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_option(row):
    row.check()


@pytest.mark.parametrize("protocol", ["az", "abfs", "abfss", "adl"])
@pytest.mark.parametrize("prefix", ["c/up", "abfs://c/up", "abfs://c@acct.dfs.core.windows.net/up"])
def test_names_and_prefixes(protocol, prefix):
    from migrate_storage.translate import translate

    config = translate(protocol, BASE, prefix).config
    assert (config.service, config.root, config.prefix) == ("azure", "c", "up")
