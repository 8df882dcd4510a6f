"""A small application on disks that a test takes through the phases of a cutover, and what the commands print there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.support.cli.project import Project

COMMANDS = (
    ("inspect",),
    ("doctor", "--from", "uploads"),
    ("explain", "document.file", "1"),
    ("verify",),
    ("orphans", "--min-age", "0s"),
    ("purge", "--older-than", "0s"),
    ("status",),
)
"""Those of which ``docs/cutover.md`` shows what they print in each phase."""

MODELS = """
from pathlib import Path
import fsspec
import sqlalchemy as sa
from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.cutover import Database, Outbox, SharedPhase
from sqlalchemy.orm import DeclarativeBase, mapped_column

HERE = Path(__file__).parent
engine = sa.create_engine(f"sqlite:///{HERE}/app.db")
for name in ("inbox", "old", "new"):
    (HERE / name).mkdir(exist_ok=True)

def on_disk(key, folder):
    return FSSpecBackend(key=key, fs=fsspec.filesystem("file"), prefix=str(HERE / folder))

class Base(DeclarativeBase):
    pass

class Document(Base):
    __tablename__ = "document"
    id = mapped_column(sa.Integer, primary_key=True)
    file = mapped_column(StoredObject(backend="uploads"))

storages.register_backend(on_disk("inbox", "inbox"))
"""
BEFORE = 'storages.register_backend(on_disk("uploads", "old"))\n'
CUTOVER = """
outbox = Outbox(Database(engine), "uploads")
storages.register_backend(
    CutoverBackend("uploads", {source}, {destination}, outbox=outbox, phase=SharedPhase(outbox, lease=600, name="web-1"))
)
"""
SOURCE, DESTINATION = 'on_disk("old", "old")', 'ObstoreBackend("new", f"file://{HERE}/new")'
AFTER = 'storages.register_backend(ObstoreBackend("uploads", f"file://{HERE}/new"))\n'
FILL = """
import app
from sqlalchemy.orm import Session

app.Base.metadata.create_all(app.engine)
with Session(app.engine) as session:
    for number in range(1, 5):
        key = "inbox" if number > 3 else "uploads"
        file = app.FileObject(backend=key, filename=f"{number}.txt", content=b"content %d" % number)
        file.save()
        session.add(app.Document(id=number, file=file))
    session.commit()
(app.HERE / "old" / "lost.txt").write_bytes(b"no row names it")
"""
_ASK = """
import contextlib, io, json, sys
import app
from migrate_storage.__main__ import main
from migrate_storage.cutover import SharedPhase

asked = json.loads(sys.argv[1])
started = {}
def process(name):
    started[name] = SharedPhase(app.outbox, name=name, lease=600)
    started[name].phase
answers = []
for words in asked["words"]:
    if words[0] == "exec":
        exec(words[1])
        continue
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*words, *asked["with"]])
    answers.append([words, code, said.getvalue()])
source = getattr(app.storages.get_backend("uploads"), "phase_source", None)
for each in (*started.values(), *([source] if source else [])):
    each.close()
print(json.dumps(answers))
"""
_MASKS: Mapping[str, str] = {
    r"\b\d{8}-\d{6}-[0-9a-f]{8}\b": "20270108-093000-5f3a9c21",
    r"\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d UTC)?": "2027-01-08 09:30:00 UTC",
    r"\b\d+(\.\d+)? (ms|s|min|h)\b( \d+ s\b)?": "0.1 s",
    r"ETag [0-9a-f-]+": "ETag 1b2c-0-a",
    r"sqlite:///\S*app.db": "sqlite:///app.db",
}


_PROGRESS = re.compile(r"(\d+%, )?[\d,]+ objects?, .*/s.*")
STATE = re.compile(r"phase [A-Z_]+, .*? with an open entry")
"""What the commands say of the state of a cutover."""


@dataclass(frozen=True)
class Answer:
    """What one command printed."""

    words: tuple[str, ...]
    code: int
    text: str


@dataclass
class PhasesApplication:
    """The application, and the processes that act in it while commands are asked."""

    project: Project
    source: str = SOURCE
    destination: str = DESTINATION
    environment: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        """Write the application without a cutover, its rows and files, and move two rows into ``uploads`` by a run."""
        self.write(BEFORE)
        (self.project.directory / "fill.py").write_text(FILL)
        ended = self.project.python("fill.py")
        assert ended.returncode == 0, ended.stderr
        ended = self.project("run", "--app", "app", "--from", "inbox", "--to", "uploads", "--quiet")
        assert ended.returncode == 0, ended.stderr

    def register_cutover(self) -> None:
        """Put the cutover under the key ``uploads``."""
        self.write(CUTOVER.format(source=self.source, destination=self.destination))

    def write(self, registration: str) -> None:
        """Write the module with this registration of ``uploads``."""
        (self.project.directory / "app.py").write_text(MODELS + registration)
        (self.project.directory / "ask.py").write_text(_ASK)

    def ask(self, *words: Sequence[str]) -> list[Answer]:
        """Run commands in one process, which is ``web-1`` where it acts in the phase.

        ``("exec", code)`` runs code between them; there ``process(name)`` acts as another process.
        """
        asked = json.dumps({"words": words, "with": ["--app", "app"]})
        ended = self.project.python("ask.py", asked)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout.splitlines()[-1])
        return [Answer(tuple(given), code, self.masked(text)) for given, code, text in found]

    def masked(self, text: str) -> str:
        """Return what a command printed, without what differs in each run."""
        text = text.replace(str(self.project.directory), "/srv/acme").replace(" --app app", "")
        text = "".join(f"{line}\n" for line in text.splitlines() if not _PROGRESS.fullmatch(line))
        for pattern, instead in _MASKS.items():
            text = re.sub(pattern, instead, text)
        lines = [line.rstrip() for line in text.splitlines()]
        # In the order of digests, which differ with the folder.
        orphans = iter(sorted(line for line in lines if line.startswith("  orphan ")))
        return "".join(f"{next(orphans) if line.startswith('  orphan ') else line}\n" for line in lines)


def render(title: str, answers: Sequence[Answer], seen: dict[Answer, str]) -> str:
    """Return answers as a block of a page; what differs from an earlier one by the state alone is not repeated."""
    lines = []
    for answer in answers:
        lines.append(f"$ migrate-storage {' '.join(answer.words)}\n")
        earlier = seen.setdefault(replace(answer, text=STATE.sub("", answer.text)), title)
        if earlier != title:
            lines.append(f"(the same as {earlier}, with the phase and the processes of now)\n")
            continue
        lines += [answer.text, f"(exit code {answer.code})\n" if answer.code else ""]
    return f"```console\n{''.join(lines)}```\n"
