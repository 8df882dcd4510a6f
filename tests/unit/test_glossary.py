"""Each value that a command, a report, JSON or the journal has is in docs/glossary.md, and the page has no row of another one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

from migrate_storage.cli import cli
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.core.proofs import EXPLANATIONS
from migrate_storage.cutover.decisions import Phase
from migrate_storage.journal.states import LinkState, ObjectState, RowState
from tests.support import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text()
ROWS = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
TERMS = {term for row in ROWS for term in re.findall(r"`([^`]+)`", row)}


def enumerated(schema: Any) -> Iterator[str]:
    """Yield the texts that a JSON Schema enumerates."""
    if isinstance(schema, dict):
        yield from (value for value in schema.get("enum", ()) if isinstance(value, str))
        for value in schema.values():
            yield from enumerated(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from enumerated(value)


def choices(command: click.Command) -> Iterator[str]:
    """Yield the choices of a command's options, and of all commands below it."""
    for option in command.params:
        if isinstance(option.type, click.Choice):
            yield from option.type.choices
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from choices(each)


@pytest.mark.parametrize("schema", sorted(each.name for each in (ROOT / "docs" / "schemas").glob("*.json")))
def test_values_of_the_schemas(schema: str) -> None:
    assert set(enumerated(json.loads((ROOT / "docs" / "schemas" / schema).read_text()))) <= TERMS


@pytest.mark.parametrize(
    "terms", [OutcomeKind, Strategy, Phase, LinkState, ObjectState, RowState, EXPLANATIONS, list(choices(cli))], ids=str
)
def test_values_of_the_code(terms: Any) -> None:
    assert {str(term) for term in terms} <= TERMS


def test_the_jobs_and_the_sides() -> None:
    plain = {row for row in ROWS if "`" not in row}
    assert {"job", "source", "destination", "outbox", "entry", "lease", "phase", "strategy", "problem"} <= plain
