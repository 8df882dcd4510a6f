"""A page is followed word by word: what it does not say, or says otherwise, is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sybil.example import SybilFailure

from tests.support import ROOT
from tests.support.playbooks.page import MASKS, STAND_INS, Page, masked


@pytest.fixture(autouse=True)
def checking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as who writes the pages would have it."""
    monkeypatch.delenv("PLAYBOOKS", raising=False)


def page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(text)
    return Page(path, folder, dict(os.environ), {"localhost": "db.acme.example"})


def test_what_comes_out_as_shown_is_right(tmp_path: Path) -> None:
    shown = """\
```python
# acme/storage.py
WHAT = "lease=30, drain=60"
```

```python
import acme.storage, pathlib
pathlib.Path("said").write_text(acme.storage.WHAT)
```

```console
$ cat said; echo
lease=4, drain=1
$ echo one \\
> two; echo at localhost
one two
at db.acme.example
$ false || echo "exit code $?"
exit code 1
$ echo "it took 3.5 s"
it took 12.0 s
```
"""
    page(tmp_path, shown).follow()


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("```console\n$ echo one\ntwo\n```\n", "+one"),
        ("```console\n$ echo one\n```\n", "+one"),
        ("```console\n$ echo\none\n```\n", "-one"),
        ("```console\n$ exit 3\n```\n", "exit code 3"),
        ("```console\n$ echo 3 objects\n4 objects\n```\n", "+3 objects"),
        ("```python\nassert 1 == 2\n```\n", "AssertionError"),
        ("```toml\nx = 1\n```\n", "names the file"),
        ("```bash\necho one\n```\n", "not bash"),
    ],
)
def test_what_does_not_is_found(tmp_path: Path, block: str, told: str) -> None:
    with pytest.raises(SybilFailure) as failed:
        page(tmp_path, f"Before.\n\n{block}").follow()
    assert told in str(failed.value)


def test_a_page_can_be_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYBOOKS", "write")
    text = 'Before.\n\n```console\n$ echo one\nold\n$ echo "it took 3 s"\nit took 5 s\n```\n\nAfter.\n'
    opened = page(tmp_path, text)
    opened.follow()
    # What is masked stays as it was: a page does not change each time.
    assert (tmp_path / "page.md").read_text() == text.replace("old", "one")


def test_masks_leave_alone_what_counts() -> None:
    told = "3 objects, 12 rows left, 1,234 copied: uploads: phase SOURCE, s3://acme-uploads/a1b2.png"
    assert masked(told) == told
    assert masked("web-1:3717: SOURCE, heard of 0.1 s ago") == "<process>: SOURCE, heard of <duration> ago"


def test_each_page_is_followed_and_every_mask_and_stand_in_is_needed() -> None:
    pages = {path.stem: path.read_text() for path in (ROOT / "playbooks").glob("*.md")}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert pages
    assert [name for name in pages if f'"{name}"' not in tests] == []
    everything = "\n".join(pages.values())
    assert [said for said in STAND_INS if said not in everything] == []
    assert [name for name in MASKS if f"<{name}>" not in masked(everything)] == []
