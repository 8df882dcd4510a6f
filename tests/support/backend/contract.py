"""The contract of a storage backend, as one suite: import a class, give it a ``backend`` fixture, and run it.

``StorageContract`` is what advanced-alchemy asks of every backend. ``CompleteContract`` is what ObstoreBackend promises
beyond. Each test runs twice: ``speak`` calls the synchronous methods, then the asynchronous ones.

A class that uses them provides the fixtures ``backend`` and ``bed`` (see :mod:`tests.support.backend.beds`).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.base import StorageBackend

from migrate_storage.core.errors import (
    ConditionFailedError,
    ConfigurationError,
    KeyRefusedError,
    MissingBucketError,
    UnknownOptionError,
)
from tests.support.backend.beds import Bed

MiB = 1024 * 1024


class Speak:
    """Calls the synchronous or the asynchronous method of each pair."""

    def __init__(self, backend: StorageBackend, awaits: bool) -> None:
        self.backend: Any = backend
        self.awaits = awaits

    async def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self.awaits:
            return await getattr(self.backend, f"{name}_async")(*arguments, **options)
        return getattr(self.backend, name)(*arguments, **options)

    async def all(self, name: str, *arguments: Any, **options: Any) -> list[Any]:
        """Return all that ``stream`` or ``list`` yields."""
        if not self.awaits:
            return list(getattr(self.backend, name)(*arguments, **options))
        found = getattr(self.backend, f"{name}_async")(*arguments, **options)
        return [item async for item in (await found if asyncio.iscoroutine(found) else found)]

    async def save(self, path: str, content: Any, file: dict[str, Any] | None = None, **options: Any) -> FileObject:
        return await self(
            "save_object", FileObject(backend=self.backend, filename=path, **(file or {})), content, **options
        )

    async def get(self, path: str, **options: Any) -> bytes:
        return await self("get_content", path, **options)

    async def keeps(self, *keys: str) -> None:
        """Check that what is saved under each key is read under it, when all are saved."""
        for key in keys:
            await self.save(key, key.encode())
        for key in keys:
            assert await self.get(key) == key.encode(), key


class Contract:
    @pytest.fixture(params=["sync", "async"])
    def speak(self, request: pytest.FixtureRequest, backend: StorageBackend) -> Speak:
        return Speak(backend, request.param == "async")


class StorageContract(Contract):
    """What advanced-alchemy's callers rely on with every backend."""

    def test_is_a_storage_backend(self, backend: StorageBackend) -> None:
        assert isinstance(backend, StorageBackend)
        assert isinstance(backend.key, str)
        assert isinstance(backend.driver, str)
        assert isinstance(backend.protocol, str)

    async def test_what_is_saved_is_read(self, speak: Speak) -> None:
        file = FileObject(backend=speak.backend, filename="a/b.txt")
        saved = await speak("save_object", file, b"content")
        assert saved is file
        assert await speak.get("a/b.txt") == b"content"
        assert saved.size == 7
        assert saved.path == "a/b.txt"
        assert saved.etag
        assert saved.last_modified == pytest.approx(time.time(), abs=60)

    async def test_saving_again_replaces(self, speak: Speak) -> None:
        await speak.save("a.txt", b"first, and longer")
        saved = await speak.save("a.txt", b"second")
        assert saved.size == 6
        assert await speak.get("a.txt") == b"second"

    async def test_nothing_can_be_saved(self, speak: Speak) -> None:
        assert (await speak.save("empty", b"")).size == 0
        assert await speak.get("empty") == b""

    async def test_every_byte_survives(self, speak: Speak) -> None:
        content = bytes(range(256)) * 300
        await speak.save("bytes.bin", content)
        assert await speak.get("bytes.bin") == content

    async def test_a_missing_object_is_a_missing_file(self, speak: Speak) -> None:
        with pytest.raises(FileNotFoundError):
            await speak.get("no/such.txt")

    async def test_deleted_is_gone(self, speak: Speak) -> None:
        await speak.save("a.txt", b"1")
        await speak("delete_object", "a.txt")
        with pytest.raises(FileNotFoundError):
            await speak.get("a.txt")

    async def test_several_are_deleted(self, speak: Speak) -> None:
        for name in ("a", "b", "c"):
            await speak.save(name, b"1")
        await speak("delete_object", ["a", "b"])
        assert await speak.get("c") == b"1"
        for name in ("a", "b"):
            with pytest.raises(FileNotFoundError):
                await speak.get(name)

    async def test_deleting_what_is_not_there_is_no_error(self, speak: Speak) -> None:
        await speak("delete_object", "never/was.txt")

    async def test_deleting_takes_names_not_patterns(self, speak: Speak) -> None:
        for name in ("a1.txt", "a2.txt", "a*.txt"):
            await speak.save(name, b"1")
        await speak("delete_object", "a*.txt")
        assert await speak.get("a1.txt") == b"1"
        assert await speak.get("a2.txt") == b"1"
        with pytest.raises(FileNotFoundError):
            await speak.get("a*.txt")

    async def test_names_are_kept(self, speak: Speak) -> None:
        await speak.keeps("with space.txt", "ü/日本.txt", "emoji 🎉.txt", "a+b&c=d.txt", "~x,;'.txt")

    async def test_names_with_brackets_are_kept(self, speak: Speak) -> None:
        await speak.keeps("[1] (2).txt")

    async def test_names_that_look_like_urls_are_kept(self, speak: Speak) -> None:
        await speak.keeps("a#b.txt", "a?b.txt", "a%20b.txt", "100%.txt")

    async def test_a_file_on_disk_is_saved(self, speak: Speak, tmp_path: Path) -> None:
        source = tmp_path / "source.bin"
        source.write_bytes(b"from disk")
        saved = await speak.save("disk.bin", source)
        assert saved.size == 9
        assert await speak.get("disk.bin") == b"from disk"

    async def test_an_open_file_is_saved(self, speak: Speak) -> None:
        saved = await speak.save("file.bin", io.BytesIO(b"from a file"))
        assert saved.size == 11
        assert await speak.get("file.bin") == b"from a file"

    async def test_an_iterator_is_saved(self, speak: Speak) -> None:
        saved = await speak.save("pieces.bin", iter([b"one", b"two"]))
        assert saved.size == 6
        assert await speak.get("pieces.bin") == b"onetwo"

    async def test_part_of_the_content_is_read(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("ranges"):
            return
        await speak.save("range.txt", b"0123456789")
        assert await speak.get("range.txt", options={"start": 2, "end": 5}) == b"234"

    async def test_metadata_stays_in_the_file_object(self, speak: Speak) -> None:
        saved = await speak.save("m.txt", b"1", {"metadata": {"invoice": "INV-1", "n": 3}})
        assert saved.metadata == {"invoice": "INV-1", "n": 3}
        assert saved.content_type == "text/plain"

    async def test_a_signed_url_gives_the_content(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("sign"):
            with pytest.raises(NotImplementedError):
                await speak("sign", "s.txt")
            return
        await speak.save("s.txt", b"signed")
        url = await speak("sign", "s.txt", expires_in=600)
        assert await _fetch(url) == b"signed"

    async def test_several_urls_are_signed(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("sign"):
            return
        for name in ("s1", "s2"):
            await speak.save(name, name.encode())
        urls = await speak("sign", ["s1", "s2"], expires_in=600)
        assert isinstance(urls, list)
        assert [await _fetch(url) for url in urls] == [b"s1", b"s2"]

    async def test_a_signed_url_takes_an_upload(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("sign"):
            return
        url = await speak("sign", "up.txt", expires_in=600, for_upload=True)
        assert await _upload(url, b"uploaded") in (200, 201)
        assert await speak.get("up.txt") == b"uploaded"

    async def test_a_hundred_saves_at_once(self, backend: StorageBackend) -> None:
        async def one(number: int) -> bytes:
            file = FileObject(backend=backend, filename=f"many/{number}.txt", content=str(number).encode())
            await file.save_async()
            return await file.get_content_async()

        assert await asyncio.gather(*map(one, range(100))) == [str(number).encode() for number in range(100)]


class CompleteContract(Contract):
    """What ObstoreBackend promises beyond."""

    async def test_the_checksum_is_of_the_content(self, speak: Speak) -> None:
        saved = await speak.save("a.txt", b"content")
        assert saved.checksum == f"sha256:{hashlib.sha256(b'content').hexdigest()}"

    async def test_the_etag_is_the_stores(self, speak: Speak) -> None:
        saved = await speak.save("a.txt", b"content")
        head = await speak("head", "a.txt")
        assert saved.etag is not None
        assert saved.etag.strip('"') == head.e_tag

    async def test_the_time_is_the_stores_on_request(self, bed: Bed) -> None:
        for awaits in (False, True):
            speak = Speak(bed.backend(exact_last_modified=True), awaits)
            saved = await speak.save("t.txt", b"1")
            assert saved.last_modified == (await speak("head", "t.txt")).last_modified

    async def test_head(self, speak: Speak) -> None:
        await speak.save("a/b.txt", b"content")
        head = await speak("head", "a/b.txt")
        assert (head.path, head.size) == ("a/b.txt", 7)
        with pytest.raises(FileNotFoundError) as caught:
            await speak("head", "no/such.txt")
        assert caught.value.filename == "no/such.txt"

    async def test_exists(self, speak: Speak) -> None:
        await speak.save("a/b.txt", b"1")
        assert await speak("exists", "a/b.txt") is True
        assert await speak("exists", "a/c.txt") is False

    async def test_list(self, speak: Speak) -> None:
        for name in ("x/1.txt", "x/y/2.txt", "xy/3.txt"):
            await speak.save(name, name.encode())
        assert {meta.path: meta.size for meta in await speak.all("list")} == {
            "x/1.txt": 7,
            "x/y/2.txt": 9,
            "xy/3.txt": 8,
        }
        assert {meta.path for meta in await speak.all("list", "x")} == {"x/1.txt", "x/y/2.txt"}
        assert await speak.all("list", "none") == []

    async def test_a_long_listing_is_whole(self, backend: Any, speak: Speak) -> None:
        def save(number: int) -> None:
            backend.save_object(FileObject(backend=backend, filename=f"many/{number:04}"), b"")

        await asyncio.gather(*(asyncio.to_thread(save, number) for number in range(120)))
        assert sorted(meta.path for meta in await speak.all("list", "many")) == [f"many/{n:04}" for n in range(120)]

    async def test_stream(self, speak: Speak, bed: Bed) -> None:
        content = bytes(range(256)) * 8 * 1024
        await speak.save("big.bin", content)
        pieces = await speak.all("stream", "big.bin", chunk_size=256 * 1024)
        assert b"".join(pieces) == content
        assert len(pieces) > 1 or bed.name == "memory"
        with pytest.raises(FileNotFoundError):
            await speak.all("stream", "none.bin")

    async def test_open(self, backend: Any, bed: Bed) -> None:
        if not bed.has("ranges"):
            return
        await Speak(backend, True).save("lines.txt", b"one\ntwo\nthree\n" * 1000)
        with backend.open("lines.txt", buffer_size=1000) as file:
            assert file.readline() == b"one\n"
            file.seek(-6, io.SEEK_END)
            assert file.read() == b"three\n"
            file.seek(4)
            assert file.read(3) == b"two"
        async with await backend.open_async("lines.txt") as file:
            await file.seek(4)
            assert await file.read(3) == b"two"
            assert await file.tell() == 7
            assert len(await file.read()) == 14_000 - 7
            assert await file.read() == b""

    async def test_an_open_file_is_one_that_libraries_read(self, backend: Any, bed: Bed) -> None:
        if not bed.has("ranges"):
            return
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("inner.txt", "hello")
        await Speak(backend, True).save("a.zip", archive.getvalue())
        with zipfile.ZipFile(backend.open("a.zip")) as read:
            assert read.read("inner.txt") == b"hello"

    async def test_an_open_file_never_mixes_two_states(self, backend: Any, bed: Bed) -> None:
        if not bed.has("ranges") or not bed.has("conditions"):
            return
        await Speak(backend, True).save("f.bin", b"a" * 10_000)
        with backend.open("f.bin", buffer_size=100) as file:
            assert file.read(10) == b"a" * 10
            await Speak(backend, True).save("f.bin", b"b" * 10_000)
            file.seek(5000)
            with pytest.raises(ConditionFailedError):
                file.read(10)

    async def test_ranges(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("ranges"):
            return
        await speak.save("r.txt", b"0123456789")
        assert await speak.get("r.txt", options={"range": (2, 5)}) == b"234"
        assert await speak.get("r.txt", options={"range": {"offset": 7}}) == b"789"
        assert await speak.get("r.txt", options={"start": 7}) == b"789"
        assert await speak.get("r.txt", options={"end": 3}) == b"012"
        assert await speak.get("r.txt", options={"start": 4, "end": 4}) == b""
        assert await speak.get("r.txt", options={"start": 8, "end": 99}) == b"89"
        assert b"".join(await speak.all("stream", "r.txt", options={"start": 8})) == b"89"
        if bed.has("suffix"):
            assert await speak.get("r.txt", options={"range": {"suffix": 2}}) == b"89"
            assert await speak.get("r.txt", options={"start": -2}) == b"89"
        with pytest.raises(ValueError, match="range"):
            await speak.get("r.txt", options={"range": (5, 2)})
        with pytest.raises(FileNotFoundError):
            await speak.get("none.txt", options={"start": 4, "end": 4})

    async def test_conditions(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("conditions"):
            return
        saved = await speak.save("c.txt", b"1")
        assert await speak.get("c.txt", options={"if_match": saved.etag}) == b"1"
        with pytest.raises(ConditionFailedError):
            await speak.get("c.txt", options={"if_match": '"other"'})
        with pytest.raises(ConditionFailedError):
            await speak.get("c.txt", options={"if_none_match": saved.etag})

    async def test_unknown_options_of_a_read_are_refused(self, speak: Speak) -> None:
        await speak.save("o.txt", b"1")
        assert await speak.get("o.txt", options={"chunk_size": 5, "use_multipart": None}) == b"1"
        with pytest.raises(UnknownOptionError, match="if_matches"):
            await speak.get("o.txt", options={"if_matches": "x"})

    async def test_copy_and_move(self, speak: Speak, bed: Bed) -> None:
        await speak.save("from.txt", b"1", {"content_type": "text/x-one", "metadata": {"a": "b"}})
        await speak("copy", "from.txt", "sub/copy.txt")
        assert await speak.get("sub/copy.txt") == b"1"
        assert await speak.get("from.txt") == b"1"
        if bed.has("metadata"):
            assert (await speak("attributes", "sub/copy.txt")).content_type == "text/x-one"
        await speak("move", "from.txt", "moved.txt")
        assert await speak.get("moved.txt") == b"1"
        assert await speak("exists", "from.txt") is False
        for verb in ("copy", "move"):
            with pytest.raises(FileNotFoundError):
                await speak(verb, "none.txt", "other.txt")

    async def test_moving_onto_itself_keeps_it(self, speak: Speak) -> None:
        await speak.save("same.txt", b"1")
        await speak("move", "same.txt", "same.txt")
        await speak("copy", "same.txt", "same.txt")
        assert await speak.get("same.txt") == b"1"
        with pytest.raises(FileNotFoundError):
            await speak("move", "none.txt", "none.txt")

    async def test_copy_without_overwriting(self, speak: Speak, bed: Bed) -> None:
        await speak.save("one", b"1")
        await speak.save("two", b"2")
        with pytest.raises((FileExistsError, NotImplementedError)):
            await speak("copy", "one", "two", overwrite=False)
        assert await speak.get("two") == b"2" or bed.name == "gcs"

    async def test_type_and_metadata_come_back(self, speak: Speak, bed: Bed) -> None:
        metadata = {"invoice_number": "INV-2025-001", "amount": "1500.00", "Größe": "ü", "n": 1, "l": [1, {"a": None}]}
        await speak.save("m.pdf", b"1", {"content_type": "application/pdf; v=1", "metadata": metadata})
        found = await speak("attributes", "m.pdf")
        if bed.has("metadata"):
            assert found.content_type == "application/pdf; v=1"
            assert found.metadata == metadata
        else:
            assert found.metadata == {}
        assert await speak.get("m.pdf") == b"1"

    async def test_metadata_never_overrides_a_header(self, speak: Speak, bed: Bed) -> None:
        metadata = {
            "Content-Type": "text/evil",
            "contenttype": "text/evil",
            "Cache-Control": "no",
            "storageclass": "GLACIER",
        }
        await speak.save("h.txt", b"1", {"metadata": metadata})
        found = await speak("attributes", "h.txt")
        if bed.has("metadata"):
            assert found.content_type == "text/plain"
            assert found.cache_control is None
            assert found.metadata == metadata

    async def test_metadata_can_stay_in_the_row(self, bed: Bed) -> None:
        speak = Speak(bed.backend(store_metadata=False), True)
        saved = await speak.save("m.txt", b"1", {"metadata": {"a": "b"}})
        assert saved.metadata == {"a": "b"}
        found = await speak("attributes", "m.txt")
        assert found.metadata == {}
        assert found.content_type == ("text/plain" if bed.has("metadata") else None)

    async def test_a_type_that_is_no_header_is_refused(self, speak: Speak, bed: Bed) -> None:
        if not bed.has("metadata"):
            return
        for kind in ("Ünï/x", "text/plain\nx-evil: 1", " text/plain"):
            with pytest.raises(ConfigurationError, match="content type"):
                await speak.save("t.txt", b"1", {"content_type": kind})
        assert await speak("exists", "t.txt") is False

    async def test_parts_by_size(self, speak: Speak, tmp_path: Path) -> None:
        content = bytes(range(256)) * (11 * MiB // 256)
        source = tmp_path / "big.bin"
        source.write_bytes(content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for name, data in {"bytes": content, "path": source, "iterator": _pieces(content)}.items():
            saved = await speak.save(f"big/{name}", data, chunk_size=5 * MiB)
            assert (saved.size, saved.checksum) == (len(content), digest), name
            head = await speak("head", f"big/{name}")
            assert head.size == len(content)
            assert saved.etag is not None
        assert await speak.get("big/iterator") == content

    async def test_parts_on_request_and_not(self, speak: Speak) -> None:
        await speak.save("forced.bin", b"small", use_multipart=True)
        assert await speak.get("forced.bin") == b"small"
        content = b"x" * (6 * MiB)
        await speak.save("whole.bin", iter([content[: 3 * MiB], content[3 * MiB :]]), use_multipart=False)
        assert await speak.get("whole.bin") == content

    async def test_an_asynchronous_iterator_is_saved(self, speak: Speak) -> None:
        if not speak.awaits:
            with pytest.raises(TypeError, match="save_async"):
                await speak.save("a.bin", _async_pieces(b"12"))
            return
        assert (await speak.save("a.bin", _async_pieces(b"12"))).size == 2
        content = b"y" * (11 * MiB)
        await speak.save("b.bin", _async_pieces(content))
        assert await speak.get("b.bin") == content

    @pytest.mark.parametrize("size", [3, 12 * MiB])
    async def test_a_source_that_breaks_leaves_nothing(self, speak: Speak, size: int) -> None:
        def broken() -> Iterator[bytes]:
            yield b"x" * size
            raise RuntimeError("the source broke")

        async def broken_async() -> AsyncIterator[bytes]:
            yield b"x" * size
            raise RuntimeError("the source broke")

        for source in (broken(), *([broken_async()] if speak.awaits else [])):
            with pytest.raises(RuntimeError, match="the source broke"):
                await speak.save("broken.bin", source)
            assert await speak("exists", "broken.bin") is False

    async def test_what_is_no_content_is_refused(self, speak: Speak) -> None:
        for source in (5, None, {"a": 1}, object(), io.StringIO("text"), iter(["text"])):
            with pytest.raises(TypeError):
                await speak.save("n.bin", source)
        assert await speak("exists", "n.bin") is False

    async def test_keys_that_no_store_can_address_are_refused(self, speak: Speak) -> None:
        for key in [
            "",
            "/x",
            "x/",
            "/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a\nb",
            "a\x00b",
            "a\x7fb",
            "s3://b/x",
            "\ud800",
        ]:
            await self._refuses(speak, key)

    async def _refuses(self, speak: Speak, key: str) -> None:
        file = FileObject(backend=speak.backend, filename="x", to_filename=key or None)
        if key:
            with pytest.raises(KeyRefusedError):
                await speak("save_object", file, b"1")
        for name in ("get_content", "head", "exists", "delete_object", "attributes", "open"):
            with pytest.raises(KeyRefusedError):
                await speak(name, key)
        for name in ("copy", "move"):
            with pytest.raises(KeyRefusedError):
                await speak(name, "x", key)
        with pytest.raises((KeyRefusedError, NotImplementedError)):
            await speak("sign", key)
        with pytest.raises(KeyRefusedError):
            await speak("delete_object", ["x", key])
        assert await speak.all("list") == []

    async def test_deleting_many_reports_nothing_when_all_are_gone(self, speak: Speak) -> None:
        for name in ("a", "b"):
            await speak.save(name, b"1")
        await speak("delete_object", ["a", "never", "b", "a"])
        assert await speak.all("list") == []
        await speak("delete_object", [])

    async def test_a_missing_bucket_is_an_error(self, bed: Bed) -> None:
        if not bed.has("buckets"):
            return
        scheme = bed.url.partition("://")[0]
        backend = Bed(name="gone", url=f"{scheme}://no-such-bucket-here/", options=bed.options).backend()
        for awaits in (False, True):
            speak = Speak(backend, awaits)
            for attempt in (
                speak("delete_object", "x"),
                speak("delete_object", ["x", "y"]),
                speak.save("x", b"1"),
            ):
                with pytest.raises(MissingBucketError, match="no-such-bucket-here"):
                    await attempt

    async def test_signed_urls_are_right_for_every_key(self, bed: Bed) -> None:
        if not bed.has("sign"):
            return
        keys = ("plain.txt", "with space.txt", "a#b.txt", "a?b=1.txt", "a%20b.txt", "100%.txt", "日本.txt", "%2E%2E/x")
        for prefix, key in itertools.product((None, "pre fix#1/é%"), keys):
            backend = bed.below(prefix)
            for awaits in (False, True):
                speak = Speak(backend, awaits)
                await speak.save(key, key.encode())
                assert await _fetch(await speak("sign", key)) == key.encode()
                url = await speak("sign", key, for_upload=True)
                assert await _upload(url, b"up") in (200, 201)
                assert await speak.get(key) == b"up"

    async def test_lifetimes_are_checked(self, speak: Speak, bed: Bed) -> None:
        for seconds in (0, -1, 1.5, True, "60"):
            with pytest.raises(ValueError if bed.has("sign") else NotImplementedError):
                await speak("sign", "a", expires_in=seconds)

    async def test_seven_days_at_most(self, speak: Speak, bed: Bed) -> None:
        if speak.backend.protocol not in ("s3", "gcs"):
            return
        assert await speak("sign", "a", expires_in=604_800)
        with pytest.raises(ValueError, match="7 days"):
            await speak("sign", "a", expires_in=604_801)


async def _fetch(url: str) -> bytes:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).content


async def _upload(url: str, content: bytes) -> int:
    """``PUT`` as a browser would; Azure requires a header with the kind of blob."""
    async with httpx.AsyncClient() as client:
        return (await client.put(url, content=content, headers={"x-ms-blob-type": "BlockBlob"})).status_code


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 700_001):
        yield content[start : start + 700_001]


async def _async_pieces(content: bytes) -> AsyncIterator[bytes]:
    for piece in _pieces(content):
        yield piece
