"""What is read from a row and written back: nothing but the changed files of it is ever another value."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots, rewrite_value
from migrate_storage.database.primary_keys import dump_key, load_key, row_id

FILES = Column(table="t", column="f", key=("id",))

PARTS = st.one_of(
    st.integers(), st.text(), st.booleans(), st.none(), st.floats(allow_nan=False), st.binary(), st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False), st.datetimes(timezones=st.sampled_from([None, datetime.UTC])), st.dates(),
)  # fmt: skip


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_a_key_comes_back_from_the_journal_with_its_types(parts: list[Any]) -> None:
    back = load_key(dump_key(parts))
    assert back == tuple(parts)
    assert [type(part) for part in back] == [type(part) for part in parts]


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), ("1",)), ((b"1",), ("1",)), ((1, 2), ("1,2",)), ((True,), (1,)), ((decimal.Decimal("1.0"),), (decimal.Decimal(1),))],
)  # fmt: skip
def test_keys_that_look_alike_are_two(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert dump_key(one) != dump_key(other)
    assert row_id(FILES, one) != row_id(FILES, other)


def test_a_key_that_no_journal_can_hold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a primary key of type list cannot be journaled.*--column"):
        dump_key([[1]])


def test_row_ids_tell_tables_columns_and_schemas_apart() -> None:
    columns = [
        Column(table=table, column=column, schema=schema, key=("id",))
        for table in "ab" for column in "ab" for schema in (None, "a", "b")
    ]  # fmt: skip
    assert len({row_id(column, (uuid.UUID(int=1),)) for column in columns}) == len(columns) == 12


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries({"backend": st.text(), "filename": st.text(min_size=1), "more": VALUES})
CHANGE = {"backend": "new", "filename": "n", "size": 3}


@given(ENTRIES)
def test_only_what_changes_is_another_value(entry: dict[str, Any]) -> None:
    value = json.dumps(entry)
    [slot] = parse_slots(FILES, Row((1,), value))
    assert (slot.file, slot.ref.index) == (entry, None)
    written = json.loads(rewrite_value(value, {None: CHANGE}))
    assert written == {**entry, **CHANGE}
    assert list(written) == list({**entry, **CHANGE})


@given(st.lists(st.none() | ENTRIES, max_size=5), st.data())
def test_in_a_list_only_the_changed_places_are_other_values(entries: list[Any], data: st.DataObject) -> None:
    value = json.dumps(entries)
    slots = parse_slots(FILES, Row((1,), value))
    assert [slot.ref.index for slot in slots] == [i for i, entry in enumerate(entries) if entry is not None]
    chosen = {slot.ref.index for slot in slots if data.draw(st.booleans())}
    written = json.loads(rewrite_value(value, dict.fromkeys(chosen, CHANGE)))
    assert written == [{**entry, **CHANGE} if i in chosen else entry for i, entry in enumerate(entries)]


@pytest.mark.parametrize("literal", ["0.1", "1e22", "1E-7", "-0.0", "1.50", "123456789012345678901234567890", "1e308"])
def test_numbers_that_are_kept(literal: str) -> None:
    value = f'{{"backend": "b", "filename": "f", "n": {literal}}}'
    assert json.loads(rewrite_value(value, {None: CHANGE}))["n"] == json.loads(literal)


@pytest.mark.parametrize("literal", ["0.1000000000000000055511151231257827", "1e400", "NaN", "Infinity", "-Infinity"])
def test_numbers_that_would_not_be_are_refused(literal: str) -> None:
    value = f'{{"backend": "b", "filename": "f", "n": {literal}}}'
    with pytest.raises(BrokenValueError):
        rewrite_value(value, {None: CHANGE})
    with pytest.raises(BrokenValueError):
        parse_slots(FILES, Row((1,), value))


@pytest.mark.parametrize("value", ["null", "[]", "[null, null]"])
def test_rows_without_a_file(value: str) -> None:
    assert parse_slots(FILES, Row((1,), value)) == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "not JSON"), ("{", "not JSON"), ("[" * 100_000, "not JSON"), ('"text"', "holds a str"), ("1", "holds a int"), ("[[]]", "holds a list"),
        ("{}", "names no backend"), ('{"backend": 1, "filename": "f"}', "names no backend"),
        ('{"backend": "b"}', "no filename"), ('{"backend": "b", "filename": ""}', "no filename"),
        ('{"backend": "b", "filename": null}', "no filename"), ('{"a": 1, "a": 1}', "same key twice"),
    ],
)  # fmt: skip
def test_values_that_no_file_object_wrote(value: str, says: str) -> None:
    with pytest.raises(BrokenValueError, match=says):
        parse_slots(FILES, Row((1,), value))
