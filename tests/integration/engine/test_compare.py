"""Two listings become one stream of pairs, and what was not listed is never called missing."""

import itertools
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.core.spill import NoRoomError
from migrate_storage.engine.compare import By, Relation, judge, merge
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.listing import IncompleteError, Listing
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.retry import Retry

KEYS = ("a", "a/b", "a-b", "d/e/f", "é", "e\u0301", "\U0001f4a9", "\ufb01", "z")
"""In another order by UTF-16, by folders and by bytes."""


def memory(contents):
    store = ObstoreStore(MemoryStore(), "memory")
    for key, content in contents.items():
        store.put(key, content, attributes=Attributes(), create=False, part_size=None)
    return store


def relations(source, destination, by, *, prefixes=("", "")):
    left, right = Listing(store=source, prefix=prefixes[0]), Listing(store=destination, prefix=prefixes[1])
    return {pair.key: judged(pair, source, destination, by) for pair in merge(left, right)}


def judged(pair, source, destination, by):
    sides = ((source, pair.source), (destination, pair.destination))
    return judge(pair, by, *(meta and ObjectAt(store, meta.path) for store, meta in sides)).relation


class Ends:
    """A store whose listing ends in an error after so many objects."""

    def __init__(self, store, after, error):
        self._store, self._after, self._error = store, after, error
        self.name, self.is_local = store.name, store.is_local

    def list(self, prefix):
        yield from itertools.islice(self._store.list(prefix), self._after)
        raise self._error


class Told:
    """A store that lists these keys, and breaks off once after so many."""

    name, trusted = "told", True

    def __init__(self, keys, breaks=None):
        self._keys, self._breaks = keys, breaks

    def list(self, prefix):
        for number, key in enumerate(self._keys):
            if number == self._breaks:
                self._breaks = None
                raise ConnectionError("reset by peer")
            yield ObjectMeta(path=key, size=1)


class AtOnce(Retry):
    """Tries again without a pause."""

    def pause(self, attempt, factor=1.0):
        pass


def test_every_relation_by_every_measure():
    source = memory({"same": b"1", "other": b"12", "bytes": b"12", "only": b"1"})
    destination = memory({"same": b"1", "other": b"1", "bytes": b"21", "more": b"1"})
    always = {"other": Relation.DIFFERENT, "only": Relation.MISSING, "more": Relation.EXTRA}
    for by, same, differing in (
        (By.SIZE, Relation.MATCHED, Relation.MATCHED),
        (By.EVIDENCE, Relation.UNPROVED, Relation.UNPROVED),
        (By.CHECKSUM, Relation.MATCHED, Relation.DIFFERENT),
        (By.DOWNLOAD, Relation.MATCHED, Relation.DIFFERENT),
    ):
        assert relations(source, destination, by) == {**always, "same": same, "bytes": differing}


def test_keys_meet_whatever_the_order_of_either_side(tmp_path):
    source = memory({f"in/{key}": b"1" for key in KEYS if key != "a"})
    for key in KEYS[1:]:
        path = tmp_path / "out" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    destination = FsspecStore(fsspec.filesystem("file"), "disk")
    left = Listing(store=source, prefix="in")
    right = Listing(store=destination, prefix=str(tmp_path / "out"))
    pairs = list(merge(left, right))
    assert sorted(pair.key for pair in pairs) == sorted(KEYS[1:])
    assert all(pair.source and pair.destination for pair in pairs)


@given(data=st.data())
def test_every_key_comes_once_with_all_that_either_side_lists(data):
    """Listed out of order, with keys again and again, or broken off and begun anew: a key is never alone that has a partner."""
    sides = []
    for _ in range(2):
        keys = data.draw(st.lists(st.sampled_from("abcdefgh"), max_size=12))
        if data.draw(st.booleans()):
            keys = sorted(set(keys))
        sides.append(keys)
    listings = [
        Listing(
            store=Told(keys, breaks=data.draw(st.none() | st.integers(0, len(keys)))),
            retry=AtOnce(2, threading.Event()),
        )
        for keys in sides
    ]
    pairs = list(merge(*listings))
    assert sorted(pair.key for pair in pairs) == sorted({*sides[0], *sides[1]})
    for pair in pairs:
        assert (pair.source is not None, pair.destination is not None) == tuple(pair.key in keys for keys in sides)


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_without_room_for_what_is_set_aside(small_disk, there):
    keys = [f"{number:09}" for number in range(20_000)]
    left, right = Listing(store=Told(keys)), Listing(store=Told(keys if there else []))
    small_disk(50_000)
    with pytest.raises(NoRoomError, match="set TMPDIR"):
        list(merge(left, right))


def test_what_both_list_in_order_comes_before_the_listings_end():
    endless = (f"{number:09}" for number in itertools.count())
    left, right = (Listing(store=Told(keys)) for keys in itertools.tee(endless))
    with closing(merge(left, right)) as pairs:
        assert [pair.key for pair in itertools.islice(pairs, 3)] == ["000000000", "000000001", "000000002"]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_listing_that_breaks_off_makes_nothing_missing(side, ordered):
    whole = memory(dict.fromkeys("abcdef", b"1"))
    broken = Ends(whole, 3, ConnectionError("reset by peer"))
    listings = [Listing(store=whole, ordered=True), Listing(store=broken, ordered=ordered)]
    seen = []
    with pytest.raises(IncompleteError, match="broke off"):
        seen.extend(merge(*(listings if side == "destination" else listings[::-1])))
    assert [pair.key for pair in seen] == ["a", "b", "c"][: len(seen)]
    assert all(pair.source and pair.destination for pair in seen)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_key_that_ends_a_listing_is_survived_through_fsspec(ordered):
    whole = memory(dict.fromkeys("abcdef", b"1"))
    told = []
    broken = Ends(whole, 3, ValueError("illegal path segment"))
    listing = Listing(store=broken, ordered=ordered, fallback=(whole, ""), on_fallback=told.append)
    pairs = list(merge(listing, Listing(store=whole)))
    assert [pair.key for pair in pairs] == list("abcdef")
    assert all(pair.source and pair.destination for pair in pairs)
    assert len(told) == 1
    assert "illegal path segment" in told[0]


def test_a_listing_that_is_not_in_the_order_it_promised_is_no_listing():
    with pytest.raises(IncompleteError, match="in order"):
        list(merge(Listing(store=Told("ba"), ordered=True), Listing(store=memory({}))))
    assert [pair.key for pair in merge(Listing(store=Told("ba")), Listing(store=memory({})))] == ["a", "b"]


def test_below_the_first_level_too_a_failed_listing_is_an_error(tmp_path):
    class Closed(type(fsspec.filesystem("file"))):
        def ls(self, path, **options):
            if path.rstrip("/").endswith("closed"):
                raise PermissionError(path)
            return super().ls(path, **options)

    (tmp_path / "a" / "b" / "closed").mkdir(parents=True)
    listing = Listing(store=FsspecStore(Closed(skip_instance_cache=True), "disk"), prefix=str(tmp_path))
    with pytest.raises(IncompleteError):
        list(merge(listing, Listing(store=memory({}))))


def test_what_vanishes_before_it_is_read_is_an_error_not_a_difference(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"1")
    disk, other = ObstoreStore(LocalStore(str(tmp_path)), "disk"), memory({"x": b"1"})
    (pair,) = merge(Listing(store=disk), Listing(store=other))
    (tmp_path / "x").unlink()
    assert judged(pair, disk, other, By.DOWNLOAD) is Relation.ERROR


def test_a_service_promises_its_order_and_tells_digests(moto_s3):
    sides = []
    for _ in range(2):
        bucket = moto_s3.new_bucket()
        for key in KEYS:
            moto_s3.client.put_object(Bucket=bucket, Key=f"up/{key}", Body=key.encode())
        sides.append(ObstoreStore(moto_s3.store(bucket), bucket))
    pairs = list(merge(*(Listing(store=store, prefix="up", ordered=True) for store in sides)))
    assert [pair.key for pair in pairs] == sorted(KEYS, key=str.encode)
    assert {judged(pair, *sides, By.EVIDENCE) for pair in pairs} == {Relation.MATCHED}


def test_a_key_that_obstore_cannot_list_is_listed_through_s3fs(moto_s3):
    bucket, told = moto_s3.new_bucket(), []
    keys = ("a", "b//c", "b/d", "e")
    for key in keys:
        moto_s3.client.put_object(Bucket=bucket, Key=f"up/{key}", Body=b"1")
    listing = Listing(
        store=ObstoreStore(moto_s3.store(bucket), "s3"),
        prefix="up",
        ordered=True,
        fallback=(FsspecStore(moto_s3.fs(), "s3fs"), f"{bucket}/up"),
        on_fallback=told.append,
    )
    assert tuple(pair.key for pair in merge(listing, Listing(store=memory({})))) == keys
    assert len(told) == 1


def test_memory_does_not_grow_with_the_listing():
    class Many:
        name, trusted = "many", True

        def __init__(self, count):
            self._count = count

        def list(self, prefix):
            return (ObjectMeta(path=f"{number * 7919 % self._count:09}", size=1) for number in range(self._count))

    peaks = []
    for count in (1_000, 10_000):
        tracemalloc.start()
        assert sum(1 for _ in merge(Listing(store=Many(count)), Listing(store=Many(count)))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000, peaks
