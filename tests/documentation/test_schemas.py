"""Every line of JSON that a command says is as ``docs/schemas`` has it, and says nothing that stands not there."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from migrate_storage.core.events import ItemsFinished, PaceChanged
from migrate_storage.core.model import OutcomeKind, Severity, Way
from migrate_storage.cutover.decisions import Phase
from migrate_storage.journal import SAME_PLACE_LISTED
from migrate_storage.reporting.progress.json_lines import told
from tests.documentation.test_commands import LEAVES
from tests.support.cli.project import ROOT, Project

SCHEMAS = {path.name: json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "schemas").glob("*.json"))}
LINES = SCHEMAS["line.json"]["$defs"]
SEEN: set[str] = set()

CUTOVER = """
    from pathlib import Path
    import sqlalchemy as sa
    from advanced_alchemy.types.file_object import StoredObject, storages
    from migrate_storage import CutoverBackend, ObstoreBackend
    from migrate_storage.cutover.outbox import Outbox
    from migrate_storage.database.connection import Database
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    HERE = Path(__file__).parent
    engine = sa.create_engine(f"sqlite:///{HERE}/cutover.db")
    outbox = Outbox(Database(engine), "files")
    outbox.prepare()
    sides = []
    for name in ("left", "right"):
        (HERE / name).mkdir(exist_ok=True)
        sides.append(ObstoreBackend(name, f"file://{HERE}/{name}"))
    storages.register_backend(CutoverBackend("files", *sides, outbox=outbox, phase="shared"))

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id = mapped_column(sa.Integer, primary_key=True)
        file = mapped_column(StoredObject(backend="files"))

    Base.metadata.create_all(engine)
"""


def closed(schema: Any) -> Any:
    """The schema with nothing allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "allOf" not in schema:
        inner.setdefault("additionalProperties", False)
    return inner


CLOSED = {name: closed(schema) for name, schema in SCHEMAS.items()}
OPEN = Registry().with_resources([(name, Resource.from_contents(each)) for name, each in SCHEMAS.items()])
STRICT = Registry().with_resources([(name, Resource.from_contents(each)) for name, each in CLOSED.items()])


def hold(value: Any, schema: str) -> None:
    """The value is what the schema says, and no more."""
    for registry in (OPEN, STRICT):
        errors = list(Draft202012Validator({"$ref": schema}, registry=registry).iter_errors(value))
        assert not errors, f"{schema}: {errors[0].json_path}: {errors[0].message[:500]}\n{json.dumps(value)[:500]}"


def hold_line(line: dict[str, Any]) -> None:
    """A line is as its event has it."""
    event = line["event"]
    SEEN.add(event)
    # What a line takes from another schema is closed there, without the name of the event.
    [*taken] = LINES[event].get("allOf", [])
    if taken:
        hold({name: value for name, value in line.items() if name != "event"}, taken[0]["$ref"])
    else:
        hold(line, f"line.json#/$defs/{event}")
    assert not list(Draft202012Validator({"$ref": "line.json"}, registry=OPEN).iter_errors(line))


def lines(text: str) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, text.splitlines())


def test_the_schemas_are_schemas_and_know_what_the_code_knows() -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    outcome = SCHEMAS["outcome.json"]["properties"]
    assert outcome["kind"]["enum"] == [kind.value for kind in OutcomeKind]
    assert SCHEMAS["note.json"]["properties"]["severity"]["enum"] == [each.value for each in Severity]
    assert SCHEMAS["report.json"]["properties"]["way"]["enum"] == [way.value for way in Way]
    assert LINES["cutover"]["properties"]["phase"]["enum"] == [phase.value for phase in Phase]


def test_what_no_schema_names_is_found() -> None:
    with pytest.raises(AssertionError, match="unexpected"):
        hold_line({"event": "pass_started", "number": 1, "more": 2})
    with pytest.raises(AssertionError, match="required"):
        hold_line({"event": "pass_started"})


@pytest.mark.slow
def test_what_every_command_says(project: Project) -> None:
    app, said = ("--app", "app"), set()

    def say(*words: str, schema: str = "") -> None:
        said.add(next(name for name in LEAVES if f"migrate-storage {' '.join(words)} ".startswith(f"{name} ")))
        ended = project(*words, "--json")
        assert ended.returncode in (0, 1), (words, ended.stdout, ended.stderr)
        found = [json.loads(ended.stdout)] if words[0] == "translate" else list(lines(ended.stdout))
        assert found, words
        for line in found:
            if schema:
                hold(line, schema)
            else:
                hold_line(line)

    say("inspect", *app, schema="command.json#/$defs/inspect")
    say("translate", *app, schema="command.json#/$defs/translate")
    for line in lines(project("translate", *app, "--check", "--json").stderr):
        hold_line(line)
    say("doctor", *app, "--from", "old", "--to", "new")
    prices = project.directory / "prices.toml"
    prices.write_text((ROOT / "docs" / "prices.toml").read_text())
    say("plan", *app, "--from", "old", "--to", "new", "--prices", str(prices))
    # Ten bytes a second leave the time to look at it while it goes on.
    slow = project.start("run", *app, "--from", "old", "--to", "new", "--bandwidth", "10", "--json")
    until = time.monotonic() + 60
    while '"doing": {' not in project("status", *app, "--json").stdout:
        assert time.monotonic() < until, "it never said what it does"
    say("status", *app, schema="run.json")
    say("control", "set", "--concurrency", "8", *app)
    say("runs", *app, schema="run.json")
    slow.send_signal(signal.SIGINT)
    for line in lines(slow.communicate(timeout=60)[0]):
        hold_line(line)
    for file in (project.directory / "new").rglob("3.txt"):
        file.unlink()
    (project.directory / "new" / "d").mkdir(exist_ok=True)
    (project.directory / "new" / "d" / "3.txt").write_bytes(b"another's")
    say("run", *app, "--from", "old", "--to", "new")
    say("explain", "document.file", "3", *app, schema="command.json#/$defs/explain")
    say("runs", *app, schema="run.json")
    say("status", *app, schema="run.json")
    say("status", "--ready-to-unregister", "old", *app, schema="command.json#/$defs/readiness")
    say("report", *app, schema="report.json")
    say("report", *app, "--html", "report.html")
    say("verify", *app)
    say("orphans", *app, "--key", "new", "--min-age", "0")
    say("check", "old", "new", *app)
    say("sync", "old", "new", *app, "--max-duration", "1m")
    (project.directory / "new" / "d" / "1.txt").unlink()
    say("verify", *app)
    say("revert", *app)
    say("purge", *app, "--older-than", "0s")
    say("tables", "create", *app)
    say("tables", "prune", *app, "--older-than", "1d")
    say("tables", "drop", *app, "--yes")
    say("init", *app, "--from", "old", "--to", "new", "--force")
    (project.directory / "migrate-storage.toml").unlink()
    (project.directory / "broken.py").write_text("from x import FSSpecBackend\ndef (")
    refused = ROOT / "tests" / "convert" / "refusals" / "01_no_prefix.before"
    (project.directory / "refused.py").write_text(refused.read_text())
    say("convert", ".")
    say("demo", "--directory", "example")
    project.write(CUTOVER, "cutover_app.py")
    cutover = ("--app", "cutover_app")
    say("cutover", "status", *cutover)
    say("cutover", "ready", *cutover)
    say("cutover", "advance", *cutover)
    (project.directory / "left" / "a.txt").write_bytes(b"content")
    (project.directory / "right" / "other.txt").write_bytes(b"content")
    say("cutover", "ready", *cutover)
    say("cutover", "repair", "--all", *cutover)
    say("cutover", "retreat", *cutover)

    with_json = {name for name, command in LEAVES.items() if any("--json" in each.opts for each in command.params)}
    assert with_json - said == set(), "commands that nobody asked"
    # A pace that changes is told by a run that a service slows down.
    event, values = told(PaceChanged(concurrency=8, most_concurrency=32, paused=""))
    hold_line({"event": event, **values})
    # And a re-key in PostgreSQL tells many at once.
    event, values = told(ItemsFinished(objects=3, rows=4, kind=OutcomeKind.REWRITTEN, evidence=SAME_PLACE_LISTED))
    hold_line({"event": event, **values})
    assert set(LINES) - SEEN == set(), "events that nobody saw"
