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
from migrate_storage.database.file_json import (
    BrokenValueError,
    Row,
    SlotPath,
    exchange_files,
    parse_single_file,
    parse_slots,
    rewrite_value,
    set_fields,
)
from migrate_storage.database.primary_keys import dump_key, load_key, row_id

FILES = Column(table="t", column="f", key=("id",))
DOCUMENTS = Column(table="t", column="f", key=("id",), nested=True)

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
    with pytest.raises(ConfigurationError, match="a primary key of type list cannot be journaled.*--columns"):
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
    assert (slot.file, slot.ref.path) == (entry, ())
    written = json.loads(rewrite_value(value, {(): CHANGE}))
    assert written == {**entry, **CHANGE}
    assert list(written) == list({**entry, **CHANGE})


@given(st.lists(st.none() | ENTRIES, max_size=5), st.data())
def test_in_a_list_only_the_changed_places_are_other_values(entries: list[Any], data: st.DataObject) -> None:
    value = json.dumps(entries)
    slots = parse_slots(FILES, Row((1,), value))
    assert [slot.ref.path for slot in slots] == [(i,) for i, entry in enumerate(entries) if entry is not None]
    chosen = {slot.ref.path for slot in slots if data.draw(st.booleans())}
    written = json.loads(rewrite_value(value, dict.fromkeys(chosen, CHANGE)))
    assert written == [{**entry, **CHANGE} if (i,) in chosen else entry for i, entry in enumerate(entries)]


@pytest.mark.parametrize("literal", ["0.1", "1e22", "1E-7", "-0.0", "1.50", "123456789012345678901234567890", "1e308"])
def test_numbers_that_are_kept(literal: str) -> None:
    value = f'{{"backend": "b", "filename": "f", "n": {literal}}}'
    assert json.loads(rewrite_value(value, {(): CHANGE}))["n"] == json.loads(literal)


@pytest.mark.parametrize("literal", ["0.1000000000000000055511151231257827", "1e400", "NaN", "Infinity", "-Infinity"])
def test_numbers_that_would_not_be_are_refused(literal: str) -> None:
    value = f'{{"backend": "b", "filename": "f", "n": {literal}}}'
    with pytest.raises(BrokenValueError):
        rewrite_value(value, {(): CHANGE})
    with pytest.raises(BrokenValueError):
        parse_slots(FILES, Row((1,), value))


@pytest.mark.parametrize("value", ["null", "[]", "[null, null]"])
def test_rows_without_a_file(value: str) -> None:
    assert parse_slots(FILES, Row((1,), value)) == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "not JSON"), ("{", "not JSON"), ("[" * 100_000, "not JSON"), ('"text"', "has a str"), ("1", "has a int"), ("[[]]", "has a list"),
        ("{}", "names no backend"), ('{"backend": 1, "filename": "f"}', "names no backend"),
        ('{"backend": "b"}', "no filename"), ('{"backend": "b", "filename": ""}', "no filename"),
        ('{"backend": "b", "filename": null}', "no filename"), ('{"a": 1, "a": 1}', "same key twice"),
    ],
)  # fmt: skip
def test_values_that_no_file_object_wrote(value: str, says: str) -> None:
    with pytest.raises(BrokenValueError, match=says):
        parse_slots(FILES, Row((1,), value))


# -- files anywhere in a document

FILE = st.fixed_dictionaries(
    {"backend": st.sampled_from(["old", "new", 'ö/"\\']), "filename": st.text(min_size=1, max_size=5)},
    optional={"size": st.none() | st.integers(), "metadata": VALUES, "caption": VALUES},
)
ALMOST_FILES = st.sampled_from(
    [
        {"backend": "old"}, {"filename": "f"}, {"backend": "old", "filename": ""}, {"backend": None, "filename": "f"},
        {"backend": ["old"], "filename": "f"}, '{"backend": "old", "filename": ', "the backend 'old' has a filename",
        '["backend filename"] and more', "C:\\u0062ackend", '"', "[", "{",
    ]
)  # fmt: skip


def _encode(value: Any, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only)


NESTED = st.recursive(
    FILE | VALUES | ALMOST_FILES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(_encode, inner, st.booleans())
        | st.builds(lambda file, more: {**file, "metadata": more}, FILE, inner)
    ),
    max_leaves=10,
)


def files_of(value: Any, path: SlotPath = ()) -> dict[SlotPath, dict[str, Any]]:
    """All files of a document in order, as the definition has it."""
    found: dict[SlotPath, dict[str, Any]] = {}
    if isinstance(value, str):
        try:
            return files_of(json.loads(value), path)
        except (ValueError, RecursionError):
            return {}
    if isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("backend", "filename")):
        found.update({path: value} if value["filename"] else {})
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found.update(files_of(inner, (*path, name)))
    return found


def plain(value: Any) -> Any:
    """The document with strings of JSON decoded where they contain a file: their spelling may change."""
    if isinstance(value, str):
        return {"JSON": plain(json.loads(value))} if files_of(value) else value
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def with_changes(value: Any, changes: dict[SlotPath, dict[str, Any]], path: SlotPath = ()) -> Any:
    """A plain document with some fields of files changed."""
    if isinstance(value, dict) and value.keys() == {"JSON"}:
        return {"JSON": with_changes(value["JSON"], changes, path)}
    if isinstance(value, dict):
        value = {**value, **changes.get(path, {})}
        return {name: with_changes(inner, changes, (*path, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_changes(inner, changes, (*path, i)) for i, inner in enumerate(value)]
    return value


@given(NESTED, st.booleans(), st.data())
def test_in_a_document_every_file_is_found_and_only_changed_files_are_other_values(
    document: Any, ascii_only: bool, data: st.DataObject
) -> None:
    value = json.dumps(document, ensure_ascii=ascii_only)
    slots = parse_slots(DOCUMENTS, Row((1,), value))
    expected = files_of(document)
    assert [(slot.ref.path, slot.file) for slot in slots] == list(expected.items())
    chosen = {path: CHANGE for path in expected if data.draw(st.booleans())}
    written = json.loads(rewrite_value(value, chosen))
    assert plain(written) == with_changes(plain(document), chosen)


@pytest.mark.parametrize("word", ["backend", "filename", "old"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_each_character_may_be_spelled_by_its_number(word: str, depth: int) -> None:
    value = '{"a": [{"backend": "old", "filename": "f"}]}'
    spelled = "".join(f"\\u{ord(char):04{'xX'[i % 2]}}" for i, char in enumerate(word))
    value = value.replace(word, spelled)
    for _ in range(depth):
        value = json.dumps({"text": value})
    path = ("text",) * depth + ("a", 0)
    [slot] = parse_slots(DOCUMENTS, Row((1,), value))
    assert (slot.ref.path, slot.file["backend"], slot.file["filename"]) == (path, "old", "f")
    [slot] = parse_slots(DOCUMENTS, Row((1,), rewrite_value(value, {path: CHANGE})))
    assert slot.file == CHANGE


@pytest.mark.parametrize(
    "value",
    ["", "plain text", "old", "{'backend': 'x'}", '{"backend": 1}', "1e400", '{"a": 1, "a": 2}', "[" * 100_000, "NaN",
     '{"n": 0.1000000000000000055511151231257827}', "C:\\users\\u"],
)  # fmt: skip
def test_what_cannot_hold_a_file_is_no_broken_document(value: str) -> None:
    assert parse_slots(DOCUMENTS, Row((1,), value)) == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{'backend': 'old', 'filename': 'f'}", "not JSON"),
        ('{"a": {"backend": "old", "filename": "f"}', "not JSON"),
        ('{"a": {"backend": "old", "backend": "old", "filename": "f"}}', "same key twice"),
        ('{"a": {"backend": "old", "filename": "f"}, "n": 1e400}', "cannot be kept exactly"),
        (json.dumps(['{"backend": "old", "filename": "f", "n": NaN}']), "has NaN"),
    ],
)
def test_a_document_that_may_hold_a_file_and_cannot_be_written_back_is_broken(value: str, says: str) -> None:
    with pytest.raises(BrokenValueError, match=says):
        parse_slots(DOCUMENTS, Row((1,), value))


def test_a_document_too_deep_to_be_written_is_broken() -> None:
    deep: Any = {"backend": "old", "filename": "f"}
    for _ in range(400):
        deep = [deep]
    value = json.dumps(deep)
    [slot] = parse_slots(DOCUMENTS, Row((1,), value))
    for _ in range(600):
        value = f"[{value}]"
    try:
        slots = parse_slots(DOCUMENTS, Row((1,), value))
        rewrite_value(value, {slots[0].ref.path: CHANGE})
    except BrokenValueError as error:
        assert "deep" in str(error) or "not JSON" in str(error)
    else:
        pytest.fail("the limit of the interpreter is higher than this test expects")


# -- what a run wrote is taken back out of a document that the application changed


OURS = {"backend": "moved", "filename": "m", "size": 7, "version_id": None}


@given(NESTED, NESTED)
def test_what_was_written_is_taken_back_and_what_the_application_wrote_since_stays(document: Any, more: Any) -> None:
    before = json.dumps({"kept": document, "more": None})
    moved = [path for path, file in files_of(json.loads(before)).items() if file["backend"] == "old"]
    after = rewrite_value(before, dict.fromkeys(moved, OURS))
    now = json.dumps({"added": more, **json.loads(after), "more": more})
    back = exchange_files(now, after, before)
    assert (back is None) is (not moved)
    expected = {"added": more, "kept": document, "more": more}
    assert plain(json.loads(back or now)) == plain(expected)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), st.data())
def test_files_are_taken_back_wherever_the_application_put_them(numbers: list[int], data: st.DataObject) -> None:
    old = [{"backend": "old", "filename": f"f{number}", "size": None} for number in numbers]
    new = [{"backend": "new", "filename": f"f{number}", "size": number, "etag": "e"} for number in numbers]
    left = data.draw(st.permutations(range(len(numbers))))[: data.draw(st.integers(0, len(numbers)))]
    own = {"backend": "new", "filename": "own", "size": 1}
    now = {"first": own, "rest": [{**new[i], "caption": i} for i in left]}
    back = exchange_files(json.dumps(now), json.dumps(new), json.dumps(old))
    assert (back is None) is (not left)
    assert json.loads(back or json.dumps(now)) == {"first": own, "rest": [{**old[i], "caption": i} for i in left]}


@pytest.mark.parametrize("field", ["backend", "filename", "size", "etag"])
def test_a_file_that_the_application_wrote_again_is_not_taken_back(field: str) -> None:
    old, new = {"backend": "old", "filename": "f"}, {"backend": "new", "filename": "f", "size": 1, "etag": "e"}
    now = {"gallery": [{**new, field: "another"}]}
    assert exchange_files(json.dumps(now), json.dumps({"gallery": [new]}), json.dumps({"gallery": [old]})) is None


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.text(), ANY_JSON), st.dictionaries(st.text(), SCALARS), st.sampled_from([None, 1, "\t"]))
def test_fields_are_set_and_all_else_stays(value: dict[str, Any], fields: dict[str, Any], indent: Any) -> None:
    assert json.loads(set_fields(json.dumps(value, indent=indent), fields)) == value | fields


def test_numbers_that_python_writes_otherwise_stay_as_they_are() -> None:
    value = '{ "a" :1.10, "b": [1e400, {"c,": "}"}], "backend":"old" }'
    assert set_fields(value, {"backend": "new", "size": 1}) == (
        '{"a": 1.10, "b": [1e400, {"c,": "}"}], "backend": "new", "size": 1}'
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"metadata": {"a": 1}},
        {"metadata": {"inner": {"backend": "old", "filename": "g"}}},
        {"metadata": '{"backend": "old", "filename": "g"}'},
        {"filename": ""},
        {"filename": 7},
    ],
)
def test_a_single_file_is_one_that_has_no_other_inside(more: dict[str, Any]) -> None:
    value = json.dumps({"backend": "old", "filename": "f", **more})
    try:
        slots = parse_slots(FILES, Row((1,), value))
    except BrokenValueError:
        slots = ()
    assert parse_single_file(value) == (json.loads(value) if [slot.ref.path for slot in slots] == [()] else None)
    assert parse_single_file(f"[{value}]") is None
    assert parse_single_file(value.replace("backend", "\\u0062ackend")) is None
