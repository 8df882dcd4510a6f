"""Local disks, memory, HTTP, wrappers, and what has no counterpart."""

import pytest

from migrate_storage.translate import CODES, translate, translate_url
from migrate_storage.translate.protocols.unsupported import ARCHIVES, SOURCE_ONLY
from tests.support.translate.option_row import Row

KEYS = {"key": "K", "secret": "S", "endpoint_url": "https://m.example.com"}


@pytest.mark.parametrize("protocol", ["file", "local"])
@pytest.mark.parametrize(
    ("prefix", "root"),
    [
        ("/d", "/d"),
        ("file:///d", "/d"),
        ("file:/d/", "/d"),
        ("local:///d", "/d"),
        ("/a%20b", "/a%20b"),
        ("/a/../d", "/d"),
    ],
)
def test_local_folders(protocol, prefix, root):
    config = translate(protocol, {}, prefix).config
    assert (config.service, config.root, config.prefix, dict(config.options)) == ("file", root, "", {"mkdir": True})


def test_local_folders_start_in_the_working_directory_or_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert translate("file", {}, "d").config.root == f"{tmp_path}/d"
    assert translate("file", {}, "./d").config.root == f"{tmp_path}/d"
    assert translate("file", {}, "~/d").config.root == "/home/somebody/d"


@pytest.mark.parametrize("value", [True, False, "false"])
def test_folders_are_made_in_any_case(value):
    Row("file", {"auto_mkdir": value}, {"mkdir": True}, prefix="/d").check()


def test_local_without_prefix_is_said():
    Row(
        "file", {"use_listings_cache": False}, {"mkdir": True}, prefix=None, codes=("place.per_row", "option.no_effect")
    ).check()


def test_memory_belongs_to_its_process():
    Row("memory", {}, codes=("memory.process",)).check()
    assert translate("memory", {}, "/m/").config.prefix == "m"


ROWS = {
    "base": Row("http", {}, prefix="https://h.example.com/base", codes=("http.store",)),
    "by http": Row("http", {}, client={"allow_http": True}, prefix="http://h/", codes=("http.store",)),
    "headers": Row(
        "https",
        {"headers": {"X-A": "1"}, "client_kwargs": {"headers": {"Authorization": "A"}}},
        client={"default_headers": {"X-A": "1", "Authorization": "A"}},
        prefix="https://h/",
        codes=("http.store",),
    ),
    "auth": Row(
        "http",
        {"client_kwargs": {"auth": object()}},
        prefix="https://h/",
        codes=("http.store", "http.auth"),
        refused=True,
    ),
    "client": Row(
        "http", {"client_kwargs": {"trust_env": True}}, prefix="https://h/", codes=("http.store", "option.dropped")
    ),
    "user": Row("http", {}, prefix="https://u:p@h/", codes=("http.store", "http.userinfo"), refused=True),
    "query": Row("http", {}, prefix="https://h/?a=1", codes=("http.store", "http.query"), refused=True),
    "encoded": Row("http", {"encoded": True}, prefix="https://h/", codes=("http.store", "http.encoded")),
    "no base": Row("http", {}, prefix=None, codes=("http.store", "place.per_row")),
    "no host": Row("http", {}, prefix="relative", codes=("http.store", "endpoint.scheme"), refused=True),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_http(row):
    row.check()


@pytest.mark.parametrize("protocol", [*SOURCE_ONLY, "never-heard-of", ""])
def test_no_counterpart_as_a_destination(protocol):
    translation = translate(protocol, {"host": "h", "password": "secret"}, "p")
    assert translation.config is None
    assert [note.code for note in translation.refused] == ["protocol.source_only"]
    assert "secret" not in str(translation)


@pytest.mark.parametrize("protocol", sorted(ARCHIVES))
def test_archives(protocol):
    assert [note.code for note in translate(protocol, {"fo": "x.zip"}).refused] == ["protocol.archive"]


S3_DIR = {"path": "b/dd", "target_protocol": "s3", "target_options": KEYS}


@pytest.mark.parametrize(
    ("protocol", "options", "prefix", "expected", "codes"),
    [
        ("dir", S3_DIR, None, ("s3", "b", "dd"), []),
        ("dir", S3_DIR, "pp", ("s3", "b", "dd/pp"), []),
        ("dir", {"fo": "b", "target_protocol": "dir", "target_options": S3_DIR}, None, ("s3", "b", "dd/b"), []),
        ("simplecache", {"target_protocol": "s3", "target_options": KEYS}, "b", ("s3", "b", ""), ["wrapper.cache"]),
        (
            "filecache",
            {"target_protocol": "dir", "target_options": S3_DIR},
            "x",
            ("s3", "b", "dd/x"),
            ["wrapper.cache"],
        ),
        ("blockcache", {"target_protocol": "file"}, "/d", ("file", "/d", ""), ["wrapper.cache"]),
    ],
)
def test_wrappers_come_off(protocol, options, prefix, expected, codes):
    translation = translate(protocol, options, prefix)
    config = translation.config
    assert (config.service, config.root, config.prefix) == expected
    assert [note.code for note in translation.notes if note.code != "s3.region.missing"] == codes


def test_wrappers_without_an_end():
    options = {"target_protocol": "dir"}
    options["target_options"] = options
    assert translate("dir", options).refused
    assert [note.code for note in translate("generic", {}).refused] == ["wrapper.generic"]


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("s3://b/p", KEYS, ("s3", "b", "p")),
        ("simplecache::s3://b/p", {"s3": KEYS}, ("s3", "b", "p")),
        ("dir::s3://b/p", {"s3": KEYS}, ("s3", "b", "p")),
        ("dir://sub::s3://b/p", {"s3": KEYS}, ("s3", "b", "p/sub")),
        ("filecache::dir://sub::s3://b", {"s3": KEYS}, ("s3", "b", "sub")),
        ("/tmp/x", {}, ("file", "/tmp/x", "")),
        ("file:///tmp/x", {}, ("file", "/tmp/x", "")),
        ("memory://m", {}, ("memory", "", "m")),
    ],
)
def test_urls(url, options, expected):
    config = translate_url(url, options).config
    assert (config.service, config.root, config.prefix) == expected
    if expected[0] == "s3":
        assert config.options["access_key_id"] == "K"


@pytest.mark.parametrize("url", ["zip://a::s3://b/x.zip", "sftp://h/x", "reference::s3://b", "::", ""])
def test_urls_without_counterpart(url):
    translation = translate_url(url)
    assert (translation.config is None) is bool(translation.refused)


def test_every_code_says_what_to_do_when_it_refuses():
    for name, code in CODES.items():
        assert name.count(".") >= 1
        assert code.message
        if code.severity == "refused":
            assert code.todo, name
