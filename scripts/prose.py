#!/usr/bin/env python3
"""Check the words and the sentences of the documentation, of every help text, message, docstring and comment.

The words are in ``scripts/prose.toml``. Names, code and text in double quotes are not prose. ``--help`` and the pages have a
longest sentence too.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RULES: dict[str, Any] = tomllib.loads((ROOT / "scripts" / "prose.toml").read_text(encoding="utf-8"))
FILLER = "\N{BLACK SQUARE}"
"""What stands for a character that is not prose, so that a place in the masked text is the same place in the file."""
INSTEAD = {form: rule["instead"] for rule in RULES["words"] for form in rule["forms"]}
WORD = re.compile(
    r"(?<![\w.`/=<\-■])("
    + "|".join(form.replace(" ", r"\s+") for form in sorted(INSTEAD, reverse=True))
    + r")(?![\w(=/\-■]|\.\w)",
    re.IGNORECASE,
)
NOT_PROSE = (
    re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE),
    re.compile(r"(?<=\n\n)(?:(?: {4}.*)?\n)*(?: {4}.*\n)(?=\n|\S)"),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"<pre .*?</pre>", re.DOTALL),
    re.compile(r"(`+)[^`]+\1"),
    re.compile(r"(?<=\])\([^)\s]*\)"),
    re.compile(r"\"[^\"\n]{1,160}\""),
)
VALUE = re.compile(r"\{[^{}]*\}")
END = re.compile(
    r"(?<=[.!?])[)*\"]*\s+|\n\s*\n|\n\s*(?:[-*]|\d+\.) |^\s*(?:[-*]|\d+\.|#+) |\||\n(?=#)|\\n", re.MULTILINE
)


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it is in its file."""

    path: Path
    start: int
    text: str
    masked: str

    @property
    def words(self) -> list[str]:
        """Return the words that it should not have."""
        return [" ".join(match.group(1).lower().split()) for match in WORD.finditer(self.masked)]

    @property
    def length(self) -> int:
        """Return the number of its words; a code span is one, and so is a list of them."""
        text = re.sub(r"■(?:[■\s]*■)?", "■", self.masked)
        return len(re.findall(r"[\w'’■./-]*[\w■][\w'’■./-]*", re.sub(r"■(?:,\s+(?:and\s+)?■)+", "■", text)))


def masked(text: str) -> str:
    """Return a text of the same length in which only prose is left."""
    for pattern in NOT_PROSE:
        text = pattern.sub(lambda match: re.sub(r"[^\n]", FILLER, match.group()), text)
    return text


def sentences(path: Path, text: str, offset: int = 0, *, is_f_string: bool = False) -> Iterator[Sentence]:
    """Yield the sentences of a text that begins at an offset in its file."""
    prose = masked(VALUE.sub(lambda match: FILLER * len(match.group()), text) if is_f_string else text)
    start = 0
    for end in [*END.finditer(prose), None]:
        stop = end.start() if end else len(prose)
        if prose[start:stop].strip(f" \n{FILLER}"):
            lead = len(prose[start:stop]) - len(prose[start:stop].lstrip())
            piece = slice(start + lead, start + len(prose[start:stop].rstrip()))
            yield Sentence(path, offset + piece.start, text[piece], prose[piece])
        start = end.end() if end else stop


def of_code(path: Path) -> Iterator[Sentence]:
    """Yield the sentences of docstrings, comments and messages. A string without a space is a name."""
    source = path.read_text(encoding="utf-8")
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind not in {"STRING", "COMMENT", "FSTRING_MIDDLE"} or " " not in token.string.strip():
            continue
        start = starts[token.start[0] - 1] + token.start[1]
        text = source[start : starts[token.end[0] - 1] + token.end[1]]
        quote = re.match(r"\w{0,2}(\"\"\"|'''|\"|')", text) if kind == "STRING" else None
        if quote:
            start, text = start + quote.end(), text[quote.end() : -len(quote.group(1))]
        is_f_string = quote is not None and "f" in quote.group()[:2].lower()
        yield from sentences(path, text, start, is_f_string=is_f_string)


def pages() -> Iterator[Path]:
    """Yield the pages of the documentation. The changelog has the words of earlier versions."""
    for folder in (ROOT, ROOT / "docs", ROOT / "playbooks"):
        yield from (page for page in sorted(folder.glob("*.md")) if page.name != "CHANGELOG.md")


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield the names and the help texts of all commands and options."""
    import click

    from migrate_storage.cli import cli

    def below(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
        yield name, command.help or ""
        for option in command.params:
            yield f"{name} {option.opts[0]}", getattr(option, "help", None) or ""
        if isinstance(command, click.Group):
            for each in command.commands:
                yield from below(f"{name} {each}", command.commands[each])

    yield from below("migrate-storage", cli)


def too_long(sentence: Sentence) -> bool:
    """Return whether a sentence has too many words and is no exception."""
    exceptions = tuple(RULES["long_sentences"])
    return sentence.length > RULES["longest_sentence"] and not " ".join(sentence.text.split()).startswith(
        exceptions or ("\0",)
    )


def found(sentence: Sentence, *, length: bool) -> list[str]:
    """Return what is wrong with a sentence."""
    wrong = [f'"{word}" (instead: {INSTEAD[word]})' for word in sentence.words]
    if length and too_long(sentence):
        wrong.append(f"{sentence.length} words, at most {RULES['longest_sentence']}")
    return wrong


def problems() -> Iterator[str]:
    """Yield a line for each problem."""
    everything = [
        (path, sentence, True) for path in pages() for sentence in sentences(path, path.read_text(encoding="utf-8"))
    ]
    everything += [
        (path, sentence, False)
        for path in sorted((ROOT / "migrate_storage").rglob("*.py"))
        for sentence in of_code(path)
    ]
    for path, sentence, length in everything:
        for wrong in found(sentence, length=length):
            line = path.read_text(encoding="utf-8").count("\n", 0, sentence.start) + 1
            yield f"{path.relative_to(ROOT)}:{line}: {wrong}: {' '.join(sentence.text.split())}"
    for name, text in help_texts():
        for sentence in sentences(Path(name), text):
            if too_long(sentence):
                yield f"{name}: {sentence.length} words, at most {RULES['longest_sentence']}: {' '.join(sentence.text.split())}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    lines = list(problems())
    print("\n".join(lines))
    sys.exit(f"{len(lines)} problems of words and sentences, see scripts/prose.toml" if lines else 0)
