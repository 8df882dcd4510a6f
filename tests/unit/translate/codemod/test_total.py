"""Whatever is combined, the result compiles, and converting it again changes nothing."""

import ast

from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.translate.codemod import convert_source

HEAD = """\
import os

import fsspec, s3fs
from fsspec.implementations.dirfs import DirFileSystem
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
"""
values = st.sampled_from(
    [
        '"K"',
        "'it\\'s \"x\"'",
        'os.environ["X"]',
        "settings.x",
        "None",
        "True",
        "3",
        '{"a": 1}',
        '{"region_name": "eu-west-1"}',
        '{"region_name": os.environ["R"]}',
        'f"x{y}z"',
        '"a" "b"',
        "lambda: 1",
        "(yield)",
        "[*x]",
        "{**x}",
        'r"\\d"',
        '""',
        '"é\\n"',
    ]
)
names = st.sampled_from(
    [
        "key",
        "secret",
        "token",
        "anon",
        "endpoint_url",
        "client_kwargs",
        "config_kwargs",
        "account_name",
        "account_key",
        "connection_string",
        "sas_token",
        "profile",
        "username",
        "auto_mkdir",
        "s3_additional_kwargs",
    ]
)
options = st.dictionaries(names, values, max_size=3).map(lambda found: "".join(f", {n}={v}" for n, v in found.items()))
protocols = st.sampled_from(["s3", "gcs", "abfs", "file", "memory", "sftp", "http"])
prefixes = st.sampled_from(
    [
        '"b"',
        '"b/p q%"',
        "None",
        'os.environ["B"]',
        'f"b-{e}/x"',
        'f"{e!r}"',
        'f"b{{}}/{e}"',
        '"s3://b/"',
        "str(HERE)",
        '"/srv/x"',
        '"a//b"',
    ]
)


@st.composite
def modules(draw):
    protocol, given_options, prefix = draw(protocols), draw(options), draw(prefixes)
    fs = draw(
        st.sampled_from(
            [
                f'fsspec.filesystem("{protocol}"{given_options})',
                f"s3fs.S3FileSystem({given_options[2:]})",
                f'DirFileSystem("dd", fsspec.filesystem("{protocol}"{given_options}))',
                f'fsspec.filesystem(\n    "{protocol}",  # why\n)',
            ]
        )
    )
    body = draw(
        st.sampled_from(
            [
                f'storages.register_backend(FSSpecBackend(key="k", fs={fs}, prefix={prefix}))',
                f'fs = {fs}\nstorages.register_backend(FSSpecBackend("k", fs, {prefix}))',
                f'b = FSSpecBackend(\n    key="k",\n    fs={fs},\n    prefix={prefix},  # there\n)',
                f'b = FSSpecBackend(key="k", fs="{protocol}"{given_options.replace("key=", "kee=")}, prefix={prefix})',
            ]
        )
    )
    inside = draw(st.booleans())
    return HEAD + ("\n\ndef f():\n    " + body.replace("\n", "\n    ") + "\n" if inside else f"\n{body}\n")


@given(source=modules())
def test_the_result_compiles(source):
    try:
        ast.parse(source)
    except SyntaxError:
        return
    result = convert_source(source)
    ast.parse(result.code)
    if result.code == source:
        assert result.left
    assert len(result.left) + len(result.done) == 1
    assert convert_source(result.code).code == result.code
    assert ("# why" in source) == ("# why" in result.code)
    assert ("# there" in source) == ("# there" in result.code)
