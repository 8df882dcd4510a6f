"""Each option of ``GCSFileSystem``."""

import json
from pathlib import Path

import pytest

from migrate_storage.translate.protocols.gcs import CredentialFile
from tests.support.translate.option_row import Row

ACCOUNT = {"type": "service_account", "private_key": "P", "private_key_id": "I", "client_email": "E"}
FILE = {"token": CredentialFile("/sa.json", "service_account")}
OUT = {"service_account": "/sa.json"}


def gcs(options, expected=None, *codes, **more) -> Row:
    return Row("gcs", options, expected or {}, codes=codes, **more)


ROWS = {
    "a service account's file": gcs(FILE, OUT),
    "a file that was not looked into": gcs({"token": "/sa.json"}, OUT, "gcs.token.file"),
    "an authorized user's file": gcs(
        {"token": CredentialFile("/adc.json", "authorized_user")}, {"application_credentials": "/adc.json"}
    ),
    "an external account's file": gcs(
        {"token": CredentialFile("/ext.json", "external_account")}, {}, "gcs.token.federated", refused=True
    ),
    "a service account's mapping": gcs({"token": ACCOUNT}, {"service_account_key": json.dumps(ACCOUNT)}),
    "a mapping that is no JSON": gcs({"token": {**ACCOUNT, "x": object()}}, {}, "option.invalid"),
    "a user's mapping": gcs({"token": {"refresh_token": "R"}}, {}, "gcs.token.user", refused=True),
    "an access token": gcs({"token": "ya29.abc/def"}, {"bearer_token": "ya29.abc/def"}, "credentials.expires"),
    "an empty token": gcs({"token": ""}, {}, "gcs.token.empty", refused=True),
    "a path of no file": gcs({"token": CredentialFile("~/sa.json", "")}, {}, "gcs.token.missing", refused=True),
    "a Path": gcs({"token": Path("/sa.json")}, {}, "gcs.token.path", refused=True),
    "endpoint with a query": gcs(
        {**FILE, "endpoint_url": "https://h.example.com/?a=b"}, {}, "endpoint.query", refused=True
    ),
    "universe, empty": gcs(
        FILE,
        {**OUT, "base_url": "https://storage"},
        "gcs.endpoint.environment",
        environment={"GOOGLE_CLOUD_UNIVERSE_DOMAIN": ""},
    ),
    "JSON text": gcs({"token": json.dumps(ACCOUNT)}, {}, "gcs.token.json", refused=True),
    "an object": gcs({"token": object()}, {}, "gcs.token.object", credentials="object"),
    "anon": gcs({"token": "anon"}, {"skip_signature": True}, "gcs.token.anon"),
    "nothing": gcs({}, {}, "gcs.token.default", "gcs.token.silent", credentials="google"),
    "google_default": gcs({"token": "google_default"}, {}, "gcs.token.default", credentials="google"),
    "ADC of the environment": gcs(
        {"token": "google_default"},
        {},
        "gcs.token.default",
        "gcs.token.environment",
        credentials="google",
        environment={"GOOGLE_APPLICATION_CREDENTIALS": "/adc.json"},
    ),
    "cloud": gcs({"token": "cloud"}, {}, "gcs.token.cloud"),
    "cache": gcs({"token": "cache"}, {}, "gcs.token.interactive", refused=True),
    "browser": gcs({"token": "browser"}, {}, "gcs.token.interactive", refused=True),
    "project": gcs({**FILE, "project": "p"}, OUT, "option.no_effect"),
    "access": gcs({**FILE, "access": "read_only"}, OUT, "gcs.access"),
    "requester pays, by name": gcs(
        {**FILE, "requester_pays": "p"},
        OUT,
        "gcs.requester_pays",
        client={"default_headers": {"x-goog-user-project": "p"}},
    ),
    "requester pays, own project": gcs(
        {**FILE, "requester_pays": True, "project": "p"},
        OUT,
        "gcs.requester_pays",
        "option.no_effect",
        client={"default_headers": {"x-goog-user-project": "p"}},
    ),
    "requester pays, nobody": gcs({**FILE, "requester_pays": True}, OUT, "option.dropped"),
    "endpoint": gcs(
        {**FILE, "endpoint_url": "http://127.0.0.1:4443/"},
        {**OUT, "base_url": "http://127.0.0.1:4443"},
        client={"allow_http": True},
    ),
    "endpoint without scheme": gcs({**FILE, "endpoint_url": "localhost:4443"}, {}, "endpoint.scheme", refused=True),
    "STORAGE_EMULATOR_HOST": gcs(
        FILE,
        {**OUT, "base_url": "http://localhost:4443"},
        "gcs.endpoint.environment",
        client={"allow_http": True},
        environment={"STORAGE_EMULATOR_HOST": "localhost:4443"},
    ),
    "STORAGE_EMULATOR_HOST off": gcs(FILE, OUT, environment={"STORAGE_EMULATOR_HOST": "default"}),
    "universe": gcs(
        FILE,
        {**OUT, "base_url": "https://storage.example.org"},
        "gcs.endpoint.environment",
        environment={"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.org"},
    ),
    "client certificate": gcs(
        FILE, {}, "client.certificate", refused=True, environment={"GOOGLE_API_USE_CLIENT_CERTIFICATE": "true"}
    ),
    "session": gcs({**FILE, "session_kwargs": {"trust_env": True}}, OUT, "option.dropped"),
    "timeout": gcs({**FILE, "timeout": 20}, OUT, client={"timeout": "20s"}),
    "requests_timeout": gcs({**FILE, "requests_timeout": 20}, OUT, client={"timeout": "20s"}),
    "no effect": gcs(
        {
            **FILE,
            "cache_timeout": 1,
            "consistency": "md5",
            "block_size": 1,
            "default_location": "EU",
            "secure_serialize": True,
            "check_connection": False,
            "finalize_on_close": True,
            "whatever": 1,
        },
        OUT,
        "option.no_effect",
    ),
    "version aware": gcs({**FILE, "version_aware": True}, OUT, "gcs.version_aware"),
    "GOOGLE_SKIP_SIGNATURE": gcs(
        FILE, {**OUT, "skip_signature": False}, "gcs.trap", environment={"GOOGLE_SKIP_SIGNATURE": "true"}
    ),
    "GOOGLE_BEARER_TOKEN": gcs(FILE, OUT, "gcs.trap", environment={"GOOGLE_BEARER_TOKEN": "x"}),
    "GOOGLE_BASE_URL": gcs(
        FILE,
        {**OUT, "base_url": "https://storage.googleapis.com"},
        "gcs.trap",
        environment={"GOOGLE_BASE_URL": "https://other.example.com"},
    ),
    "GOOGLE_SERVICE_ACCOUNT": gcs(FILE, OUT, "gcs.trap", environment={"GOOGLE_SERVICE_ACCOUNT": "x"}),
    "SERVICE_ACCOUNT": gcs(FILE, OUT, "gcs.trap", environment={"SERVICE_ACCOUNT": "x"}),
    "traps without anything explicit": gcs(
        {"token": "cloud"}, {}, "gcs.token.cloud", environment={"SERVICE_ACCOUNT": "x"}
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_option(row):
    row.check()


@pytest.mark.parametrize("protocol", ["gs", "gcs"])
def test_both_names_are_one_service(protocol):
    row = Row(protocol, FILE, OUT, prefix="gs://b/p")
    row.check()
