"""What a caller may write, and what is refused in one line before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types.file_object import FileObject, storages
from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, UnknownOptionError
from migrate_storage.stores.config.open import open_store
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.option_names import CLIENT, OPTIONS
from tests.support.backend.echo import echo
from tests.support.backend.signatures import SERVICE_ACCOUNT

KEY = "aGVsbG8gd29ybGQ="


@pytest.fixture
def account_file(tmp_path: Path) -> Path:
    path = tmp_path / "sa.json"
    path.write_text(json.dumps(SERVICE_ACCOUNT))
    return path


@pytest.mark.parametrize(
    ("url", "options", "service", "root", "prefix", "expected"),
    [
        ("s3://b/", {}, "s3", "b", "", {}),
        ("s3://b", {}, "s3", "b", "", {}),
        ("s3a://b/p/q/", {}, "s3", "b", "p/q", {}),
        ("S3://B_Upper/P", {}, "s3", "B_Upper", "P", {}),
        ("s3://b/a%20b%23", {}, "s3", "b", "a b#", {}),
        ("s3://b/p", {"prefix": "/q/r/"}, "s3", "b", "p/q/r", {}),
        ("gs://b", {"google_bearer_token": "t"}, "gcs", "b", "", {"bearer_token": "t"}),
        ("gcs://b/p", {"bearer_token": "t"}, "gcs", "b", "p", {"bearer_token": "t"}),
        ("az://c", {"account_name": "a", "access_key": KEY}, "azure", "c", "", {"account_name": "a", "account_key": KEY}),
        ("azure://c/p", {"azure_storage_account_name": "a", "sas_token": "sig=1"}, "azure", "c", "p", {"account_name": "a", "sas_key": "sig=1"}),
        ("abfss://c@acct.dfs.core.windows.net/p", {"account_key": KEY}, "azure", "c", "p", {"account_name": "acct", "account_key": KEY}),
        (
            "abfs://c@acct.dfs.core.usgovcloudapi.net/p",
            {"account_key": KEY},
            "azure",
            "c",
            "p",
            {"account_name": "acct", "account_key": KEY, "endpoint": "https://acct.blob.core.usgovcloudapi.net"},
        ),
        ("https://acct.blob.core.windows.net/c/p", {"account_key": KEY}, "azure", "c", "p", {"account_name": "acct", "account_key": KEY}),
        (
            "http://127.0.0.1:10000/devstoreaccount1/c/p",
            {"azure_storage_account_key": KEY},
            "azure",
            "c",
            "p",
            {"account_name": "devstoreaccount1", "account_key": KEY, "endpoint": "http://127.0.0.1:10000/devstoreaccount1"},
        ),
        ("https://acc.r2.cloudflarestorage.com/b/p", {}, "s3", "b", "p", {"endpoint": "https://acc.r2.cloudflarestorage.com", "region": "auto"}),
        ("https://acc.eu.r2.cloudflarestorage.com/b", {"aws_region": "auto"}, "s3", "b", "", {"endpoint": "https://acc.eu.r2.cloudflarestorage.com", "region": "auto"}),
        ("https://nyc3.digitaloceanspaces.com/space/p", {}, "s3", "space", "p", {"endpoint": "https://nyc3.digitaloceanspaces.com", "region": "nyc3"}),
        ("https://space.nyc3.digitaloceanspaces.com/p", {}, "s3", "space", "p", {"endpoint": "https://nyc3.digitaloceanspaces.com", "region": "nyc3"}),
        ("https://b.s3.eu-west-1.amazonaws.com/p", {}, "s3", "b", "p", {"endpoint": "https://s3.eu-west-1.amazonaws.com", "region": "eu-west-1"}),
        ("https://my.dotted.b.s3.eu-west-1.amazonaws.com/", {}, "s3", "my.dotted.b", "", {"endpoint": "https://s3.eu-west-1.amazonaws.com", "region": "eu-west-1"}),
        ("https://s3.amazonaws.com/b/p", {}, "s3", "b", "p", {"endpoint": "https://s3.amazonaws.com", "region": "us-east-1"}),
        ("https://minio.example.com/b/p", {"aws_access_key_id": "k", "aws_secret_access_key": "s"}, "s3", "b", "p", {"endpoint": "https://minio.example.com", "access_key_id": "k", "secret_access_key": "s"}),
        ("https://storage.googleapis.com/b/p", {"bearer_token": "t"}, "gcs", "b", "p", {"bearer_token": "t"}),
        ("https://example.com/files", {}, "http", "https://example.com", "files", {}),
        # A vendor's endpoint with the bucket in it, as its console shows it, is not doubled.
        ("s3://b", {"aws_endpoint": "https://acc.r2.cloudflarestorage.com/b"}, "s3", "b", "", {"endpoint": "https://acc.r2.cloudflarestorage.com", "region": "auto"}),
        ("s3://b", {"aws_endpoint": "https://b.nyc3.digitaloceanspaces.com", "aws_region": "us-east-1"}, "s3", "b", "", {"endpoint": "https://nyc3.digitaloceanspaces.com", "region": "us-east-1"}),
    ],
)  # fmt: skip
def test_places(
    url: str, options: dict[str, Any], service: str, root: str, prefix: str, expected: dict[str, Any]
) -> None:
    config = ObstoreBackend("k", url, **options).config
    assert config is not None
    assert (config.service, config.root, config.prefix) == (service, root, prefix)
    assert dict(config.options) == expected


@pytest.mark.parametrize("spelling", ["aws_access_key_id", "access_key_id", "AWS_ACCESS_KEY_ID"])
def test_every_spelling(spelling: str) -> None:
    more = {"secret_access_key": "s", "aws_token": "t", "endpoint_url": "https://h", "AWS_DEFAULT_REGION": "r"}
    config = ObstoreBackend("k", "s3://b", **{spelling: "k"}, **more).config
    assert config is not None
    assert dict(config.options) == {
        "access_key_id": "k",
        "secret_access_key": "s",
        "session_token": "t",
        "endpoint": "https://h",
        "default_region": "r",
    }


def _knows(kind: Any, name: str) -> bool:
    """Whether obstore knows an option: a wrong value is no wrong name."""
    try:
        kind("b", config={name: "x"})
    except UnknownConfigurationKeyError:
        return False
    except BaseError:
        return True
    return True


@pytest.mark.parametrize(("service", "kind"), [("s3", S3Store), ("gcs", GCSStore), ("azure", AzureStore)])
def test_every_name_that_we_know_is_one_that_obstore_knows(service: str, kind: Any) -> None:
    ours = {"profile", "connection_string"}
    assert [name for name in set(OPTIONS[service]) - ours if not _knows(kind, name)] == []


def test_every_client_option_that_we_know_is_one_that_obstore_knows() -> None:
    for name in CLIENT - {"root_certificate", "proxy_ca_certificate", "default_headers"}:
        value = (
            True
            if name in ("allow_http", "allow_invalid_certificates", "http1_only", "http2_only", "randomize_addresses")
            else "1s"
        )
        value = "true" if name == "http2_keep_alive_while_idle" else value
        value = "http://p" if name == "proxy_url" else "5" if name == "pool_max_idle_per_host" else value
        S3Store("b", client_options={name: value})  # type: ignore[misc]


def test_client_options_may_be_plain_arguments() -> None:
    backend = ObstoreBackend(
        "k",
        "s3://b",
        aws_endpoint="http://127.0.0.1:9",
        aws_allow_http=True,
        timeout=5,
        aws_connect_timeout="3s",
        client_options={"user_agent": "me", "pool_max_idle_per_host": 3},
        retry_config={"max_retries": 2, "retry_timeout": 10, "backoff": {"init_backoff": 0.1, "base": 2}},
    )
    assert backend.fs.client_options["allow_http"] == "true"
    assert backend.fs.client_options["timeout"] == "5000ms"
    assert backend.fs.client_options["connect_timeout"] == "3s"
    assert backend.fs.client_options["user_agent"] == "me"
    assert backend.fs.retry_config["max_retries"] == 2


def test_a_body_may_take_as_long_as_it_likes() -> None:
    assert ObstoreBackend("k", "s3://b").fs.client_options == {"timeout": "7days", "read_timeout": "120s"}
    assert "read_timeout" not in ObstoreBackend("k", "s3://b", timeout="40s").fs.client_options


def test_none_is_left_out() -> None:
    backend = ObstoreBackend(
        "k", "s3://b", prefix=None, aws_region=None, aws_endpoint=None, client_options=None, config=None, timeout=None
    )
    assert backend.config == StoreConfig(service="s3", root="b")


def test_options_in_a_dict() -> None:
    backend = ObstoreBackend("k", "s3://b", config={"aws_region": "r", "endpoint": "https://h"})
    assert backend.config is not None
    assert dict(backend.config.options) == {"region": "r", "endpoint": "https://h"}


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for place, where in {
        Path("uploads"): "uploads",
        Path("~/files"): "home/files",
        "./here": "here",
        "~/more": "home/more",
        "file://./dot": "dot",
        "file://~/tilde": "home/tilde",
        f"file://{tmp_path}/missing/deep/": "missing/deep",
        f"file:{tmp_path}/short": "short",
        f"file://localhost{tmp_path}/host": "host",
        f"file://{tmp_path}/with%20space": "with space",
        f"{tmp_path}/plain": "plain",
    }.items():
        backend = ObstoreBackend("k", place)
        FileObject(backend=backend, filename="a/b.txt").save(b"1")
        assert (tmp_path / where / "a" / "b.txt").read_bytes() == b"1", place
    below = ObstoreBackend("k", tmp_path, prefix="pre/fix")
    FileObject(backend=below, filename="c").save(b"2")
    assert (tmp_path / "pre/fix/c").read_bytes() == b"2"


@pytest.mark.parametrize(
    "store",
    [
        MemoryStore(),
        LocalStore("/tmp"),
        S3Store("b", region="r", prefix="p"),
        GCSStore("b", bearer_token="t"),
        AzureStore("c", account_name="a", account_key=KEY),
        HTTPStore("https://example.com"),
    ],
    ids=lambda store: type(store).__name__,
)
def test_a_store_is_taken_as_it_is(store: Any) -> None:
    backend = ObstoreBackend("k", store)
    assert backend.fs is store
    assert backend.config is not None
    assert backend.protocol == backend.config.service
    storages.register_backend(backend)
    assert storages.get_backend("k") is backend
    storages.unregister_backend("k")


def test_a_store_that_panics_when_asked_is_taken_too() -> None:
    store = S3Store("b", aws_allow_http=True, aws_endpoint="http://127.0.0.1:9")  # type: ignore[call-arg]
    backend = ObstoreBackend("k", store)
    assert backend.config is None
    assert backend.protocol == "s3"
    assert "ObstoreBackend" in repr(backend)


REFUSED = [
    ("s3://", {}, "has no bucket; write s3://BUCKET/"),
    ("s3:///b", {}, "has no bucket"),
    ("b", {}, "names no store; write s3://BUCKET/"),
    ("s3", {}, "names no store"),
    ("ftp://h/b", {}, "names no store"),
    ("s3://user:pw@b/x", {}, "neither user nor port"),
    ("s3://b:9000/x", {}, "neither user nor port"),
    ("s3://b/p#x", {}, "percent-encode them"),
    ("s3://b/p?x=1", {}, "percent-encode them"),
    ("s3://b/p//q", {}, "empty path segment"),
    ("s3://b/../q", {}, "'..'"),
    ("s3://b", {"prefix": "a/../b"}, "'..'"),
    ("s3://b/a\tb", {}, "control character"),
    ("file://uploads/x", {}, "write file:///uploads/x"),
    ("file://", {}, "has no directory"),
    ("s3://b", {"aws_endpoint": "localhost:9000"}, "write https://localhost:9000 (or http://localhost:9000)"),
    ("s3://b", {"aws_endpoint": "//h"}, "has no scheme"),
    ("s3://b", {"aws_endpoint": "http://h", "aws_allow_http": False}, "write https:// or allow_http=True"),
    ("s3://b", {"aws_access_key_id": "k"}, "without aws_secret_access_key"),
    ("s3://b", {"aws_access_key_id": "", "aws_secret_access_key": ""}, "aws_access_key_id is empty"),
    ("s3://b", {"config": {"aws_access_key_id": "k", "aws_secret_access_key": ""}}, "aws_secret_access_key is empty"),
    ("gs://b", {"google_bearer_token": ""}, "google_bearer_token is empty"),
    ("gs://b", {"google_service_account": ""}, "google_service_account is empty"),
    ("az://c", {"account_name": "a", "account_key": ""}, "account_key is empty"),
    ("az://c", {"azure_storage_account_name": "", "account_key": KEY}, "azure_storage_account_name is empty"),
    ("https://bkt.s3-website-us-east-1.amazonaws.com/", {}, "cannot be read from this host of AWS"),
    ("https://ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com/x", {}, "cannot be read from this host of AWS"),
    ("https://execute-api.us-east-1.amazonaws.com/x", {}, "cannot be read from this host of AWS"),
    ("https://bkt.nyc3.cdn.digitaloceanspaces.com/p", {}, "is a host for readers"),
    ("https://f003.backblazeb2.com/file/bkt/p", {}, "is a host for readers"),
    ("https://pub-0123.r2.dev/p", {}, "is a host for readers"),
    ("https://bkt.website-us-east-1.linodeobjects.com/p", {}, "is a host for readers"),
    ("https://bkt.website.yandexcloud.net/p", {}, "is a host for readers"),
    ("https://s3-accelerate.amazonaws.com/bkt", {}, "needs the bucket in front of it"),
    ("s3://b", {"aws_endpoint": "https://nyc3.digitaloceanspaces.com/b/p"}, "write it as the prefix, s3://b/PREFIX"),
    ("s3://b", {"aws_endpoint": "https://b.nyc3.digitaloceanspaces.com/p"}, "write it as the prefix"),
    ("s3://b", {"aws_endpoint": "https://other.nyc3.digitaloceanspaces.com"}, "names another bucket, 'other'"),
    ("s3://b", {"aws_endpoint": "https://b.nyc3.cdn.digitaloceanspaces.com"}, "is a host for readers"),
    ("s3://b", {"aws_endpoint": "https://u:p@nyc3.digitaloceanspaces.com"}, "take user, query and fragment out of it"),
    ("s3://b", {"aws_endpoint": "https://nyc3.digitaloceanspaces.com?x=1"}, "take user, query and fragment out of it"),
    ("abfs://c@acc/p", {}, "write abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/"),
    ("abfss://c@files.example.com/p", {}, "no host of Azure"),
    ("s3://b", {"aws_region": "a", "region": "b"}, "given twice"),
    ("s3://b", {"aws_region": "a", "config": {"aws_region": "b"}}, "given twice"),
    ("s3://b", {"timeout": "1s", "client_options": {"timeout": "2s"}}, "given twice"),
    ("s3://b", {"bucket": "c"}, "not the one in the URL"),
    ("s3://b", {"config": "x"}, "must be a dict"),
    ("s3://b", {"aws_server_side_encryption": "rot13"}, "s3 store 'b'"),
    ("s3://b", {"timeout": "soon"}, "s3 store 'b'"),
    ("s3://b", {"client_options": {"root_certificate": "/none.pem"}}, "cannot read /none.pem"),
    ("s3://b", {"credential_provider": 5}, "gives no credentials"),
    ("https://acc.r2.cloudflarestorage.com/", {}, "no bucket"),
    ("gs://b", {"google_service_account": "/none.json"}, "cannot read /none.json: No such file or directory"),
    ("gs://b", {"google_service_account": __file__}, "is not JSON"),
    ("gs://b", {"google_service_account_key": "{}"}, "gcs store 'b'"),
    ("az://c", {}, "azure_storage_account_name"),
    ("az://c", {"account_name": "a", "account_key": "not base64!"}, "is not base64"),
    ("az://c", {"account_name": "a", "connection_string": f"AccountName=b;AccountKey={KEY}"}, "keep one of them"),
    ("abfss://c@acct.dfs.core.windows.net/", {"account_name": "other", "account_key": KEY}, "keep one of them"),
    ("az://c", {"azure_storage_connection_string": "AccountKey=x"}, "names no account"),
]


def test_other_empty_options_are_not_given() -> None:
    empty = {"aws_region": "", "aws_endpoint": "", "aws_session_token": "", "client_options": {"proxy_url": ""}}
    backend = ObstoreBackend("k", "s3://b", aws_access_key_id="k", aws_secret_access_key="s", **empty)
    assert backend.config.options == {"access_key_id": "k", "secret_access_key": "s"}
    assert backend.config.client_options == {}


@pytest.mark.parametrize("url", ["memory://", "s3://b", "file"])
@pytest.mark.parametrize(
    "metadata", [{"key": object()}, {1: "x"}, {"key": float("nan")}, {"key": {1: 2}}, {"key": (1,)}]
)
def test_metadata_that_cannot_be_sent_is_refused_on_every_store(url: str, metadata: Any, tmp_path: Path) -> None:
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"} if url.startswith("s3") else {}
    backend = ObstoreBackend("k", tmp_path if url == "file" else url, **keys)
    file = FileObject(backend=backend, filename="x", metadata=metadata)
    with pytest.raises(ConfigurationError, match="metadata"):
        backend.save_object(file, b"x")


@pytest.mark.parametrize(("url", "options", "says"), REFUSED, ids=[f"{url} {options}" for url, options, _ in REFUSED])
def test_what_cannot_work_is_refused_in_one_line(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ObstoreBackend("k", url, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name", "near"),
    [
        ("s3://b", "aws_acess_key_id", "aws_access_key_id"),
        ("s3://b", "reigon", "aws_region"),
        ("s3://b", "secret", "aws_secret_access_key"),
        ("s3://b", "azure_storage_account_name", "leave it out"),
        ("s3://b", "allow_htp", "allow_http"),
        ("gs://b", "google_service_acount", "google_service_account"),
        ("az://c", "azure_storage_acount_key", "azure_storage_account_key"),
        ("file:///tmp/x", "mkdirs", "mkdir"),
        ("memory://", "aws_region", "leave it out"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(url: str, name: str, near: str) -> None:
    with pytest.raises(UnknownOptionError, match=near) as caught:
        ObstoreBackend("k", url, **{name: "x"})
    assert isinstance(caught.value, TypeError)


def test_unknown_retry_and_client_options_are_refused() -> None:
    with pytest.raises(UnknownOptionError, match="max_retries"):
        ObstoreBackend("k", "s3://b", retry_config={"max_attempts": 5})
    with pytest.raises(UnknownOptionError, match="verify"):
        ObstoreBackend("k", "s3://b", client_options={"verify": False})


def test_a_store_takes_no_further_options() -> None:
    with pytest.raises(ConfigurationError, match="prefix, region"):
        ObstoreBackend("k", MemoryStore(), prefix="p", region="r")


def test_a_service_account_in_any_form(account_file: Path) -> None:
    for options in (
        {"google_service_account": str(account_file)},
        {"service_account_path": account_file},
        {"google_service_account_key": json.dumps(SERVICE_ACCOUNT)},
        {"google_service_account": SERVICE_ACCOUNT},
        {"google_application_credentials": str(account_file)},
    ):
        assert "X-Goog-Signature" in str(ObstoreBackend("k", "gs://b", **options).sign("x"))


def test_the_emulator_is_where_it_is_said_to_be() -> None:
    with echo() as server:
        backend = ObstoreBackend("k", "az://c", azure_storage_use_emulator=True, azure_storage_endpoint=server.url)
        assert backend.get_content("x") == b"content"
        assert server.seen[-1].path == "/devstoreaccount1/c/x"


def test_a_proxy_of_the_emulator_is_refused_for_no_sdk_asks_it() -> None:
    with pytest.raises(ConfigurationError, match="DevelopmentStorageProxyUri is ignored by the SDK"):
        ObstoreBackend(
            "k",
            "az://c",
            azure_storage_connection_string="UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite",
        )


def test_secrets_are_in_no_repr() -> None:
    backend = ObstoreBackend(
        "k", "s3://b/p", aws_access_key_id="AKIA", aws_secret_access_key="very-secret", aws_session_token="hush"
    )
    for text in (
        repr(backend),
        str(backend),
        f"{backend}",
        repr(backend.config),
        repr(backend.options),
        repr(vars(backend)),
    ):
        assert "very-secret" not in text
        assert "hush" not in text
    assert backend.options["secret_access_key"] == "***"
    assert repr(backend) == "ObstoreBackend(key='k', fs='s3://b/p')"


def test_opening_needs_a_root() -> None:
    with pytest.raises(ConfigurationError, match="s3://BUCKET/"):
        open_store(StoreConfig(service="s3", root=""))
    with pytest.raises(ConfigurationError, match="no store for 'ftp'"):
        open_store(StoreConfig(service="ftp", root="x"))
