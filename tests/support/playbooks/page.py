"""Follows a playbook as a reader would: each block of its page is done, in order, and what comes out is what it shows.

- ``python`` with a first line ``# acme/storage.py`` makes it that file; any other is run, by an interpreter of its own;
- ``toml``, ``ini`` and ``yaml`` are files, named in the same way;
- ``console`` has commands, ``$ command`` (and ``> more of it``), each followed by what it prints;
- ``text`` is only shown. Any other kind is refused, so that every block of a page is tested.

All happens in one folder. A command that ends with another code than 0 fails; where the page expects one it has
``|| echo "exit code $?"``.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from tests.support.processes.forked import run_forked

#: Patterns of what differs in each run, by name: the page shows one run, and they are not compared.
MASKS: Mapping[str, str] = {
    "run": r"\b\d{8}-\d{6}-[0-9a-f]{8}\b",
    "moment": r"\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d UTC)?",
    "speed": r"\b[\d,.]+ (objects|([KMG]i)?B)/s",
    "duration": r"\b\d+(\.\d+)? ?(ms|s|min|h)\b( \d+ ?s\b)?",
    "process": r"\b[\w.-]+:\d+(?=: [A-Z])",
    # rclone's server keeps a listing for a second, which a slow machine may meet.
    "fresh": r"\b(yes|no )  (?=its listing shows at once)",
    # Who writes meanwhile repairs some keys itself.
    "repaired": r"\b[\d,]+ keys? repaired\b",
}
#: Words of the page, and the shorter waits that replace them in tests.
STAND_INS: Mapping[str, str] = {
    "lease=30, drain=60": "lease=4, drain=1",
    "--quiet-for 10m": "--quiet-for 1s",
}
#: Lines of progress, which a slow machine prints more often: not compared.
_PROGRESS = re.compile(r"(\d+%, )?[\d,]+ objects?, .*/s(, .*)?|[\d,]+ keys? compared or repaired, .*")
_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
_PATIENCE = 240


class Page:
    """One playbook, and the folder where it is followed.

    Args:
        path: of the page.
        folder: where its commands run and its files are.
        environment: of its commands.
        names: what is meant here, and how the page calls it.
    """

    def __init__(
        self, path: Path, folder: Path, environment: Mapping[str, str], names: Mapping[str, str] | None = None
    ) -> None:
        self._path, self._folder, self.environment, self._names = path, folder, environment, names or {}
        #: The new text of each block, by its position.
        self._came_out: dict[tuple[int, int], str] = {}

    def follow(self) -> None:
        """Do what the page describes. With ``PLAYBOOKS=write`` in the environment, write what came out to the page.

        Raises:
            sybil.example.SybilFailure: something else came out than the page shows.
        """
        document = Sybil(parsers=[self._blocks]).parse(self._path)
        for example in document.examples():
            example.evaluate()
        text = document.text
        for (start, end), came_out in sorted(self._came_out.items(), reverse=True):
            text = f"{text[:start]}```console\n{came_out}```{text[end:]}"
        if self._writing:
            self._path.write_text(text, encoding="utf-8")

    @property
    def _writing(self) -> bool:
        return os.environ.get("PLAYBOOKS") == "write"

    def _blocks(self, document: Document) -> Iterable[Region]:
        files = dict.fromkeys(("toml", "ini", "yaml"), self._file)
        kinds = {"python": self._python, "console": self._console, "text": None, **files}
        for region in FencedCodeBlockLexer(language=r"\w+")(document):
            kind = region.lexemes["language"]
            region.parsed, region.evaluator = str(region.lexemes["source"]), kinds.get(kind, self._unknown)
            if region.evaluator is not None:
                yield region

    def _unknown(self, example: Example) -> str:
        return f"a block is python, console, toml, ini, yaml or text, not {example.region.lexemes['language']}"

    def _file(self, example: Example) -> str | None:
        named = _NAME.match(example.parsed)
        if named is None:
            return 'the first line names the file: "# acme/storage.py"'
        file = self._folder / named[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._meant(example.parsed), encoding="utf-8")
        return None

    def _python(self, example: Example) -> str | None:
        if _NAME.match(example.parsed):
            return self._file(example)
        done = run_forked(["-c", self._meant(example.parsed)], self.environment, self._folder, _PATIENCE)
        return done.stdout + done.stderr if done.returncode else None

    def _console(self, example: Example) -> str | None:
        came_out, wrong = "", []
        for command, shown in _commands(example.parsed):
            code, said = self._run(["bash", "-c", self._meant("\n".join(command))])
            lines = [f"{'>' if number else '$'} {line}\n" for number, line in enumerate(command)]
            same = masked(said) == masked(shown)
            came_out += "".join(lines) + (f"{shown}\n" if same and shown else said)
            if code:
                wrong.append(f"exit code {code} of: {command[0]}\n{said}")
            elif not same:
                difference = difflib.unified_diff(
                    masked(shown).splitlines(), masked(said).splitlines(), "the page", "came out", lineterm="", n=20
                )
                wrong.append(f"{command[0]}\n" + "\n".join(difference))
            if wrong and not self._writing:
                return "\n".join(wrong)
        self._came_out[example.start, example.end] = came_out
        return None

    def _meant(self, text: str) -> str:
        for said, here in (*STAND_INS.items(), *((there, here) for here, there in self._names.items() if there)):
            text = text.replace(said, here)
        return text

    def _run(self, command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=self._folder, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=_PATIENCE,
        )  # fmt: skip
        said = done.stdout
        for here, there in self._names.items():
            said = said.replace(here, there)
        return done.returncode, said


def masked(text: str) -> str:
    """A text with the name of each mask in place of what it finds, without lines of progress and blanks at the ends of lines."""
    text = "\n".join(line for line in text.splitlines() if not _PROGRESS.fullmatch(line))
    for name, pattern in MASKS.items():
        text = re.sub(pattern, f"<{name}>", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _commands(block: str) -> Iterator[tuple[list[str], str]]:
    """Each command, by its lines, and what is shown below it."""
    command: list[str] = []
    shown: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown = [line[2:]], []
        elif line.startswith("> ") and command and not shown:
            command.append(line[2:])
        else:
            shown.append(line)
    if command:
        yield command, "\n".join(shown)
