"""What goes over the wire: how many requests, how many connections, how much memory."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from tests.support.backend.echo import Echo, Seen, echo
from tests.support.servers import S3Server

MiB = 1024 * 1024
KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_region": "r"}


@pytest.fixture
def server() -> Iterator[Echo]:
    with echo() as running:
        yield running


def _backend(server: Echo, **options: Any) -> ObstoreBackend:
    return ObstoreBackend("k", "s3://b", aws_endpoint=server.url, **KEYS, **options)


def test_a_save_is_one_request(server: Echo) -> None:
    file = FileObject(backend=_backend(server), filename="x")
    file.save(b"content")
    assert [seen.method for seen in server.seen] == ["PUT"]
    assert file.etag
    assert file.last_modified


async def test_an_asynchronous_save_is_one_request(server: Echo) -> None:
    await FileObject(backend=_backend(server), filename="x").save_async(b"content")
    assert [seen.method for seen in server.seen] == ["PUT"]


def test_the_exact_time_costs_one_request_more(server: Echo) -> None:
    file = FileObject(backend=_backend(server, exact_last_modified=True), filename="x").save(b"content")
    assert [seen.method for seen in server.seen] == ["PUT", "HEAD"]
    assert file.last_modified == 1795341600.0


def test_an_etag_that_put_does_not_tell_is_asked_for() -> None:
    def answer(seen: Seen) -> Any:
        return (200, {}, b"") if seen.method == "PUT" else None

    with echo(answer) as server:
        # obstore wants an ETag of a put; a server that gives an empty one is asked again.
        server.answer = lambda seen: (200, {"ETag": ""}, b"") if seen.method == "PUT" else None
        file = FileObject(backend=_backend(server), filename="x").save(b"content")
        assert [seen.method for seen in server.seen] == ["PUT", "HEAD"]
        assert file.etag


def test_what_is_refused_sends_nothing(server: Echo) -> None:
    backend = _backend(server)
    for path, more in (("a//b", {}), ("x", {"content_type": "Ü"}), ("x", {"metadata": {"a": "y" * 3000}})):
        with pytest.raises(ValueError):  # noqa: PT011 - each kind has its own tests
            FileObject(backend=backend, filename=path, **more).save(b"1")
    for empty in ("", "/"):
        with pytest.raises(ValueError, match=r"empty|slash"):
            backend.delete_object(empty)
    assert server.seen == []


async def test_connections_are_used_again(server: Echo) -> None:
    backend = _backend(server)
    for number in range(20):
        FileObject(backend=backend, filename=f"sync/{number}").save(b"1")
        await FileObject(backend=backend, filename=f"async/{number}").save_async(b"1")
        backend.get_content(f"sync/{number}")
        await backend.get_content_async(f"sync/{number}")
    assert len(server.seen) == 80
    # The pool gives an idle connection out again; now and then two calls overlap by a moment.
    assert server.connections <= 3


async def test_a_hundred_saves_at_once_share_their_connections(server: Echo) -> None:
    backend = _backend(server)

    async def batch() -> None:
        files = [FileObject(backend=backend, filename=f"{number}", content=b"data") for number in range(100)]
        await asyncio.gather(*(file.save_async() for file in files))

    await batch()
    first = server.connections
    assert first <= 100
    await batch()
    await batch()
    assert len(server.seen) == 300
    assert server.connections <= first + 100


def test_a_hundred_threads(rclone_s3: S3Server) -> None:
    backend = ObstoreBackend(
        "k",
        f"s3://{rclone_s3.new_bucket()}",
        aws_endpoint=rclone_s3.endpoint,
        aws_access_key_id=rclone_s3.key,
        aws_secret_access_key=rclone_s3.secret,
    )

    def one(number: int) -> None:
        FileObject(backend=backend, filename=f"{number}").save(str(number).encode())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {meta.path for meta in backend.list()} == {str(number) for number in range(100)}


def test_saving_and_streaming_take_bounded_memory(rclone_s3: S3Server) -> None:
    """Python's own memory, that is: what passes through obstore is at most the parts under way."""
    backend = ObstoreBackend(
        "k",
        f"s3://{rclone_s3.new_bucket()}",
        aws_endpoint=rclone_s3.endpoint,
        aws_access_key_id=rclone_s3.key,
        aws_secret_access_key=rclone_s3.secret,
    )
    size = 96 * MiB
    tracemalloc.start()
    try:
        FileObject(backend=backend, filename="big").save(iter([bytes(MiB)] * 96), max_concurrency=2)
        assert sum(len(piece) for piece in backend.stream("big", chunk_size=MiB)) == size
        assert tracemalloc.get_traced_memory()[1] < 48 * MiB
    finally:
        tracemalloc.stop()


def _parts(server: Echo) -> list[int]:
    return [len(seen.body) for seen in server.seen if "partNumber" in seen.query]


def _multipart(seen: Seen) -> Any:
    if "uploads" in seen.query:
        body = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        return 200, {"Content-Type": "application/xml"}, body
    if seen.method == "POST" and "uploadId" in seen.query:
        body = b"<CompleteMultipartUploadResult><ETag>&quot;x-2&quot;</ETag></CompleteMultipartUploadResult>"
        return 200, {"Content-Type": "application/xml"}, body
    return None


def test_parts_are_as_large_as_asked() -> None:
    with echo(_multipart) as server:
        FileObject(backend=_backend(server), filename="x").save(bytes(15 * MiB), chunk_size=6 * MiB)
        assert sorted(_parts(server)) == [3 * MiB, 6 * MiB, 6 * MiB]
        server.seen.clear()
        # S3 takes no part below 5 MiB, save the last.
        FileObject(backend=_backend(server), filename="x").save(iter([bytes(7 * MiB)]), chunk_size=MiB)
        assert sorted(_parts(server)) == [2 * MiB, 5 * MiB]
        server.seen.clear()
        FileObject(backend=_backend(server), filename="x").save(bytes(4 * MiB))
        FileObject(backend=_backend(server), filename="x").save(iter([bytes(4 * MiB)]))
        assert _parts(server) == []


def test_parts_grow_with_the_size() -> None:
    from migrate_storage.backend.upload import prepare
    from migrate_storage.stores.sync_async import BLOCKING, run

    class Huge:
        """A file of two terabytes, of which nobody reads more than the beginning."""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 2 * 1024**4 if whence == 2 else offset

        def tell(self) -> int:
            return 0

        def read(self, size: int) -> bytes:
            return bytes(size)

    upload = run(prepare(BLOCKING, Huge(), service="s3", use_multipart=None, chunk_size=5 * MiB, max_concurrency=12))
    part = upload.options["chunk_size"]
    assert 2 * 1024**4 / part <= 9000
    assert part * upload.options["max_concurrency"] <= 256 * MiB


def test_a_stream_with_too_many_parts_is_stopped_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrate_storage.backend.upload._MAX_PARTS", 2)
    with echo(_multipart) as server, pytest.raises(ValueError, match="give a larger chunk_size"):
        FileObject(backend=_backend(server), filename="x").save(iter([bytes(MiB)] * 40))
    assert "DELETE" in [seen.method for seen in server.seen]
