"""What is written compiles, opens the same store, and holds no secret."""

import json
import tomllib
from pathlib import Path

import pytest
from advanced_alchemy.types.file_object import storages
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.application.config_file import load_settings
from migrate_storage.translate import translate
from migrate_storage.translate.codegen import FORMATS, as_json, as_python, as_toml, entries, variables
from migrate_storage.translate.model import CredentialSource, StoreConfig, Translation

KEYS = {"key": "PL4NTED-1", "secret": "PL4NTED-2"}
MINIO = {**KEYS, "endpoint_url": "http://127.0.0.1:9000"}
AZURE = {"account_name": "acct", "account_key": "c2VjcmV0LWtleS1mb3ItdGVzdHM="}

CASES = {
    "s3": ("s3", MINIO, "b/up/a b%20#?é", {}),
    "profile": ("s3", {"profile": "p", "client_kwargs": {"region_name": "eu-west-1"}}, "b", {}),
    "chain": ("s3", {"client_kwargs": {"region_name": "eu-west-1"}}, "b", {}),
    "tuned": (
        "s3",
        {
            **MINIO,
            "config_kwargs": {"connect_timeout": 3, "retries": {"max_attempts": 2}, "user_agent": "PL4NTED-3"},
            "s3_additional_kwargs": {
                "ACL": "private",
                "SSECustomerAlgorithm": "AES256",
                "SSECustomerKey": "PL4NTED-4" * 4,
            },
        },
        "b",
        {},
    ),
    "azure": ("az", AZURE, "c/up", {}),
    "file": ("file", {}, "/srv/a b#?%20", {}),
    "http": ("http", {"headers": {"Authorization": "PL4NTED-5"}}, "https://h.example.com/base", {}),
    "memory": ("memory", {}, None, {}),
}


def written(case):
    return entries([("my key", translate(*CASES[case]))])


@pytest.mark.parametrize("case", CASES)
def test_python_registers_the_same_store(case, monkeypatch):
    (entry,) = written(case)
    config = translate(*CASES[case]).config
    values = {f"aws_{name}": value for name, value in config.options.items()}
    values |= {f"azure_storage_{name}": value for name, value in config.options.items()}
    for name in variables([entry]):
        option = name.removeprefix("MY_KEY_").lower()
        monkeypatch.setenv(name, str(values.get(option) or config.client_options.get(option) or "header"))
    exec(compile(as_python([entry]), "pasted", "exec"), {})
    backend = storages.get_backend("my key")
    storages.unregister_backend("my key")
    if config.service == "file":
        assert backend.config.root == config.root
        return
    assert (backend.config.service, backend.config.root, backend.config.prefix) == (
        config.service,
        config.root,
        config.prefix,
    )
    assert dict(backend.config.options) == dict(config.options)
    assert dict(backend.config.retry) == dict(config.retry)
    assert backend.config.client_options.keys() == config.client_options.keys()
    assert backend.config.credentials == config.credentials


@pytest.mark.parametrize("case", CASES)
def test_toml_is_a_configuration_file(case, tmp_path):
    (entry,) = written(case)
    path = tmp_path / "migrate-storage.toml"
    path.write_text(as_toml([entry]), encoding="utf-8")
    environment = dict.fromkeys(variables([entry]), "c2VjcmV0")
    settings = load_settings(path, (), environment)
    assert settings.destination.key == "my key"
    backend = settings.destination.build()
    config = translate(*CASES[case]).config
    assert (backend.config.service, backend.config.prefix) == (config.service, config.prefix)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMATS)
def test_no_secret_is_written(case, form):
    text = FORMATS[form](written(case))
    assert "PL4NTED" not in text
    assert AZURE["account_key"] not in text


def test_json_is_for_programs():
    (answer,) = json.loads(as_json(written("s3")))
    assert answer["key"] == "my key"
    assert answer["store"]["fs"] == "s3://b/up/a%20b%2520%23%3F%C3%A9"
    assert answer["store"]["options"]["aws_secret_access_key"] == {"environment": "MY_KEY_AWS_SECRET_ACCESS_KEY"}
    assert answer["notes"] == []


def test_names_are_listed_first_and_are_never_shared():
    both = entries(
        [("a-b", translate("s3", KEYS, "b")), ("a.b", translate("s3", KEYS, "b")), ("1", translate("s3", KEYS, "b"))]
    )
    names = variables(both)
    assert len(set(names)) == len(names) == 6
    assert "STORE_1_AWS_ACCESS_KEY_ID" in names
    text = as_python(both)
    assert text.index(f"#   {names[0]}") < text.index("import os")


def test_rows_that_name_their_bucket_are_opened_from_the_old_backend():
    text = as_python(entries([("k", translate("s3", KEYS, None))]))
    assert 'ObstoreBackend.from_fsspec(storages.get_backend("k"))' in text
    compile(text, "pasted", "exec")


def test_what_is_refused_stays():
    text = as_python(entries([("k", translate("sftp", {"password": "PL4NTED"}))]))
    assert "stays as it is" in text
    assert "PL4NTED" not in text
    compile(text, "pasted", "exec")


def test_a_credentials_object_is_left_to_a_person():
    config = StoreConfig(service="s3", root="b", credentials=CredentialSource(kind="object", provider=object()))
    text = as_python(entries([("k", Translation(config=config))]))
    assert "# storages.register_backend(" in text
    compile(text, "pasted", "exec")


def test_several_destinations_are_for_a_person_to_choose():
    text = as_toml(entries([("a", translate("s3", KEYS, "b")), ("b", translate("s3", KEYS, "c"))]))
    assert tomllib.loads(text) == {}
    assert text.count("# [destination]") == 2


words = st.text(max_size=12)


@given(
    key=words, root=words, prefix=words, options=st.dictionaries(words, words | st.booleans() | st.none(), max_size=4)
)
def test_whatever_stands_in_it_compiles(key, root, prefix, options):
    config = StoreConfig(
        service="s3",
        root=root,
        prefix=prefix,
        options={"region": "x", **options},
        client_options={"default_headers": options, "root_certificate": Path("/x")},
    )
    both = entries([(key, Translation(config=config)), (key, translate("s3", options, prefix))])
    compile(as_python(both), "pasted", "exec")
    tomllib.loads(as_toml(both))
    json.loads(as_json(both))
