"""The fixtures for applications' own tests: what they register is gone afterwards, and what was there is back."""

from __future__ import annotations

import pytest
from advanced_alchemy.types.file_object import FileObject, StoredObject, storages

from migrate_storage.backend import ObstoreBackend
from migrate_storage.testing import registered

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def put_back() -> None:
    assert not set(storages.registered_backends()) & {"documents", "images"}, "another test left a backend behind"


def test_in_an_application_s_own_tests(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["migrate_storage.testing"]')
    pytester.makepyfile("""
        import pytest
        from advanced_alchemy.types.file_object import FileObject, storages
        from migrate_storage.backend import ObstoreBackend

        OURS = ObstoreBackend(key="documents", fs="memory://")
        storages.register_backend(OURS)

        @pytest.mark.parametrize("kind", ["memory_storage", "local_storage"])
        @pytest.mark.parametrize("again", [1, 2])
        def test_saves(request, kind, again, tmp_path):
            make = request.getfixturevalue(kind)
            documents, images = make("documents"), make("images")
            FileObject(backend="documents", filename="a.txt", content=b"hello").save()
            FileObject(backend="images", filename="a.txt", content=b"picture").save()
            assert documents.get_content("a.txt") == b"hello"
            assert images.get_content("a.txt") == b"picture"
            assert bool(list(tmp_path.rglob("a.txt"))) is (kind == "local_storage")
            assert not list(OURS.fs.list())

        def test_all_is_as_before():
            assert storages.get_backend("documents") is OURS
            assert not storages.is_registered("images")
    """)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-n", "0").assert_outcomes(passed=5)
    storages.unregister_backend("documents")


def test_what_was_registered_is_back_even_after_an_error() -> None:
    first, second = (ObstoreBackend(key="documents", fs="memory://") for _ in range(2))
    column = StoredObject(backend="documents")
    with registered(first) as found:
        assert found is first
        assert column.backend is first
        with pytest.raises(ValueError, match="broken"), registered(second):
            FileObject(backend="documents", filename="x", content=b"1").save()
            raise ValueError("broken")
        assert storages.get_backend("documents") is first
        assert second.get_content("x") == b"1"
    assert not storages.is_registered("documents")
