"""CutoverBackend keeps the contract of what it wraps in each phase, and does what the table says on real stores."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from sqlalchemy import event

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, UploadRefusedError
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import TABLE, Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import PHASE_VARIABLE
from tests.support.backend.beds import Bed, memory
from tests.support.backend.contract import CompleteContract, Speak, StorageContract
from tests.support.cutover.sides import Sides

S, D = Side.SOURCE, Side.DESTINATION
MIDDLE = (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST)
MiB = 1024 * 1024


@pytest.fixture(params=Phase, ids=lambda phase: phase.name)
def phase(request: pytest.FixtureRequest) -> Phase:
    return Phase(request.param)


@pytest.fixture
def sides(phase: Phase, outbox: Outbox) -> Sides:
    return Sides(phase, outbox)


@pytest.mark.slow
class TestContract(StorageContract, CompleteContract):
    """The suite that ObstoreBackend passes, on two of them."""

    test_copy_and_move = test_moving_onto_itself_keeps_it = test_copy_without_overwriting = None  # type: ignore[assignment]
    test_keys_that_no_store_can_address_are_refused = None  # type: ignore[assignment]

    @pytest.fixture
    def bed(self, request: pytest.FixtureRequest) -> Bed:
        return memory(request)

    @pytest.fixture
    def backend(self, bed: Bed, phase: Phase, outbox: Outbox) -> CutoverBackend:
        return CutoverBackend("files", bed.backend(key="old"), bed.backend(key="new"), phase=phase, outbox=outbox)


FAILING = ["before", "after"]


@pytest.mark.parametrize("how", [None, *FAILING])
@pytest.mark.parametrize("broken", Side)
def test_a_save(sides: Sides, phase: Phase, broken: Side, how: str | None) -> None:
    sides.put(S, b"old")
    sides.put(D, b"old")
    sides.at(broken).broken = lambda name: how if name == "save" else None
    order = TABLE[phase].writes
    if how and broken is order[0]:
        with pytest.raises(OSError, match="broken"):
            sides.save(b"new")
        assert all(sides.has(side) == b"old" for side in Side if side is not broken)
    else:
        sides.save(b"new")
        assert sides.has(order[0]) == b"new"
    fine = how is None or broken not in order
    assert sides.has(order[-1]) == (b"new" if fine else sides.has(order[-1]))
    open_entry = sides.outbox.find_entry("k")
    assert (open_entry is None) is (fine or not TABLE[phase].entries)
    assert open_entry is None or open_entry.side is order[0]


@pytest.mark.parametrize("how", [None, *FAILING])
@pytest.mark.parametrize("broken", Side)
def test_a_delete(sides: Sides, phase: Phase, broken: Side, how: str | None) -> None:
    sides.put(S, b"old")
    sides.put(D, b"old")
    sides.at(broken).broken = lambda name: how if name == "delete" else None
    order = TABLE[phase].writes
    if how and broken is order[0]:
        with pytest.raises(OSError, match="broken"):
            sides.backend.delete_object("k")
    else:
        sides.backend.delete_object("k")
        assert sides.has(order[0]) is None
        sides.at(broken).broken = lambda _: None
        with pytest.raises(FileNotFoundError):
            sides.backend.get_content("k")
    entry = sides.outbox.find_entry("k")
    harmed = how is not None and broken in order
    assert (entry is not None) is (phase is Phase.DESTINATION or (harmed and TABLE[phase].entries))
    assert entry is None or (entry.tombstone and entry.side is order[0])


@pytest.mark.parametrize("name", ["get_content", "head", "exists"])
@pytest.mark.parametrize("source", ["there", "missing", "failing"])
@pytest.mark.parametrize("destination", ["there", "missing", "failing"])
def test_a_read(sides: Sides, phase: Phase, name: str, source: str, destination: str) -> None:
    states = {S: source, D: destination}
    for side, state in states.items():
        if state == "there":
            sides.put(side, side.value.encode())
        elif state == "failing":
            sides.at(side).broken = lambda _: "before"
    first, *more = TABLE[phase].reads
    answering = first if states[first] != "missing" or not more else more[0]
    read = getattr(sides.backend, name)
    if states[answering] == "failing":
        with pytest.raises(OSError, match="broken"):
            read("k")
    elif states[answering] == "missing":
        if name == "exists":
            assert read("k") is False
        else:
            with pytest.raises(FileNotFoundError):
                read("k")
    else:
        expected = {"get_content": answering.value.encode(), "exists": True}
        assert read("k") == expected[name] if name in expected else read("k").size == len(answering.value)
    fell_back = answering is not first and states[answering] == "there"
    assert (sides.outbox.find_entry("k") is not None) is fell_back
    assert sides.backend.counters.get("fallback", S) == int(fell_back)


STATES = ["there", "missing", "failing"]


@pytest.mark.parametrize("source", STATES)
@pytest.mark.parametrize("destination", STATES)
def test_signing(sides: Sides, phase: Phase, source: str, destination: str) -> None:
    states = {S: source, D: destination}
    for side, state in states.items():
        sides.put(side, b"1") if state == "there" else None
        sides.at(side).broken = (lambda _: "before") if state == "failing" else lambda _: None
    first, *more = TABLE[phase].reads
    answering = more[0] if more and states[first] == "missing" else first
    if states[answering] == "failing":
        with pytest.raises(OSError, match="broken"):
            sides.backend.sign("k")
    else:
        # What nobody holds gets the URL of the side that is read first.
        assert sides.backend.sign("k") == f"https://{answering if states[answering] == 'there' else first}/k"
    fell_back = answering is not first and states[answering] == "there"
    assert (sides.outbox.find_entry("k") is not None) is fell_back
    upload = TABLE[phase].writes[0]
    if states[upload] == "failing":
        with pytest.raises(OSError, match="broken"):
            sides.backend.sign("u", for_upload=True)
    else:
        assert sides.backend.sign("u", for_upload=True) == f"https://{upload}/u?upload"
    entry = sides.outbox.find_entry("u")
    assert entry is not None
    assert entry.side is upload


@pytest.mark.parametrize("source", STATES)
@pytest.mark.parametrize("destination", STATES)
def test_a_listing(sides: Sides, phase: Phase, source: str, destination: str) -> None:
    states = {S: source, D: destination}
    for side, state in states.items():
        sides.put(side, b"1") if state == "there" else None
        sides.at(side).broken = (lambda _: "before") if state == "failing" else lambda _: None
    read = [states[side] for side in TABLE[phase].reads]
    if "failing" in read:
        with pytest.raises(OSError, match="broken"):
            list(sides.backend.list())
    else:
        assert [meta.path for meta in sides.backend.list()] == (["k"] if "there" in read else [])
    assert sides.outbox.count_open() == 0


@pytest.mark.parametrize("missing", Side)
def test_a_delete_of_what_is_not_there(sides: Sides, phase: Phase, missing: Side) -> None:
    def gone(name: str) -> None:
        if name == "delete":
            raise FileNotFoundError(name)

    sides.put(missing.other, b"1")
    sides.at(missing).broken = gone
    if phase in MIDDLE:
        sides.backend.delete_object("k")
        assert (sides.has(S), sides.has(D), sides.outbox.count_open()) == (None, None, 0)
    elif missing in TABLE[phase].writes:
        with contextlib.suppress(FileNotFoundError):
            sides.backend.delete_object("k")
        assert sides.has(missing) is None
        assert sides.has(missing.other) == b"1"


def test_what_an_operation_costs_the_database(sides: Sides, phase: Phase) -> None:
    statements: list[str] = []
    engine = sides.outbox.database._sync_engine

    def told(*arguments: Any) -> None:
        statements.append(arguments[2].split()[0])

    event.listen(engine, "before_cursor_execute", told)
    costs = {}
    for name, work in {
        "save": lambda: sides.save(b"1"),
        "read": lambda: sides.backend.get_content("k"),
        "delete": lambda: sides.backend.delete_object("k"),
    }.items():
        statements.clear()
        work()
        # A pragma is a setting of SQLite's own library, no request.
        costs[name] = [word for word in statements if word != "PRAGMA"]
    event.remove(engine, "before_cursor_execute", told)
    middle = {"save": ["INSERT", "UPDATE"], "read": ["SELECT"], "delete": ["INSERT", "DELETE"]}
    outer = {"save": [], "read": [], "delete": ["INSERT", "UPDATE"] if phase is Phase.DESTINATION else []}
    assert costs == (middle if phase in MIDDLE else outer)


@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
def test_a_failing_side_is_counted_timed_and_logged(sides: Sides, caplog: pytest.LogCaptureFixture) -> None:
    first, second = TABLE[sides.backend.phase].writes
    sides.at(second).broken = lambda name: "before" if name == "save" else None
    with caplog.at_level(logging.INFO, "migrate_storage.cutover"):
        file = FileObject(backend=sides.backend, filename="k")
        sides.backend.save_object(file, b"1")
    counts = {("write", first): 1, ("write", second): 1, ("failure", second): 1, ("entries_left_open", first): 1}
    assert sides.backend.counters.all() == counts
    assert {key: count for key, (count, _) in sides.backend.counters.times().items()} == {
        ("write", first): 1,
        ("write", second): 1,
    }
    failed, left = caplog.records
    assert failed.levelname == "WARNING"
    fields = ("backend", "object_key", "side", "operation", "error")
    assert [failed.__dict__[name] for name in fields] == ["files", "k", second, "write", "OSError"]
    assert (left.levelname, left.__dict__["side"]) == ("INFO", first)


@pytest.mark.parametrize("trusted", Side)
@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
def test_an_entry_decides(sides: Sides, trusted: Side) -> None:
    sides.put(trusted, b"right")
    sides.put(trusted.other, b"wrong")
    sides.outbox.request_repair("k", trusted)
    assert sides.backend.get_content("k") == b"right"
    assert {meta.path: meta.size for meta in sides.backend.list()} == {"k": 5}
    sides.at(trusted).broken = lambda name: "before" if name == "save" else None
    with pytest.raises(OSError, match="broken"):
        sides.save(b"never")
    assert sides.has(trusted.other) == b"wrong"


@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
def test_a_write_under_which_a_repair_ended_is_done_again(sides: Sides) -> None:
    second = sides.at(TABLE[sides.backend.phase].writes[1])
    seen: list[str] = []

    def settled_meanwhile(name: str) -> None:
        if name == "save":
            seen.append(name)
            entry = sides.outbox.find_entry("k")
            if len(seen) == 1 and entry is not None:
                assert sides.outbox.close_claimed("k", entry)

    second.broken = settled_meanwhile
    sides.save(b"new")
    assert len(seen) == 2
    assert (sides.has(S), sides.has(D), sides.outbox.find_entry("k")) == (b"new", b"new", None)


@pytest.mark.parametrize("phase", [Phase.DESTINATION_FIRST], ids=lambda phase: phase.name)
def test_what_only_the_source_has_is_listed_and_what_was_deleted_is_not(sides: Sides) -> None:
    for name, store in (("both", S), ("both", D), ("old", S), ("new", D), ("gone", S)):
        store = sides.at(store)
        store.save_object(FileObject(backend=store, filename=name), b"1")
    sides.source.broken = lambda name: "before" if name == "delete" else None
    sides.backend.delete_object("gone")
    assert sorted(meta.path for meta in sides.backend.list()) == ["both", "new", "old"]


@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
@pytest.mark.parametrize("awaits", [False, True])
async def test_a_long_stream_reaches_both_sides_and_leaves_no_file(
    sides: Sides, awaits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = bytes(range(256)) * 4 * 1024 * 10

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), MiB):
            yield content[start : start + MiB]

    data: Any = pieces() if awaits else io.BytesIO(content)
    saved = await Speak(sides.backend, awaits).save("k", data)
    assert saved.size == len(content)
    assert sides.has(S) == sides.has(D) == content
    assert list(tmp_path.glob("migrate-storage-*")) == []


@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
def test_a_source_that_breaks_writes_nothing(sides: Sides) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        sides.backend.save_object(FileObject(backend=sides.backend, filename="k"), broken())
    assert (sides.has(S), sides.has(D), sides.outbox.count_open()) == (None, None, 0)


@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
def test_a_key_that_no_side_can_hold_leaves_no_entry(sides: Sides) -> None:
    file = FileObject(backend=sides.backend, filename="a//b")
    with pytest.raises(KeyRefusedError):
        sides.backend.save_object(file, b"1")
    with pytest.raises(KeyRefusedError):
        sides.backend.delete_object("a//b")
    assert sides.outbox.count_open() == 0


async def test_from_fsspec_to_obstore(phase: Phase, outbox: Outbox, tmp_path: Path) -> None:
    import fsspec

    old = FSSpecBackend("old", fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "old"))
    new = ObstoreBackend("new", (tmp_path / "new").as_uri())
    backend = CutoverBackend("files", old, new, phase=phase, outbox=outbox)
    for awaits in (False, True):
        speak = Speak(backend, awaits)
        saved = await speak.save(f"a/{awaits}.txt", b"content")
        assert saved.size == 7
        assert await speak.get(f"a/{awaits}.txt") == b"content"
        await speak("delete_object", f"a/{awaits}.txt")
        with pytest.raises(FileNotFoundError):
            await speak.get(f"a/{awaits}.txt")
    assert not hasattr(backend, "head")


async def test_a_slow_database_does_not_hold_up_the_loop(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, seen = asyncio.get_running_loop(), []
    look = sides.outbox.find_entry

    def looked(path: str) -> Any:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        seen.append(path)
        return look(path)

    monkeypatch.setattr(sides.outbox, "find_entry", looked)
    await Speak(sides.backend, True).save("k", b"1")
    await sides.backend.get_content_async("k")
    assert bool(seen) is TABLE[sides.backend.phase].entries
    assert loop.is_running()


def on_moto(moto_s3: Any, phase: Phase, outbox: Outbox) -> CutoverBackend:
    def at(key: str) -> ObstoreBackend:
        return ObstoreBackend(
            key,
            f"s3://{moto_s3.new_bucket()}/",
            aws_endpoint=moto_s3.endpoint,
            aws_access_key_id=moto_s3.key,
            aws_secret_access_key=moto_s3.secret,
            aws_region=moto_s3.region,
            aws_allow_http=True,
        )

    return CutoverBackend("files", at("old"), at("new"), phase=phase, outbox=outbox)


def test_an_upload_url_leaves_an_entry_until_it_expires(moto_s3: Any, phase: Phase, outbox: Outbox) -> None:
    backend = on_moto(moto_s3, phase, outbox)
    url = backend.sign("up.txt", expires_in=600, for_upload=True)
    assert isinstance(url, str)
    assert httpx.put(url, content=b"uploaded").status_code == 200
    assert backend.get_content("up.txt") == b"uploaded"
    (waiting,) = outbox.pending_entries()
    assert waiting.side is TABLE[phase].writes[0]
    signed = backend.sign("up.txt", expires_in=600)
    assert isinstance(signed, str)
    assert httpx.get(signed).content == b"uploaded"
    file = FileObject(backend=backend, filename="up.txt", content_type="application/octet-stream")
    assert backend.confirm(file, max_size=8).size == 8
    with pytest.raises(UploadRefusedError, match="at most 7 are allowed; it was deleted$"):
        backend.confirm(file, max_size=7, delete_refused=True)
    assert not backend.exists("up.txt")


def test_a_side_that_cannot_confirm_is_named(tmp_path: Path) -> None:
    source = FSSpecBackend("old", fs="file", prefix=str(tmp_path))
    backend = CutoverBackend("files", source, ObstoreBackend("new", "memory://"), phase=Phase.SOURCE)
    with pytest.raises(NotImplementedError, match="'old' cannot confirm uploads: FSSpecBackend has no such method"):
        backend.confirm(FileObject(backend=backend, filename="a"))


@pytest.mark.parametrize("there", Side)
@pytest.mark.parametrize("phase", MIDDLE, ids=lambda phase: phase.name)
def test_a_url_to_read_leads_where_the_object_is(moto_s3: Any, phase: Phase, outbox: Outbox, there: Side) -> None:
    backend = on_moto(moto_s3, phase, outbox)
    store = backend.source if there is S else backend.destination
    store.save_object(FileObject(backend=store, filename="k"), b"content")
    # The other process fell back to the source for it, say.
    outbox.request_repair("k", D)
    assert httpx.get(str(backend.sign("k", expires_in=600))).content == b"content"


def test_the_phase_comes_from_code_from_the_environment_or_is_asked(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = ObstoreBackend("old", "memory://"), ObstoreBackend("new", "memory://")
    assert CutoverBackend("files", old, new).phase is Phase.SOURCE
    monkeypatch.setenv(PHASE_VARIABLE, "DUAL_WRITE")
    assert CutoverBackend("files", old, new, outbox=outbox).phase is Phase.DUAL_WRITE
    assert CutoverBackend("files", old, new, phase="destination", outbox=outbox).phase is Phase.DESTINATION
    asked = CutoverBackend("files", old, new, phase=lambda: Phase.DESTINATION_FIRST, outbox=outbox)
    assert asked.phase is Phase.DESTINATION_FIRST
    with pytest.raises(ConfigurationError, match="no phase"):
        CutoverBackend("files", old, new, phase="later")
    with pytest.raises(ConfigurationError, match="outbox"):
        CutoverBackend("files", old, new, phase=Phase.DUAL_WRITE)
