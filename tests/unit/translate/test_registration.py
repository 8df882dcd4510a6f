"""Registrations are read without being used, and their places compare across drivers."""

import json
import os
import socket

import fsspec
import pytest
import s3fs
from adlfs import AzureBlobFileSystem
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
from aiobotocore.session import AioSession
from fsspec.generic import GenericFileSystem
from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem, WholeFileCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from obstore.fsspec import FsspecStore
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

from migrate_storage import backend as ours
from migrate_storage.translate.registration import read, read_filesystem, same_service
from tests.support.translate.hostile_keys import HOSTILE

KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is sent by looking: a connection would fail the test."""

    def refuse(self, address):
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def s3(**options) -> s3fs.S3FileSystem:
    options = {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:9000/", **options}
    return s3fs.S3FileSystem(**options, skip_instance_cache=True)


def config(filesystem, prefix="b", environment=None):
    return read_filesystem(filesystem, prefix, environment=environment or {}).translation.config


@pytest.mark.parametrize(
    ("backend", "filename", "key", "relative"),
    [
        (lambda: FSSpecBackend(key="a", fs=s3(), prefix="b/pre/"), "a/x", "pre/a/x", "a/x"),
        (lambda: FSSpecBackend(key="a", fs=s3(), prefix="b/pre/"), "//a", "pre/a", "a"),
        (lambda: FSSpecBackend(key="a", fs=s3(), prefix="b"), "s3://b/a", "s3://b/a", "s3://b/a"),
        (lambda: FSSpecBackend(key="a", fs=s3(), prefix="b//pre"), "a", "/pre/a", "a"),
        (lambda: FSSpecBackend(key="a", fs=s3()), "b/a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=s3()), "s3://b/a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=DirFileSystem("b/dd", s3()), prefix="pp"), "a", "dd/pp/a", "a"),
        (lambda: FSSpecBackend(key="a", fs=DirFileSystem("b/dd", s3())), "/a", "dd//a", "/a"),
        (lambda: FSSpecBackend(key="a", fs=DirFileSystem("ee", DirFileSystem("b/dd", s3()))), "a", "dd/ee/a", "a"),
        (lambda: FSSpecBackend(key="a", fs=SimpleCacheFileSystem(fs=DirFileSystem("b", s3()))), "a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=DirFileSystem("b", SimpleCacheFileSystem(fs=s3()))), "a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=WholeFileCacheFileSystem(fs=s3()), prefix="b"), "a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=CachingFileSystem(fs=s3()), prefix="b"), "a", "a", "a"),
    ],
)
def test_places_on_s3_are_those_of_obstore(backend, filename, key, relative):
    registration = read(backend(), {})
    place = registration.place(filename)
    assert (place.service, place.endpoint, place.root, place.key) == ("s3", "http://127.0.0.1:9000", "b", key)
    assert registration.relative(filename) == relative
    store = S3Store("b", endpoint="http://127.0.0.1:9000", access_key_id="k", secret_access_key="s")
    other = read(ObstoreBackend(key="o", fs=store), {}).place("x")
    assert (other.service, other.endpoint, other.root) == (place.service, place.endpoint, place.root)
    assert same_service(place, other) is True
    at = registration.config_at(place)
    assert at is not None
    assert (at.root, at.prefix, at.options["endpoint"]) == ("b", "", "http://127.0.0.1:9000")


@pytest.mark.parametrize("prefix", [None, "b", "b/pre", "s3://b/pre/"])
def test_no_filename_makes_a_place_raise(prefix):
    for filesystem in (s3(), DirFileSystem("b/dd", s3()), LocalFileSystem(), MemoryFileSystem(), GenericFileSystem()):
        registration = read_filesystem(filesystem, prefix, environment={})
        for filename in HOSTILE:
            assert registration.place(filename), filename
            assert isinstance(registration.relative(filename), str), filename


def test_local_places_follow_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one = read(FSSpecBackend(key="a", fs="file", prefix=str(tmp_path / "link")), {})
    other = read(ours.ObstoreBackend(key="b", fs=tmp_path / "real"), {})
    upstream = read(ObstoreBackend(key="b", fs=LocalStore(tmp_path / "real")), {})
    assert one.place("a/b") == other.place("a/b") == upstream.place("a/b")
    assert one.relative("a/b") == "a/b"
    assert one.relative("../x") == "../x"
    assert other.config_at(other.place("a")).root == "/"
    assert one.contains("a/b")
    assert not one.contains("../x")


def test_relative_local_names_start_where_the_process_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(FSSpecBackend(key="a", fs="file"), {}).place("up/x").key == f"{tmp_path}/up/x".lstrip("/")
    assert read(FSSpecBackend(key="a", fs="file", prefix="up"), {}).translation.config.root == f"{tmp_path}/up"


def test_memory_is_one_dictionary_or_another():
    shared = read(FSSpecBackend(key="a", fs="memory"), {})
    again = read(FSSpecBackend(key="b", fs=MemoryFileSystem()), {})
    assert shared.place("/x") == again.place("x")
    store = MemoryStore()
    one, same, other = (read(ObstoreBackend(key="o", fs=fs), {}) for fs in (store, store, MemoryStore()))
    assert one.place("x") == same.place("x")
    assert one.place("x") != other.place("x")
    assert same_service(one.place("x"), other.place("x")) is False
    assert same_service(shared.place("x"), one.place("x")) is False
    assert shared.config_at(shared.place("x")) is None
    assert one.config_at(one.place("x")) is None


def test_positional_arguments_are_read_by_their_names():
    found = config(s3fs.S3FileSystem(False, "http://127.0.0.1:9000", "k", "s", skip_instance_cache=True))
    assert found.options["access_key_id"] == "k"
    assert found.options["endpoint"] == "http://127.0.0.1:9000"


def test_a_subclass_that_sets_its_options_itself():
    class Minio(s3fs.S3FileSystem):
        connect_timeout = 17

        def __init__(self, **options):
            super().__init__(key="k", secret="s", endpoint_url="http://127.0.0.1:9000", **options)

    found = config(Minio(skip_instance_cache=True))
    assert found.options["endpoint"] == "http://127.0.0.1:9000"
    assert found.options["access_key_id"] == "k"
    assert found.client_options["connect_timeout"] == "17s"
    assert "connect_timeout" not in config(s3()).client_options


def test_username_and_password_are_key_and_secret():
    found = config(s3fs.S3FileSystem(username="k", password="s", skip_instance_cache=True))
    assert (found.options["access_key_id"], found.options["secret_access_key"]) == ("k", "s")


def test_options_merged_from_fsspec_configuration(monkeypatch):
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"client_kwargs": {"region_name": "eu-west-1"}, "key": "k", "secret": "s"}
    )
    assert config(s3fs.S3FileSystem(skip_instance_cache=True)).options["region"] == "eu-west-1"


def test_a_session_gives_its_profile_or_its_keys():
    found = config(s3fs.S3FileSystem(session=AioSession(profile="p"), skip_instance_cache=True))
    assert found.credentials.kind == "boto3"
    assert found.credentials.options == {"profile_name": "p"}
    session = AioSession()
    session.set_credentials("k", "s", "t")
    found = config(s3fs.S3FileSystem(session=session, skip_instance_cache=True))
    assert found.options["session_token"] == "t"
    found = config(s3fs.S3FileSystem(session=AioSession(), skip_instance_cache=True))
    assert found.credentials.kind == "object"


def test_generic_rows_name_their_own_service():
    generic = GenericFileSystem(
        default_method="options",
        storage_options={"s3": {"endpoint_url": "http://127.0.0.1:9000", "key": "k", "secret": "s"}},
    )
    registration = read(FSSpecBackend(key="g", fs=generic), {})
    assert registration.translation.refused
    place = registration.place("s3://b/x")
    assert (place.service, place.endpoint, place.root, place.key) == ("s3", "http://127.0.0.1:9000", "b", "x")
    assert registration.config_at(place).options["access_key_id"] == "k"
    assert registration.place("memory://x").service == "memory"
    assert registration.place("file:///tmp/x").service == "file"


def test_fsspec_store_is_copied_as_it_is():
    filesystem = FsspecStore(
        "s3",
        aws_access_key_id="k",
        config={"secret_access_key": "s", "endpoint": "http://127.0.0.1:9000"},
        client_options={"allow_http": True},
        retry_config={"max_retries": 2},
    )
    registration = read_filesystem(filesystem, "b/pre", environment={})
    found = registration.translation.config
    assert found.options == {"access_key_id": "k", "secret_access_key": "s", "endpoint": "http://127.0.0.1:9000"}
    assert (found.root, found.prefix, found.retry) == ("b", "pre", {"max_retries": 2})
    assert registration.place("x") == read(FSSpecBackend(key="a", fs=s3(), prefix="b/pre"), {}).place("x")
    assert registration.relative("x") == "x"


def test_azure_credentials_in_adlfs_order():
    filesystem = AzureBlobFileSystem(account_name="acct", account_key=KEY, skip_instance_cache=True)
    found = config(filesystem, "c/p")
    assert found.options == {"account_name": "acct", "account_key": KEY}
    place = read_filesystem(filesystem, "c/p", environment={}).place("x")
    assert place.endpoint == "https://acct.blob.core.windows.net"
    store = AzureStore("c", account_name="acct", account_key=KEY, prefix="p")
    assert read(ObstoreBackend(key="o", fs=store), {}).place("x") == place
    named = AzureStore("c", account_name="acct", account_key=KEY, endpoint="https://acct.dfs.core.windows.net")
    assert read(ObstoreBackend(key="o", fs=named), {}).place("p/x") == place


def test_azure_default_credential_that_adlfs_made_itself():
    filesystem = AzureBlobFileSystem(
        account_name="acct", exclude_cli_credential=True, anon=False, skip_instance_cache=True
    )
    found = config(filesystem, "c")
    assert found.credentials.kind == "azure"
    assert found.credentials.options == {"exclude_cli_credential": True}


def test_obstore_stores_tell_their_endpoint_from_what_is_explicit_and_the_environment(tmp_path):
    account = {
        "type": "service_account",
        "gcs_base_url": "http://127.0.0.1:4443",
        "client_email": "a@b",
        "private_key_id": "x",
    }
    path = tmp_path / "account.json"
    account["private_key"] = _private_key()
    path.write_text(json.dumps(account))
    place = read(ObstoreBackend(key="g", fs=GCSStore("b", service_account=str(path))), {}).place("x")
    assert place.endpoint == "http://127.0.0.1:4443"
    plain = ObstoreBackend(key="s", fs=S3Store("b", access_key_id="k", secret_access_key="s", region="us-west-2"))
    assert read(plain, {}).place("x").endpoint == ""
    assert read(plain, {"AWS_ENDPOINT_URL": "http://h:1/"}).place("x").endpoint == "http://h:1"
    explicit = ObstoreBackend(key="s", fs=S3Store("b", endpoint="http://e:2"))
    assert read(explicit, {"AWS_ENDPOINT_URL": "http://h:1/"}).place("x").endpoint == "http://e:2"
    assert read(explicit, {"AWS_ENDPOINT_URL_S3": "http://h:1/"}).place("x").endpoint == "http://h:1"
    web = read(ObstoreBackend(key="h", fs=HTTPStore("https://example.com/abc")), {}).place("x")
    assert (web.endpoint, web.key) == ("https://example.com", "abc/x")


def test_a_store_that_panics_when_asked_stays_in_doubt():
    registration = read(ObstoreBackend(key="o", fs=S3Store("b", allow_http=True)), {})
    place = registration.place("x")
    assert registration.translation.config is None
    assert place.root == "b"
    assert same_service(place, read(FSSpecBackend(key="a", fs=s3(), prefix="b"), {}).place("x")) is None


def test_a_backend_of_another_kind_is_named_not_guessed():
    class Other:
        driver, key, fs = "other", "k", None

    registration = read(Other(), {})
    assert registration.driver == "other"
    assert [note.code for note in registration.translation.refused] == ["backend.unknown"]


def test_other_filesystems_are_sources_with_a_place():
    class SFTPFileSystem(fsspec.AbstractFileSystem):
        protocol = "sftp"

        def __init__(self, host, **options):
            super().__init__(**options)
            self.host = host

    registration = read_filesystem(SFTPFileSystem("disk.example.com", port=2222), "/up", environment={})
    place = registration.place("x")
    assert (place.service, place.endpoint, place.key) == ("sftp", "disk.example.com:2222", "up/x")
    assert registration.translation.config is None
    assert same_service(place, read(FSSpecBackend(key="l", fs="file"), {}).place("/up/x")) is None
    assert registration.config_at(place) is None


def test_repr_of_a_registration_holds_no_secret():
    assert "s3cr3t-value" not in repr(read(FSSpecBackend(key="a", fs=s3(secret="s3cr3t-value"), prefix="b"), {}))


def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_the_environment_of_this_process_is_the_default(monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, "AWS_DEFAULT_REGION": "ap-south-1"})
    found = read(
        FSSpecBackend(key="a", fs=s3fs.S3FileSystem(key="k", secret="s", skip_instance_cache=True), prefix="b")
    )
    assert found.translation.config.options["region"] == "ap-south-1"
