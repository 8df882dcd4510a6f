"""Before and after, for each shape; and what is left alone, for each refusal."""

import ast
from pathlib import Path

import pytest

from migrate_storage.translate.codemod import convert_source

HERE = Path(__file__).parent
SHAPES = sorted((HERE / "shapes").glob("*.before"))
REFUSALS = sorted((HERE / "refusals").glob("*.before"))
REASONS = {
    "01_no_prefix": "each row names its own",
    "02_options_from_a_variable": "come from a variable",
    "03_filesystem_is_an_argument": "not assigned by a plain statement",
    "04_under_a_condition": "not assigned exactly once",
    "05_subclass": "otherwise than by calling it",
    "06_no_counterpart": "no counterpart as a destination",
    "07_value_decides": "the value of anon is not written out",
    "08_token_from_the_environment": "the value of token is not written out",
    "09_session": "the value of session is not written out",
    "10_names_that_mean_something_else": "may mean something else here",
    "11_path_or_url": "may be a path or a URL",
    "12_half_a_key": "one half of the access key",
    "13_position": "by position",
    "14_prefix_cannot_be_addressed": "starts with a slash",
    "15_taken_name": "quote means something else",
    "16_client_kwargs_no_dictionary": "client_kwargs is no dictionary",
    "17_proxy_of_the_emulator": "adlfs ignores DevelopmentStorageProxyUri",
    "18_changed_filesystem": "fs is changed after it was made",
}


def stems(paths):
    return [path.stem for path in paths]


def test_there_are_enough_of_each():
    assert len(SHAPES) >= 15
    assert stems(REFUSALS) == sorted(REASONS)


@pytest.mark.parametrize("path", SHAPES, ids=stems(SHAPES))
def test_shape(path):
    result = convert_source(path.read_text())
    assert result.code == path.with_suffix(".after").read_text()
    assert result.left == ()
    assert result.done


@pytest.mark.parametrize("path", SHAPES, ids=stems(SHAPES))
def test_again_changes_nothing(path):
    once = path.with_suffix(".after").read_text()
    assert convert_source(once).code == once


@pytest.mark.parametrize("path", SHAPES, ids=stems(SHAPES))
def test_comments_stay_and_imports_are_no_more_than_used(path):
    after = path.with_suffix(".after").read_text()
    for line in path.read_text().splitlines():
        if "# " in line:
            assert line[line.index("# ") :] in after
    tree = ast.parse(after)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                assert (alias.asname or alias.name).split(".")[0] in names, alias.name


@pytest.mark.parametrize("path", REFUSALS, ids=stems(REFUSALS))
def test_refusal(path):
    source = path.read_text()
    result = convert_source(source)
    assert result.code == source
    assert result.done == ()
    (left,) = result.left
    assert REASONS[path.stem] in left.reason
    assert "FSSpecBackend" in source.splitlines()[left.line - 1]
    compile(left.paste, "pasted", "exec")
    assert "PL4NTED" not in str(left)


def test_both_in_one_file():
    source = SHAPES[0].read_text() + '\nstorages.register_backend(FSSpecBackend(key="b", fs="sftp", prefix="/x"))\n'
    result = convert_source(source)
    assert len(result.done) == len(result.left) == 1
    compile(result.code, "converted", "exec")
    assert "import FSSpecBackend" in result.code
    assert convert_source(result.code).code == result.code


def test_line_ends_and_indentation_stay():
    source = SHAPES[0].read_text().replace("\n", "\r\n").replace("    ", "\t")
    code = convert_source(source).code
    assert "\r\n\tkey=" in code
    assert "\n" not in code.replace("\r\n", "")


def test_a_file_that_is_no_python():
    with pytest.raises(ValueError, match="line 1"):
        convert_source("def (:")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "x = 1\n",
        "from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend\n",
        "def f(b: 'FSSpecBackend'): ...\n",
        "class FSSpecBackend: ...\nFSSpecBackend(key='a', fs='file', prefix='/x')\n",
    ],
)
def test_nothing_to_do(source):
    result = convert_source(source)
    assert result.code == source
    assert not result.done


@pytest.mark.parametrize("test", ["isinstance(b, FSSpecBackend)", "issubclass(type(b), (int, FSSpecBackend))"])
def test_a_test_of_the_class_is_listed_with_what_to_write(test):
    source = f"from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend\nassert {test}\n"
    (left,) = convert_source(source).left
    assert "write (FSSpecBackend, ObstoreBackend) in its place" in left.reason
