"""Every line of JSON that a command says is as ``docs/schemas`` has it, and says nothing that stands not there."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from migrate_storage.core.events import CensusAdvanced, ObjectsFinished, ThrottleChanged
from migrate_storage.core.model import OutcomeKind, Severity, Strategy
from migrate_storage.core.proofs import SAME_OBJECT_LISTING
from migrate_storage.cutover.decisions import Phase
from migrate_storage.reporting.combined import CombinedReport, PairNotDone
from migrate_storage.reporting.progress.json_lines import describe
from tests.support.cli.commands import LEAVES
from tests.support.cli.project import ROOT, Project
from tests.support.schemas import LINES, SCHEMAS, SEEN, check_record, check_schema

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


def lines(text: str) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, text.splitlines())


def test_the_schemas_are_schemas_and_know_what_the_code_knows() -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    outcome = SCHEMAS["outcome.json"]["properties"]
    assert outcome["kind"]["enum"] == [kind.value for kind in OutcomeKind]
    assert SCHEMAS["note.json"]["properties"]["severity"]["enum"] == [each.value for each in Severity]
    assert SCHEMAS["report.json"]["properties"]["strategy"]["enum"] == [each.value for each in Strategy]
    assert LINES["cutover"]["properties"]["phase"]["enum"] == [phase.value for phase in Phase]


def test_what_no_schema_names_is_found() -> None:
    with pytest.raises(AssertionError, match="unexpected"):
        check_record({"event": "pass_started", "number": 1, "more": 2})
    with pytest.raises(AssertionError, match="required"):
        check_record({"event": "pass_started"})


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
                check_schema(line, schema)
            else:
                check_record(line)

    say("inspect", *app, schema="command.json#/$defs/inspect")
    say("translate", *app, schema="command.json#/$defs/translate")
    for line in lines(project("translate", *app, "--check", "--json").stderr):
        check_record(line)
    say("doctor", *app, "--from", "old", "--to", "new")
    prices = project.directory / "prices.toml"
    prices.write_text((ROOT / "docs" / "prices.toml").read_text())
    say("plan", *app, "--from", "old", "--to", "new", "--prices", str(prices))
    # At 5 bytes a second the run lasts for 20 seconds, in which the next commands find it at work.
    slow = project.start("run", *app, "--from", "old", "--to", "new", "--bandwidth", "5", "--json")
    until = time.monotonic() + 120
    while '"progress": {' not in project("status", *app, "--json").stdout:
        assert time.monotonic() < until, "it never said what it does"
    say("status", *app, schema="run.json")
    say("control", "set", "--concurrency", "8", *app)
    say("runs", *app, schema="run.json")
    slow.send_signal(signal.SIGINT)
    for line in lines(slow.communicate(timeout=60)[0]):
        check_record(line)
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
    say("links", *app, "--from-address", "https://old.example/")
    linked = ("--from-address", "https://old.example/", "--to-address", "https://new.example/", "--rewrite", "--yes")
    say("links", *app, *linked)
    undone = next(line for line in lines(project("runs", *app, "--json").stdout) if line["kind"] == "links")
    say("revert", undone["id"], *app)
    say("check", "old", "new", *app)
    say("sync", "old", "new", *app, "--max-duration", "1m")
    (project.directory / "new" / "d" / "1.txt").unlink()
    say("verify", *app)
    say("revert", *app)
    say("purge", *app, "--older-than", "0s")
    say("journal", "create", *app)
    say("journal", "migrate", *app)
    say("journal", "prune", *app, "--older-than", "1d")
    say("journal", "drop", *app, "--yes")
    say("init", *app, "--from", "old", "--to", "new", "--force")
    (project.directory / "migrate-storage.toml").unlink()
    (project.directory / "broken.py").write_text("from x import FSSpecBackend\ndef (")
    refused = ROOT / "tests" / "unit" / "translate" / "codemod" / "refusals" / "01_no_prefix.before"
    (project.directory / "refused.py").write_text(refused.read_text())
    say("convert", ".")
    say("demo", "--directory", "example")
    project.write(CUTOVER, "cutover_app.py")
    cutover = ("--app", "cutover_app")
    say("cutover", "status", *cutover)
    say("cutover", "check", *cutover)
    say("cutover", "advance", *cutover)
    (project.directory / "left" / "a.txt").write_bytes(b"content")
    (project.directory / "right" / "other.txt").write_bytes(b"content")
    say("cutover", "check", *cutover)
    say("cutover", "repair", "--all", *cutover)
    say("cutover", "rollback", *cutover)
    say("doctor", *cutover, "--from", "files")
    say("inspect", *cutover, schema="command.json#/$defs/inspect")
    say("status", *cutover, schema="command.json#/$defs/cutovers")

    with_json = {name for name, command in LEAVES.items() if any("--json" in each.opts for each in command.params)}
    assert with_json - said == set(), "commands that nobody asked"
    # A pace that changes is told by a run that a service slows down.
    event, values = describe(ThrottleChanged(concurrency=8, most_concurrency=32, paused=""))
    check_record({"event": event, **values})
    # And a re-key in PostgreSQL tells many at once.
    event, values = describe(
        ObjectsFinished(objects=3, rows=4, kind=OutcomeKind.REPOINTED, verified_by=SAME_OBJECT_LISTING)
    )
    check_record({"event": event, **values})
    # A census that takes long tells how far it is.
    event, values = describe(CensusAdvanced(table="documents", rows=3, tables=2, done=1))
    check_record({"event": event, **values})
    # Several keys in one command are in `tests/integration/cli/test_several_keys.py`.
    left = PairNotDone(source="old", destination="new", reason="a stop was requested", exit_code=130)
    check_record({"event": "reports", **CombinedReport(reports=(), not_done=(left,)).to_dict()})
    assert set(LINES) - SEEN == set(), "events that nobody saw"
