"""Options of a registration that are expressions: converted code asks what s3fs asks, whatever they are when it runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.config.url_check import requested_by_store
from migrate_storage.translate.codemod import convert_source
from migrate_storage.translate.registration import read

IMPORTS = """\
import os
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
import s3fs

"""
NONE = "option.none"
KEYS = 'key="K", secret="S"'
CALLS = {
    "expression": f"{KEYS}, endpoint_url=settings.url, client_kwargs={{'region_name': 'eu-west-1'}}",
    "either": f"{KEYS}, endpoint_url=settings.url or None, client_kwargs={{'region_name': 'eu-west-1'}}",
    "of the client": f"{KEYS}, client_kwargs={{'endpoint_url': settings.url, 'region_name': 'us-east-1'}}",
    "no region": f"{KEYS}, endpoint_url=settings.url",
    "path": f"{KEYS}, endpoint_url=settings.url, config_kwargs={{'s3': {{'addressing_style': 'path'}}}}",
    "virtual": f"{KEYS}, endpoint_url=settings.url, config_kwargs={{'s3': {{'addressing_style': 'virtual'}}}}",
    "auto": f"{KEYS}, endpoint_url=settings.url, config_kwargs={{'s3': {{'addressing_style': 'auto'}}}}",
    "none": f"{KEYS}, client_kwargs={{'region_name': 'eu-west-1'}}",
    "none, in the first region": f"{KEYS}, client_kwargs={{'region_name': 'us-east-1'}}",
    "none, in China": f"{KEYS}, client_kwargs={{'region_name': 'cn-north-1'}}",
    "none, virtual": f"{KEYS}, client_kwargs={{'region_name': 'eu-west-1'}}, "
    "config_kwargs={'s3': {'addressing_style': 'virtual'}}",
}
URLS = (
    None,
    "",
    "http://127.0.0.1:9000",
    "https://nyc3.digitaloceanspaces.com",
    "https://bucket.nyc3.digitaloceanspaces.com",
)


def register(code: str, url: str | None) -> Any:
    space: dict[str, Any] = {"settings": SimpleNamespace(url=url)}
    exec(compile(code, "module", "exec"), space)
    return space["backend"]


def module(arguments: str, bucket: str = "bucket") -> str:
    return f'{IMPORTS}backend = FSSpecBackend(key="a", fs=s3fs.S3FileSystem({arguments}), prefix="{bucket}")\n'


AWS_CONFIG = """\
[default]
region = ap-south-1
endpoint_url = http://localhost:9002
s3 =
  addressing_style = virtual
"""


SPACES = "https://nyc3.digitaloceanspaces.com"
#: Where an endpoint stands beside the code, and the value of ``settings.url`` when the code runs.
MOMENTS = [
    *(("nowhere", url) for url in URLS),
    *((place, url) for place in ("variable", "file") for url in (None, SPACES)),
]


@pytest.mark.parametrize("bucket", ["bucket", "dotted.bucket"])
@pytest.mark.parametrize("call", CALLS)
def test_the_same_url(call: str, bucket: str, tmp_path: Path) -> None:
    source = module(CALLS[call], bucket)
    converted = convert_source(source)
    assert converted.left == ()
    for place, url in MOMENTS:
        if url is None or "settings" in CALLS[call]:
            with pytest.MonkeyPatch.context() as monkeypatch:
                set_endpoint(place, monkeypatch, tmp_path)
                compare(source, converted.code, url)


def set_endpoint(place: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    (folder / "config").write_text(AWS_CONFIG if place == "file" else "")
    if place == "variable":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9001")
    if place != "file":
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")


def compare(source: str, converted: str, url: str | None) -> None:
    """Check that converted code asks the URL of s3fs, or refuses it."""
    old = read(register(source, url))
    place = old.place("x")
    asked = old.requested_url(place)
    if isinstance(asked, str) and url == "":
        # botocore refuses an empty endpoint: s3fs cannot be used with it.
        assert old.translation.config is None
        return
    if isinstance(asked, str) or "dotted.bucket.127.0.0.1" in str(asked):
        # No server has such a name.
        with pytest.raises(ConfigurationError, match="which obstore cannot ask"):
            register(converted, url)
        return
    new = register(converted, url)
    assert new.config is not None
    assert str(requested_by_store(new.config, place)) == str(asked), (url, source)


def test_the_bucket_in_an_endpoint_of_run_time_is_not_taken_out() -> None:
    code = convert_source(module(f'{KEYS}, endpoint_url=os.environ["URL"]')).code
    assert 'aws_virtual_hosted_style_request="default"' in code


@pytest.mark.parametrize(
    "option", ["use_ssl=False", "client_kwargs={'use_ssl': False}", "config_kwargs={'use_dualstack_endpoint': True}"]
)
def test_an_option_that_counts_without_an_endpoint_only(option: str) -> None:
    (left,) = convert_source(module(f"{KEYS}, endpoint_url=settings.url, {option}")).left
    assert "endpoint_url is not written out" in left.reason


@pytest.mark.parametrize(
    ("expression", "noted"),
    [
        ('os.environ.get("K")', True),
        ('os.getenv("K")', True),
        ('os.getenv("K", None)', True),
        ('os.environ.get("K", "k")', False),
        ('os.environ["K"]', False),
        ("settings.key", False),
    ],
)
def test_what_may_be_none_is_said(expression: str, noted: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    ((_, notes),) = convert_source(module(f'key={expression}, secret="S", client_kwargs={{"region_name": "x"}}')).done
    assert any(note.endswith(f"[{NONE}]") for note in notes) is noted


def test_a_connection_string_of_run_time_with_the_proxy_of_the_emulator() -> None:
    source = f'{IMPORTS}backend = FSSpecBackend(key="a", fs="az", connection_string=settings.url, prefix="c")\n'
    code = convert_source(source).code
    with pytest.raises(ConfigurationError, match="DevelopmentStorageProxyUri"):
        register(code, "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://proxy")
