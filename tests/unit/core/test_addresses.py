"""An address of a moved object is found in each of its spellings, and nothing else is; a change keeps the spelling."""

from __future__ import annotations

import html
import json
from collections.abc import Collection
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.core import address_text
from migrate_storage.core.address_text import ends_address
from migrate_storage.core.addresses import (
    Address,
    AddressBase,
    AddressFinder,
    AddressKind,
    apply_edits,
    edit_of,
    undo_edits,
)
from migrate_storage.core.errors import ConfigurationError

OLD, NEW = "https://old.example/media/", "https://files.new/b/"


class Names:
    """A set of moved objects in memory."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = set(names)
        self.longest = max(map(len, names))
        self.odd = {char for name in names for char in name if ends_address(char)}

    def find(self, names: Collection[str]) -> set[str]:
        return self.names.intersection(names)


MOVED = Names(
    ["a.png", "docs/a b.png", "docs/ü.png", "a&b.png", "x(1).png", "dot.", "it's.png", "50%.png", "a,b.png", "日本.png"]
)


def finder(names: Names = MOVED, *bases: AddressBase) -> AddressFinder:
    return AddressFinder(bases or [AddressBase.parse(OLD, "--from-address")], names)


def found(text: str, names: Names = MOVED) -> list[Address]:
    return finder(names).find(text)


def rewritten(text: str, names: Names = MOVED, *bases: AddressBase) -> str:
    """The text with its addresses written anew, after a check that the change can be undone."""
    edits = [edit_of(text, each, NEW, each.name) for each in finder(names, *bases).find(text) if each.kind == "moved"]
    changed = apply_edits(text, edits)
    assert undo_edits(changed, edits) == text
    return changed


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (f"{OLD}a.png", f"{NEW}a.png"),
        (f"see {OLD}a.png.", f"see {NEW}a.png."),
        (f"{OLD}a.png, {OLD}a.png; and ({OLD}a.png)!", f"{NEW}a.png, {NEW}a.png; and ({NEW}a.png)!"),
        (f"**{OLD}a.png** _{OLD}a.png_", f"**{NEW}a.png** _{NEW}a.png_"),
        (f"![x]({OLD}a.png)text [y]({OLD}x(1).png)", f"![x]({NEW}a.png)text [y]({NEW}x(1).png)"),
        (f"[img]{OLD}a.png[/img] <{OLD}a.png> |{OLD}a.png|", f"[img]{NEW}a.png[/img] <{NEW}a.png> |{NEW}a.png|"),
        (f"{OLD}dot.. {OLD}dot.", f"{NEW}dot.. {NEW}dot."),
        (f'<img src="{OLD}docs/a%20b.png?v=1#x">', f'<img src="{NEW}docs/a%20b.png?v=1#x">'),
        (f'<img srcset="{OLD}a.png 1x, {OLD}docs/ü.png 2x">', f'<img srcset="{NEW}a.png 1x, {NEW}docs/ü.png 2x">'),
        (f"<img src='{OLD}a.png' alt='x'> {OLD}it's.png", f"<img src='{NEW}a.png' alt='x'> {NEW}it's.png"),
        (f"<p style='background:url({OLD}a.png);x:y'>", f"<p style='background:url({NEW}a.png);x:y'>"),
        (f'<p style="background:url(&quot;{OLD}a.png&quot;)">', f'<p style="background:url(&quot;{NEW}a.png&quot;)">'),
        (f"<img src={OLD}a.png>", f"<img src={NEW}a.png>"),
        (f"{OLD}docs/%c3%bc.png {OLD}docs/%C3%BC.png", f"{NEW}docs/%c3%bc.png {NEW}docs/%C3%BC.png"),
        (f"{OLD}%61.png {OLD}a%2Epng {OLD}docs%2Fa%20b.png", f"{NEW}%61.png {NEW}a%2Epng {NEW}docs%2Fa%20b.png"),
        (f"{OLD}docs/a b.png and more", f"{NEW}docs/a b.png and more"),
        (f"{OLD}50%.png {OLD}50%25.png", f"{NEW}50%.png {NEW}50%25.png"),
        (f"{OLD}a&amp;b.png {OLD}a&#38;b.png", f"{NEW}a&amp;b.png {NEW}a&#38;b.png"),
        (f"{OLD}a&b.png&nbsp;next", f"{NEW}a&b.png&nbsp;next"),
        (f"{OLD}a.png,{OLD}a,b.png", f"{NEW}a.png,{NEW}a,b.png"),
        (f"?u={OLD}a.png&w=100", f"?u={NEW}a.png&w=100"),
        (f"「{OLD}日本.png」{OLD}a.png。", f"「{NEW}日本.png」{NEW}a.png。"),
        (f"{OLD}a.png\n{OLD}a.png\t", f"{NEW}a.png\n{NEW}a.png\t"),
        (json.dumps({"u": f"{OLD}docs/ü.png"}), json.dumps({"u": f"{NEW}docs/ü.png"})),
        (json.dumps(f"a\n{OLD}a.png\n"), json.dumps(f"a\n{NEW}a.png\n")),
        ("https:\\/\\/old.example\\/media\\/docs\\/a%20b.png", "https:\\/\\/files.new\\/b\\/docs\\/a%20b.png"),
        (
            "https:\\u002F\\u002fold.example\\u002Fmedia\\u002Fa.png",
            "https:\\u002F\\u002Ffiles.new\\u002Fb\\u002Fa.png",
        ),
        (
            "https&#58;&#x2F;&#x2F;old.example&#x2F;media&#x2F;a.png",
            "https&#58;&#x2F;&#x2F;files.new&#x2F;b&#x2F;a.png",
        ),
    ],
)
def test_an_address_is_written_anew_in_its_spelling(text: str, changed: str) -> None:
    assert rewritten(text) == changed


@pytest.mark.parametrize(
    "text",
    [
        f"{OLD}a.png.bak", f"{OLD}a.png2", f"{OLD}a.png/", f"{OLD}a.pn", f"{OLD}A.png", f"{OLD}sub/a.png", f"{OLD}a.png-1",
        f"{OLD}a.png~1", f"{OLD}a.png=1", f"{OLD}a.png+1", f"{OLD}a.png@2x", f"{OLD}a.png$", f"{OLD}a.png%20", f"{OLD}a.png%",
        f"{OLD}/a.png", f"{OLD}./a.png", f"{OLD}x/../a.png", f"{OLD}a.png.{OLD}", f'"{OLD}a.png."', f'href="{OLD}a.png)text"',
        f"{OLD}a.pngをご覧", f"{OLD}%C3a.png", f"{OLD}%FFa.png", f"{OLD}", "https://old.example/media", f"{OLD}?a.png", f"{OLD}#a.png",
        "https://old.example/other/a.png", "https://old.example.evil.com/media/a.png", "https://very-old.example/media/a.png",
        "https://xold.example/media/a.png", "ftp://old.example/media/a.png", "old.example/media/a.png", "mailto:x@old.example/media/a.png",
    ],
)  # fmt: skip
def test_what_names_no_moved_object_stays(text: str) -> None:
    assert rewritten(text) == text
    assert {each.kind for each in found(text)} <= {AddressKind.UNMOVED}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{OLD}a.png?X-Amz-Algorithm=A&amp;X-Amz-Signature=1", "signed"),
        (f"{OLD}a.png?AWSAccessKeyId=1&Signature=2", "signed"),
        (f"{OLD}a.png?sv=1&sig=2", "signed"),
        (f"{OLD}a.png?versionId=1", "of one version"),
        ("http://old.example/media/a.png", "http in place of https"),
        ("//old.example/media/a.png", "without a scheme"),
        ('src=\\"\\/\\/old.example\\/media\\/a.png\\"', "without a scheme"),
        ("HTTPS://old.example/media/a.png", "another spelling of its host"),
        ("https://Old.example/media/a.png", "another spelling of its host"),
        ("https://old.example:443/media/a.png", "another spelling of its host"),
        (f"https://web.archive.org/web/2020/{OLD}a.png", "inside of another address"),
        (f"?u={quote(OLD, safe='')}a.png&w=1", "encoded as a whole"),
        (f"?u={quote(quote(OLD, safe=''), safe='')}a.png", "encoded as a whole"),
        (f"?u={quote(OLD + 'docs/a%20b.png', safe='')}", "encoded as a whole"),
        (f"{OLD}docs/a+b.png", "a plus for a space"),
        (f"{OLD}docs/u\u0308.png", "another Unicode form"),
    ],
)
def test_other_spellings_are_recognised_and_not_changed(text: str, reason: str) -> None:
    assert rewritten(text) == text
    assert [(each.kind, each.reason) for each in found(text)] == [(AddressKind.UNCHANGED, reason)]


def test_the_longest_name_that_was_moved_is_taken() -> None:
    names = Names(["a.png", "a.png.bak", "a", "a.png)", "a.png."])
    assert [each.name for each in found(f"{OLD}a.png.bak {OLD}a.png {OLD}a {OLD}a.png) {OLD}a.png.", names)] == [
        "a.png.bak", "a.png", "a", "a.png)", "a.png.",
    ]  # fmt: skip


def test_two_objects_that_may_be_meant_are_left() -> None:
    both = Names(["a&b.png", "a&amp;b.png"])
    assert [each.reason for each in found(f"{OLD}a&amp;b.png {OLD}a&b.png", both)] == ["two objects may be meant", ""]


def test_the_base_with_the_longer_path_is_taken_and_aliases_are_not_changed() -> None:
    bases = [
        AddressBase.parse("https://h/", "x"), AddressBase.parse("https://h/b/=deep/", "x"),
        AddressBase(scheme="https", host="other", path="/b/", reason="another host of the same place"),
    ]  # fmt: skip
    names = Names(["a.png", "deep/a.png"])
    text = "https://h/b/a.png https://h/a.png https://other/b/a.png"
    assert [(each.name, each.reason) for each in finder(names, *bases).find(text)] == [
        ("deep/a.png", ""), ("a.png", ""), ("a.png", "another host of the same place"),
    ]  # fmt: skip


def test_a_path_counts_where_it_is_an_address_by_itself() -> None:
    base = AddressBase.parse("/media/", "--from-address")
    text = f'<img src="/media/a.png"> {OLD}a.png x/media/a.png "\\/media\\/a.png" (/media/a.png)'
    assert rewritten(text, MOVED, base) == (
        f'<img src="{NEW}a.png"> {OLD}a.png x/media/a.png "{NEW.replace("/", chr(92) + "/")}a.png" ({NEW}a.png)'
    )


def test_a_new_path_is_encoded_and_what_both_end_with_stays() -> None:
    text = '"https:\\/\\/old.example\\/media\\/docs\\/a%20b.png"'
    [address] = found(text)
    edit = edit_of(text, address, NEW, "mine/ö/docs/a b.png", "mine/")
    assert apply_edits(text, [edit]) == '"https:\\/\\/files.new\\/b\\/%C3%B6\\/docs\\/a%20b.png"'
    whole = edit_of(text, address, NEW, "other name.jpg")
    assert apply_edits(text, [whole]) == '"https:\\/\\/files.new\\/b\\/other%20name.jpg"'


@pytest.mark.parametrize(
    "text",
    [
        "https://u:secret@host/", "https://host/?q=1", "https://host/#x", "ftp://host/", "host/", "https://", "/", "https://h:x/",
        "https://hö/", "https://h/a b/", 'https://h/"/', "//host/", "https://h/(x)/",
    ],
)  # fmt: skip
def test_what_is_no_base_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        AddressBase.parse(text, "--from-address")
    assert (
        str(error.value).startswith("--from-address")
        and "\n" not in str(error.value)
        and "secret" not in str(error.value)
    )


def test_a_base_address_in_its_forms() -> None:
    assert str(AddressBase.parse("HTTPS://Host:443/a%20b", "x")) == "https://host/a%20b/"
    assert AddressBase.parse("https://host/=bucket/", "x") == AddressBase(scheme="https", host="host", folder="bucket/")
    assert AddressBase.parse("http://host:9000/b", "x") == AddressBase(scheme="http", host="host:9000", path="/b/")


HOSTILE = {
    "backslashes": "\\" * 4000, "escaped slashes": "\\/" * 2000, "slashes": "/" * 4000, "entities": "&amp" * 1000,
    "one long name": OLD + "a" * 4000, "spaces": OLD + "a " * 2000, "percent": OLD + "%41" * 1300, "parentheses": OLD + ")" * 4000,
    "bases": OLD * 200, "queries": f"{OLD}a.png?" * 150, "addresses": f"{OLD}a.png " * 150, "dots": (OLD + "." * 100) * 30,
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_each_character_is_read_a_bounded_number_of_times(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, calls = address_text._read_token, []
    monkeypatch.setattr(address_text, "_read_token", lambda *given: calls.append(1) or read(*given))
    found(text)
    assert len(calls) <= 3 * len(text)


def percent(name: str) -> str:
    return quote(name, safe="/")


def entities(name: str) -> str:
    return html.escape(name, quote=True)


def in_json(name: str) -> str:
    return json.dumps(name)[1:-1].replace("/", "\\/")


SPELLINGS = [
    lambda name: percent(name), lambda name: percent(name).lower() if name.islower() else percent(name),
    lambda name: entities(percent(name)), lambda name: in_json(percent(name)), lambda name: in_json(entities(percent(name))),
    lambda name: json.dumps(in_json(percent(name)))[1:-1],
]  # fmt: skip
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Cn"])
NAME = st.text(LETTERS, min_size=1, max_size=12).filter(lambda name: name.strip("/") == name)
AROUND = st.sampled_from(["", " ", '"', "'", "(", ")", "<a href=", ">", "\n", " and ", ", ", "&quot;", "\\n", ". "])


@given(st.lists(NAME, min_size=1, max_size=4, unique=True), st.data())
def test_nothing_but_addresses_changes_and_the_way_back_is_exact(names: list[str], data: st.DataObject) -> None:
    parts = []
    for _ in range(data.draw(st.integers(0, 5))):
        spell = data.draw(st.sampled_from(SPELLINGS))
        name = data.draw(st.sampled_from(names) | NAME)
        base = in_json(OLD) if data.draw(st.booleans()) else OLD
        parts += [data.draw(AROUND | st.text(max_size=5)), base, spell(name), data.draw(AROUND | st.text(max_size=5))]
    text = "".join(parts)
    moved = Names(names)
    addresses = finder(moved).find(text)
    edits = [edit_of(text, each, NEW, each.name) for each in addresses if each.kind == "moved"]
    changed = apply_edits(text, edits)
    assert undo_edits(changed, edits) == text
    # Outside of the changes both texts are the same, and the changes are in order.
    position = 0
    for edit in edits:
        assert edit.start >= position and text.startswith(edit.old, edit.start)
        position = edit.start + len(edit.old)
    # No address of a moved object is left in a spelling that can be changed.
    assert [each for each in finder(moved).find(changed) if each.kind == "moved"] == []


@given(NAME, st.sampled_from(SPELLINGS), st.sampled_from([" ", '"', "<", "\n", ""]))
def test_each_spelling_of_each_name_is_found(name: str, spell: object, after: str) -> None:
    text = f"x {OLD}{spell(name)}{after}"  # type: ignore[operator]
    assert [(each.kind, each.name) for each in found(text, Names([name]))] == [(AddressKind.MOVED, name)]
