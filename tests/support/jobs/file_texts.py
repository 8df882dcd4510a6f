"""FileObjects as programs write them, in JSON of any shape and spelling, and a plain reader of such texts."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Iterator
from typing import Any

File = dict[str, Any]


def escape_some(text: str, rng: random.Random) -> str:
    r"""The same JSON with some letters of its strings spelled as ``\u`` and a number."""
    words = ("backend", "filename", "old")
    for word in rng.sample(words, rng.randrange(1, 4)):
        place = rng.randrange(len(word))
        code = f"{ord(word[place]):04x}"
        spelled = f"{word[:place]}\\u{rng.choice((code, code.upper()))}{word[place + 1 :]}"
        text = text.replace(f'"{word}"', f'"{spelled}"')
    return text


def make_document(file: File, rng: random.Random) -> Any:
    """A JSON value with the file somewhere in it."""
    value: Any = file
    for _ in range(rng.randrange(4)):
        value = rng.choice((
            lambda inner: {"at": rng.random(), "file": inner, "wörter": "old"},
            lambda inner: [None, inner, {"backend": "old"}],
            lambda inner: {"text": json.dumps(inner), "filename": "no file"},
            lambda inner: {"backend": "elsewhere", "deep": {"er": [[inner]]}},
            lambda inner: json.dumps(inner, ensure_ascii=False),
        ))(value)  # fmt: skip
    return value


def write_json(value: Any, rng: random.Random) -> str:
    """A JSON text of a value, in one of its spellings."""
    text = json.dumps(
        value, ensure_ascii=rng.random() < 0.5, separators=rng.choice((None, (",", ":"), (" ,\n", "\t: ")))
    )
    return escape_some(text, rng) if rng.random() < 0.3 else text


def write_text(value: Any, rng: random.Random) -> str:
    """A text of any kind with a JSON value in it."""
    text = write_json(value, rng)
    return rng.choice((
        text, text, f"2026-01-01 saved {text} for 7", f"level=info msg={json.dumps('saved ' + text)}",
        f"<input value='{html.escape(text)}'/>",
    ))  # fmt: skip


def whole_files(text: str) -> Iterator[File]:
    """The files of a JSON text, also those in strings of it that are JSON themselves; none of another text."""
    try:
        value = json.loads(text)
    except ValueError:
        return
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            yield from whole_files(part) if part[:1] in tuple('{["') else ()
        elif isinstance(part, dict):
            if isinstance(part.get("backend"), str) and isinstance(part.get("filename"), str):
                yield part
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)


def all_files(text: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Backend and filename of each file in a text, tried from every brace and with every escape taken away once more."""
    yield from ((file["backend"], file["filename"]) for file in whole_files(text))
    for start, char in enumerate(text):
        if char == "{":
            try:
                value, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
            except ValueError:
                continue
            yield from ((file["backend"], file["filename"]) for file in whole_files(json.dumps(value)))
    if depth < 4:
        for plainer in {html.unescape(text), text.replace('\\"', '"').replace("\\\\", "\\")} - {text}:
            yield from all_files(plainer, depth + 1)
