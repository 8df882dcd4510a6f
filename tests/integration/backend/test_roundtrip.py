"""Any key and any metadata either come back exactly or are refused: nothing in between."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from advanced_alchemy.types.file_object import FileObject
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from tests.support.backend.beds import BEDS, Bed

HOSTILE = "/.\\#?%&+ ~\t\n\x00\x7f\x85éÉ:*\"'<>|[]{}^`;@=$,!()" + "a1-_"
#: No lone surrogate but a few: they are refused, and would make most examples boring.
keys = st.one_of(
    st.text(alphabet=HOSTILE, min_size=0, max_size=12),
    st.text(min_size=1, max_size=20),
    st.lists(st.text(alphabet=HOSTILE + "日🎉", min_size=0, max_size=4), max_size=4).map("/".join),
    st.text(alphabet=st.characters(blacklist_categories=()), max_size=5),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
names = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True),
    st.sampled_from(
        ["Content-Type", "contenttype", "Cache-Control", "storage-class", "metadata_json", "KEY", "key", "1a"]
    ),
)


@pytest.fixture(params=list(BEDS))
def bed(request: pytest.FixtureRequest) -> Bed:
    return BEDS[request.param](request)


def _somewhere(bed: Bed, **options: Any) -> ObstoreBackend:
    """An empty place in the same bucket."""
    if bed.name == "memory":
        return bed.backend(**options)
    if bed.name == "local":
        return ObstoreBackend("l", f"{bed.url}/{uuid.uuid4().hex}", **options)
    return bed.backend(prefix=uuid.uuid4().hex, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=keys)
@example("a#1")
@example("a b")
@example("\ufffe")
@example("\uffff")
@example("a\\b")
@example("é")
@example("x" * 300)
@example("y/" * 600 + "y")
@example("a.")
@example("a/.b")
@example("...")
@example("con")
@example("a?versionId=x")
def test_any_key_round_trips_or_is_refused(bed: Bed, key: str) -> None:
    # These two keep objects in files, whose names the file system bounds.
    assume(
        bed.name not in ("rclone", "gcs") or all(len(part.encode(errors="replace")) < 200 for part in key.split("/"))
    )
    backend = _somewhere(bed)
    try:
        file = FileObject(backend=backend, filename="x", to_filename=key).save(b"content") if key else None
    except KeyRefusedError:
        file = None
    if file is None:
        for attempt in (backend.get_content, backend.head, backend.exists, backend.delete_object):
            with pytest.raises(KeyRefusedError):
                attempt(key)
        assert list(backend.list()) == []
        return
    assert backend.get_content(key) == b"content"
    assert backend.head(key).path == key
    assert [meta.path for meta in backend.list()] == [key]
    backend.delete_object(key)
    assert not backend.exists(key)
    assert list(backend.list()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(names, values, max_size=4))
@example({"a": " x "})
@example({"a": "x  y"})
@example({"a": ""})
@example({"a": "line\nbreak"})
@example({"a": "ü"})
@example({"KEY": "1", "key": "2"})
@example({"metadata_json": "{}"})
@example({"a b": "1", "ü": "2", "": "3"})
@example({"a": "=?utf-8?q?x?="})
@example({"big": "x" * 3000})
@example({"n": 1.0, "m": True, "o": None})
def test_any_metadata_round_trips_or_is_refused(bed: Bed, metadata: dict[str, Any]) -> None:
    if not bed.has("metadata"):
        return
    backend = _somewhere(bed)
    file = FileObject(backend=backend, filename="m.bin", metadata=dict(metadata))
    try:
        file.save(b"content")
    except ConfigurationError:
        assert not backend.exists("m.bin")
        return
    assert file.metadata == metadata
    assert backend.get_content("m.bin") == b"content"
    found = backend.attributes("m.bin").metadata
    assert found == metadata
    assert repr(sorted(found.items())) == repr(sorted(metadata.items()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.one_of(st.text(max_size=15), st.from_regex(r"[a-z]+/[a-z.+-]+(; ?[a-z]+=[ -~]*)?", fullmatch=True)))
@example("text/plain; charset=utf-8")
@example("a/b;  c=d")
@example("text/plain ")
def test_any_content_type_round_trips_or_is_refused(bed: Bed, kind: str) -> None:
    if not bed.has("metadata"):
        return
    backend = _somewhere(bed)
    try:
        FileObject(backend=backend, filename="t.bin", content_type=kind).save(b"content")
    except ConfigurationError:
        assert not backend.exists("t.bin")
        return
    assert backend.get_content("t.bin") == b"content"
    found = backend.attributes("t.bin").content_type
    assert found == kind or not kind
