"""Keys that go wrong somewhere."""

import obstore

HOSTILE = (
    *(
        "plain.txt",
        "a b",
        " leading",
        "trailing ",
        "a%20b",
        "100%",
        "a%2Fb",
        "h#x",
        "q?x=1",
        "a+b",
        "~t",
        "a*b?.txt",
        "[1].txt",
    ),
    *(
        "é",
        "e\u0301",
        "日本",
        "🙂",
        "\u202eabc",
        "a\u00a0b",
        "{x}|y",
        'quo"te',
        "<a>&;:@=,",
        "...",
        ".hidden",
        "a.",
        "con",
    ),
    *("a/b/c", "a\\b", "^x", "`y`", "x#1", "#12", "a#1#2", "a#١", "k" * 250, "f/" * 20 + "x"),
    *(
        "/lead",
        "//x",
        "a//b",
        "x//",
        "s3://x",
        "a/./b",
        "a/../b",
        "..",
        ".",
        "trail/",
        "tab\tx",
        "new\nline",
        "nul\0",
        "del\x7f",
    ),
    *("x?versionId=v", "x?versionid=v", "", "k" * 254, "col:on", "br[1]", "abfs://c/x", "gs://b/x", "file:///x", "~/x"),
)


def addressed(store, key: str) -> bool:
    """Return whether a PUT makes exactly this key, and a GET reads it back."""
    try:
        obstore.put(store, key, b"x")
        listed = [meta["path"] for page in obstore.list(store) for meta in page]
        return listed == [key] and obstore.get(store, key).bytes() == b"x"
    except Exception:
        return False
