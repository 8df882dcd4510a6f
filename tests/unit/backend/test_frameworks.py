"""A FileObject in the JSON of Litestar and pydantic, with the package imported and nothing else done."""

from __future__ import annotations

import json
import subprocess
import sys

import litestar.serialization
import pydantic
import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages
from litestar import Litestar

from migrate_storage import ObstoreBackend
from migrate_storage.backend.frameworks import FileObjectPlugin


class Shown(pydantic.BaseModel):
    file: FileObject | None
    more: list[FileObject] = []


@pytest.fixture
def file() -> FileObject:
    storages.register_backend(ObstoreBackend("framework", "memory://"))
    return FileObject(backend="framework", filename="a b.txt", content_type="text/plain", metadata={"a": "1"})


@pytest.mark.parametrize("saved", [True, False])
def test_pydantic_reads_what_it_wrote(file: FileObject, saved: bool) -> None:
    """A file that is not saved has no size, time, ETag and checksum: they are null."""
    if saved:
        file.save(b"content")
    shown = Shown(file=file, more=[file])
    assert shown.file is file
    again = Shown.model_validate_json(shown.model_dump_json())
    assert again.file is not None
    assert again.file.to_dict() == file.to_dict() == again.more[0].to_dict()
    assert Shown.model_validate(json.loads(shown.model_dump_json())).file is not None
    assert Shown.model_validate_json('{"file": null}').file is None
    assert again.file.backend is storages.get_backend("framework")


def test_pydantic_describes_and_refuses(file: FileObject) -> None:
    schema = Shown.model_json_schema()
    assert "filename" in json.dumps(schema)
    for wrong in ("{}", '{"filename": "x"}', '{"filename": 1, "backend": "framework"}', '"x"'):
        with pytest.raises(pydantic.ValidationError):
            Shown.model_validate_json(f'{{"file": {wrong}}}')


def test_litestar_encodes_a_file(file: FileObject) -> None:
    encoded = litestar.serialization.encode_json(file, litestar.serialization.default_serializer)
    assert json.loads(encoded) == file.to_dict()


def test_an_encoder_of_the_application_stays(file: FileObject) -> None:
    own = Litestar(type_encoders={FileObject: lambda file: file.filename}, plugins=[FileObjectPlugin()])
    assert own.type_encoders is not None
    assert own.type_encoders[FileObject](file) == "a b.txt"
    plain = Litestar(plugins=[FileObjectPlugin()])
    assert plain.type_encoders is not None
    assert plain.type_encoders[FileObject](file) == file.to_dict()


def test_litestar_may_be_imported_later() -> None:
    code = """
from migrate_storage import ObstoreBackend
ObstoreBackend
from litestar.serialization import default_serializer, encode_json
from advanced_alchemy.types import FileObject
file = FileObject(backend=ObstoreBackend("k", "memory://"), filename="a")
print(b"filename" in encode_json(file, default_serializer))
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"


def test_no_framework_is_imported_for_it() -> None:
    code = "import sys, migrate_storage.backend.obstore; print([n for n in ('litestar', 'pydantic', 'fastapi') if n in sys.modules])"
    alone = "import sys, advanced_alchemy.types; print([n for n in ('litestar', 'pydantic', 'fastapi') if n in sys.modules])"
    ours, theirs = (subprocess.check_output([sys.executable, "-c", each], text=True) for each in (code, alone))
    assert ours == theirs
