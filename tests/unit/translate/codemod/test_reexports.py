"""A class that comes through another module is not followed: its registrations are listed, never passed over."""

from __future__ import annotations

import pytest

from migrate_storage.translate.codemod.rewrite_source import Conversion, convert_source

CALL = 'backend = FSSpecBackend(key="media", fs="file", prefix="/srv/media")\n'
IMPORTS = {
    "another module of the project": "from app.storage import FSSpecBackend\n",
    "the folder's own package": "from . import FSSpecBackend\n",
    "a star": "from advanced_alchemy.types.file_object.backends.fsspec import *\n",
    "nothing": "",
}
UPSTREAM = "from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend"


@pytest.mark.parametrize("name", IMPORTS)
def test_a_call_is_listed(name: str) -> None:
    source = IMPORTS[name] + CALL
    converted = convert_source(source)
    assert (converted.code, converted.done) == (source, ())
    (left,) = converted.left
    assert left.line == source.count("\n")
    assert "may be another class" in left.reason


def test_a_module_is_followed_by_its_own_name() -> None:
    source = "import app.storage\nbackend = app.storage.FSSpecBackend(key='media', fs='file', prefix='/srv/media')\n"
    (left,) = convert_source(source).left
    assert left.reason == "FSSpecBackend is imported from app.storage, and may be another class"


@pytest.mark.parametrize("module", ["migrate_storage.backend.fsspec_compat"])
def test_the_class_to_import_instead_is_no_finding(module: str) -> None:
    assert convert_source(f"from {module} import FSSpecBackend\n{CALL}").left == ()


@pytest.mark.parametrize(("alias", "name"), [("", "FSSpecBackend"), (" as Files", "Files")])
def test_a_module_that_others_import_the_class_from_is_listed(alias: str, name: str) -> None:
    source = f"{UPSTREAM}{alias}\n"
    assert convert_source(source).left == ()
    (left,) = convert_source(source, Conversion(kept=frozenset({name}))).left
    assert (left.line, left.reason) == (1, f"other files import {name} from here, and may call it")
