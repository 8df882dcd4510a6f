"""One changed import line, or one call, and the application's files go through obstore."""

import pickle
import subprocess
import sys
import warnings

import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend as Upstream
from advanced_alchemy.types.file_object.registry import StorageRegistry
from fsspec.implementations.dirfs import DirFileSystem

from migrate_storage.backend import ObstoreBackend
from migrate_storage.backend.fsspec_compat import FallbackWarning, FSSpecBackend, convert_registrations
from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.stores.resolved_backend import ResolvedBackend


def empty() -> StorageRegistry:
    """A registry of its own: the class is a singleton."""
    registry = object.__new__(StorageRegistry)
    registry._registry = {}
    return registry


def protocol_options(server):
    """As an application has to say them with a protocol's name: ``key`` is the backend's own."""
    return {
        "username": server.key,
        "password": server.secret,
        "endpoint_url": server.endpoint,
        "client_kwargs": {"region_name": server.region},
    }


@pytest.mark.parametrize("form", ["instance", "folder", "protocol"])
def test_both_read_what_the_other_wrote(rclone_s3, form):
    bucket = rclone_s3.new_bucket()
    arguments = {
        "instance": {"fs": rclone_s3.fs(), "prefix": f"{bucket}/up"},
        "folder": {"fs": DirFileSystem(bucket, rclone_s3.fs()), "prefix": "up"},
        "protocol": {"fs": "s3", "prefix": f"{bucket}/up", **protocol_options(rclone_s3)},
    }[form]
    old, new = Upstream(key="k", **arguments), FSSpecBackend(key="k", **arguments)
    assert isinstance(new, ObstoreBackend)
    assert (new.key, new.driver, new.prefix) == ("k", "obstore", arguments["prefix"])
    for name in ("a b.txt", "/lead.txt", "d/é.txt"):
        old.save_object(FileObject(backend=old, filename=f"{name}.old"), name.encode())
        assert new.get_content(f"{name}.old") == name.encode()
        new.save_object(FileObject(backend=new, filename=f"{name}.new"), name.encode())
        assert old.get_content(f"{name}.new") == name.encode()
    old.fs.invalidate_cache()
    new.delete_object(["d/é.txt.new"])
    with pytest.raises(FileNotFoundError):
        old.get_content("d/é.txt.new")


async def test_buckets_in_the_filenames_and_the_asynchronous_calls(moto_s3):
    one, other = moto_s3.new_bucket(), moto_s3.new_bucket()
    backend = FSSpecBackend("k", "s3", **protocol_options(moto_s3))
    for name in (f"{one}/x", f"s3://{other}/x"):
        await backend.save_object_async(FileObject(backend=backend, filename=name), name.encode())
    assert await backend.get_content_async(f"{one}/x") == f"{one}/x".encode()
    assert await backend.get_content_async(f"{other}/x") == f"s3://{other}/x".encode()


def test_local_disk(tmp_path):
    backend = FSSpecBackend(key="k", fs="file", prefix=str(tmp_path / "up"), auto_mkdir=True)
    backend.save_object(FileObject(backend=backend, filename="d/x"), b"1")
    assert (tmp_path / "up" / "d" / "x").read_bytes() == b"1"
    assert pickle.loads(pickle.dumps(backend)).get_content("d/x") == b"1"


def test_without_a_counterpart_it_is_the_old_one_and_says_so(recwarn):
    with pytest.warns(FallbackWarning, match="stays on fsspec"):
        backend = FSSpecBackend(key="m", fs="memory", prefix="p")
    assert type(backend) is Upstream
    assert (backend.key, backend.prefix) == ("m", "p")
    with pytest.warns(FallbackWarning, match="no counterpart as a destination"):
        assert type(FSSpecBackend(key="d", fs="data")) is Upstream


def test_with_a_counterpart_nothing_is_said(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FSSpecBackend(key="k", fs="file", prefix=str(tmp_path))


def test_the_filesystem_of_a_protocol_is_not_needed():
    program = """
import sys
sys.modules["s3fs"] = None
from migrate_storage.backend.fsspec_compat import FSSpecBackend
backend = FSSpecBackend(key="k", fs="s3", prefix="b", username="K", password="S", client_kwargs={"region_name": "eu-west-1"})
assert backend.driver == "obstore", backend
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_options_of_fsspecs_configuration_are_merged(monkeypatch):
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"client_kwargs": {"region_name": "eu-west-1"}, "username": "K", "password": "S"})
    monkeypatch.setitem(conf, "s3a", {"username": "A"})
    backend = FSSpecBackend(key="k", fs="s3", prefix="b")
    assert backend.config.options["region"] == "eu-west-1"
    assert backend.config.options["access_key_id"] == "A"


def test_all_registrations_at_once(tmp_path, moto_s3):
    registry = empty()
    registry.register_backend(Upstream(key="disk", fs="file", prefix=str(tmp_path / "up"), auto_mkdir=True))
    registry.register_backend(Upstream(key="bucket", fs=moto_s3.fs(), prefix=moto_s3.new_bucket()))
    registry.register_backend(Upstream(key="memory", fs="memory"))
    registry.register_backend(Upstream(key="other", fs="data"))
    registry.register_backend(ObstoreBackend(key="new", fs=tmp_path / "new"))
    old = {key: registry.get_backend(key) for key in registry.registered_backends()}
    old["disk"].save_object(FileObject(backend=old["disk"], filename="x"), b"1")
    found = {each.key: each for each in convert_registrations(registry)}
    assert {key: each.converted for key, each in found.items()} == {
        "disk": True,
        "bucket": True,
        "memory": False,
        "other": False,
        "new": False,
    }
    assert registry.get_backend("disk").get_content("x") == b"1"
    assert registry.get_backend("disk") is found["disk"].backend
    assert registry.get_backend("memory") is old["memory"]
    assert found["memory"].reason
    assert found["other"].reason
    assert not found["new"].reason
    again = convert_registrations(registry)
    assert not any(each.converted for each in again)


def test_a_run_can_leave_it_again(rclone_s3, tmp_path):
    """Its files are found where they are; what only fsspec could reach is refused, since there is no filesystem."""
    backend = FSSpecBackend(key="k", fs="s3", prefix=f"{rclone_s3.new_bucket()}/up", **protocol_options(rclone_s3))
    backend.save_object(FileObject(backend=backend, filename="/a"), b"1")
    side = ResolvedBackend(backend)
    store, key = side.resolve("/a")
    assert (store.open(key).read(), key) == (b"1", "up/a")
    assert side.fallback("/a") is None
    with pytest.raises(KeyRefusedError):
        side.resolve("a//b")
    assert (
        ResolvedBackend(ObstoreBackend.from_fsspec(Upstream(key="k", fs=rclone_s3.fs(), prefix="b"))).fallback("/a")
        is not None
    )
