"""Commands that need one place, where a key is a CutoverBackend: a side of it, or one line with the remedy."""

from __future__ import annotations

import json

import pytest

from tests.support.cli.project import Project
from tests.support.cutover.phases import PhasesApplication


@pytest.fixture
def application(empty: Project) -> PhasesApplication:
    made = PhasesApplication(empty)
    made.begin()
    made.register_cutover()
    return made


def test_each_names_the_remedy_in_one_line(application: PhasesApplication) -> None:
    answers = application.ask(
        ("plan", "--from", "uploads", "--to", "inbox"), ("run", "--from", "inbox", "--to", "uploads"),
        ("run", "--from", "uploads"), ("revert",), ("check", "inbox", "uploads"), ("sync", "uploads", "inbox"),
        ("doctor", "--from", "inbox", "--to", "uploads"), ("doctor", "--from", "uploads", "--to", "inbox"),
    )  # fmt: skip
    for answer in answers:
        assert answer.code == 2, answer
        assert answer.text.count("\n") == 1, answer
        assert "'uploads' is a CutoverBackend, which is two places ('old' and 'new')" in answer.text
        assert "'migrate-storage cutover repair --all'" in answer.text


def test_translate_writes_the_side_that_is_to_be_replaced(application: PhasesApplication) -> None:
    (written,) = application.ask(("translate", "--from", "uploads", "--check"))
    assert written.code == 0, written
    assert '"old"' in written.text
    assert "/srv/acme/old" in written.text
    assert "old: 4 objects, the same bytes through both sides" in written.text


def test_json_has_the_state(application: PhasesApplication) -> None:
    inspected, status = application.ask(("inspect", "--json"), ("status", "--json"))
    uploads = next(each for each in json.loads(inspected.text)["backends"] if each["key"] == "uploads")
    assert uploads["cutover"]["phase"] == "source"
    assert uploads["sides"]["source"] == {"key": "old", "place": "fsspec (file), translates to file:///srv/acme/old"}
    assert uploads["notes"] == []
    assert [each["key"] for each in json.loads(status.text)["cutovers"]] == ["uploads"]
