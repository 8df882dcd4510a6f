"""Filenames that no one would choose, by the thousand, the same for the same seed."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

FIXED = (
    *("a", "a/b", "a/b/c", "a/", "/a", "//a", "a//b", "a///b", "a/./b", "a/../b", "..", ".", "../up", "a/..", "./a"),
    *("../../etc/passwd", "/etc/passwd", "a/../../../../tmp/x", "....//x", "..\\x", "C:\\x", "\\\\host\\share"),
    *("x#1", "x#2/y", "#", "#1", "x%2Fy", "x/y", "%2F", "%2e%2e/x", "%", "%%", "%00", "%zz", "a%20b", "a b", "a+b"),
    *("caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "ﬃ/x", "İ", "ı", "ß", "ẞ", "SS", "ss"),
    *(
        "🙂",
        "👩‍👩‍👧‍👦",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "\U0001f1e9\U0001f1ea",
        "日本語",
        "العربية",
        "\u202egpj.exe",
        "\u200b",
        "\ufeffbom",
        "a\u00a0b",
    ),
    *(
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x1b[2J",
        "\x9b31m",
        "bell\x07",
        "back\x08space",
        "tab\tx",
        "line\nfeed",
    ),
    *("carriage\rreturn", "\r\nSet-Cookie: a=b", "nul\x00byte", "del\x7f", "\x01", "\u0085", "\u2028", "\u2029"),
    *(
        "[red]markup[/red]",
        "[/]",
        "[link=http://x]y[/link]",
        "{x}",
        "{0.__class__}",
        "%s%s%n",
        "${HOME}",
        "$(id)",
        "`id`",
    ),
    *(
        "'; DROP TABLE documents; --",
        '" OR 1=1',
        "x' || 'y",
        "<script>alert(1)</script>",
        "&amp;",
        "<Key>x</Key>",
        "]]>",
    ),
    *(
        "?versionId=null",
        "x?uploads",
        "x?delete",
        "x&y=z",
        "a=b",
        "a:b",
        "a;b",
        "a,b",
        "a|b",
        "a*b",
        "a?b",
        "[ab]",
        "a~b",
    ),
    *(
        "null",
        "None",
        "true",
        "NaN",
        "0",
        "-1",
        "1e309",
        "CON",
        "NUL.txt",
        "aux",
        "a.",
        "a ",
        " a",
        ".hidden",
        "...",
        "~",
    ),
    *("s3://bucket/x", "file:///x", "http://x/y", "memory://x", "-rf", "--help", "@file", "!history", "^", "\\", "\\n"),
    *("k" * 250, "k" * 255, "k" * 256, "f" * 200 + "/" + "g" * 200, "é" * 127, "é" * 128, "🙂" * 60, "d/" * 60 + "x"),
    *("n" * 1024, "n/" * 511 + "nn", "é" * 512, ("x" * 200 + "/") * 5 + "y" * 19, "lone\ud800surrogate", "\udfff"),
)


def hostile_names(count: int, seed: int) -> Iterator[str]:
    """The fixed ones first, then pieces of them in every combination; each only once, none empty."""
    dice = random.Random(seed)
    seen: set[str] = set()
    pieces = [name for name in FIXED if len(name) < 40]
    queue = list(FIXED)
    while len(seen) < count:
        if queue:
            name = queue.pop(0)
        else:
            name = dice.choice(("/", "", " ", "#", "%", "//")).join(dice.choices(pieces, k=dice.randint(2, 4)))
            if dice.random() < 0.3:
                name = unicodedata.normalize(dice.choice(("NFC", "NFD")), name)
        if name not in seen:
            seen.add(name)
            yield name
