"""The page, as a browser sees it: nothing from a key gets out of its place, nothing leaves the machine, all can read it."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest

from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef
from migrate_storage.core.text import visible
from migrate_storage.journal import Journal
from migrate_storage.reporting import Figures, Report, figures, page
from migrate_storage.reporting.html.markup import Markup, clipped, element, joined
from migrate_storage.reporting.text import ADVICE
from tests.support.evidence import Evidence
from tests.support.reporting.journaled import DOCUMENTS, FAILURES, NAUGHTY, journaled

Browser = Callable[..., str]


class Seen(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attributes))) for tag, attributes in self.elements]


def written(journal: Journal, count: int, **how: bool | int) -> str:
    report = journaled(journal, count, **how)  # type: ignore[arg-type]
    return page(report, figures(report, journal))


def opened(browser: Browser, path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return browser("--dump-dom", path.as_uri())


def test_hostile_names_change_nothing_but_the_text(journal: Journal, browser: Browser, tmp_path: Path) -> None:
    hostile = written(journal, 200, hostile=True, one_in=2)
    shape = Seen(hostile).shape
    journal.database.transaction(journal.tables.drop)
    assert shape == Seen(written(journal, 200, one_in=2)).shape
    seen = Seen(opened(browser, tmp_path / "page.html", hostile))
    assert seen.shape == shape, "the browser made other elements of it than were written"
    allowed = {"class", "id", "href", "lang", "charset", "http-equiv", "content", "name", "aria-labelledby", "aria-label", "aria-hidden", "role", "tabindex", "scope", "datetime", "viewbox", "preserveaspectratio", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "text-anchor"}  # fmt: skip
    assert {attribute for _, attributes in seen.elements for attribute in attributes} <= allowed
    assert {attributes["href"] for tag, attributes in seen.elements if "href" in attributes} == {"#next", "#problems"}
    assert "owned" not in re.search("<title>(.*?)</title>", hostile)[1]  # type: ignore[index]
    for name in NAUGHTY:
        stored = name.encode("utf-8", "backslashreplace").decode()
        assert visible(stored) in seen.text, name
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]", seen.text)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback, and what it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


def test_even_what_got_in_could_neither_run_nor_ask_the_network(
    journal: Journal, browser: Browser, tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    url, paths = asked
    clean = written(journal, 20)
    foreign = f'<script>document.title="ran"</script><img src="{url}/image"><style>@import "{url}/style"</style>'
    tampered = clean.replace("</main>", f"{foreign}</main>")
    assert "<title>ran</title>" not in opened(browser, tmp_path / "tampered.html", tampered)
    assert paths == []
    without = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", tampered)
    assert "<title>ran</title>" in opened(browser, tmp_path / "without.html", without), "what the policy keeps off"
    assert set(paths) >= {"/image", "/style"}


def test_a_screen_reader_finds_its_way(journal: Journal) -> None:
    seen = Seen(written(journal, 500, one_in=40))
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in seen.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        assert (attributes.get("href") or "#next").removeprefix("#") in ids
    levels = [int(tag[1]) for tag, _ in seen.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for tag, attributes in seen.elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (
                attributes["role"] == "img" and attributes["aria-labelledby"]
            )
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert ("html", {"lang": "en"}) in seen.elements
    regions = [attributes for _, attributes in seen.elements if attributes.get("role") == "region"]
    assert len(regions) == sum(tag == "table" for tag, _ in seen.elements)
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in regions)


def test_every_colour_can_be_read_on_every_ground() -> None:
    style = resources.files("migrate_storage.reporting.html").joinpath("page.css").read_text(encoding="utf-8")

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    themes = [
        dict(re.findall(r"--(\w+): #(\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 3, "light, dark, print"
    for theme in themes:
        for ground in ("paper", "raised"):
            for name in ("ink", "soft", "good", "warn", "bad", "blue", "teal"):
                light, dark = sorted((luminance(theme[name]), luminance(theme[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, name, ground)


def test_it_prints_on_few_pages_in_the_colours_of_paper(journal: Journal, browser: Browser, tmp_path: Path) -> None:
    report = journaled(journal, 2000, one_in=40)
    path = tmp_path / "page.html"
    path.write_text(page(report, figures(report, journal)), encoding="utf-8")
    printed = {}
    for theme, option in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        browser("--no-pdf-header-footer", f"--print-to-pdf={tmp_path / theme}", *option, path.as_uri())
        printed[theme] = (tmp_path / theme).read_bytes()
        assert printed[theme].startswith(b"%PDF-")
    # Fifty listed objects, three to four lines each, and all that follows.
    assert 3 <= len(re.findall(rb"/Type /Page\n", printed["light"])) <= 7
    # Whoever reads in the dark prints on white all the same: the pages differ in nothing but their dates.
    assert abs(len(printed["light"]) - len(printed["dark"])) < 50


def test_it_says_how_it_ended_what_needs_a_person_and_what_to_type(journal: Journal) -> None:
    report = journaled(journal, 400)
    text = Seen(page(report, figures(report, journal), lambda command: f"{command} --app shop")).text
    for part in ("Finished, with 1 problem. 1 row still names 'old'.", "missing: 1 object", FAILURES[0][1], "albums.pictures[399]",
                 "search for it in a backup", "migrate-storage run --from old --to new --app shop", "a copy does not preserve object tags",
                 "the source's own digest is that of the bytes that were read", "30 min"):  # fmt: skip
        assert part in text, part
    done = replace(report, problems=(), rows_remaining=0, counts={OutcomeKind.REPOINTED: 400})
    assert "migrate-storage status --ready-to-unregister" in Seen(page(done, Figures())).text


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "revert"}, {"kind": "purge", "counts": {OutcomeKind.DELETED: 3}}, {"kind": "verify", "rows_remaining": None},
        {"state": "failed", "error": "database: <gone>"}, {"state": "planned", "dry_run": True}, {"state": "interrupted"},
        {"finished": 0.0, "counts": {}, "problems": (), "next_command": ""},
    ],
)  # fmt: skip
def test_every_ending_of_every_job_has_a_page(journal: Journal, changes: dict[str, object]) -> None:
    report = replace(journaled(journal, 30, one_in=10), **changes)  # type: ignore[arg-type]
    seen = Seen(page(report, Figures()))
    assert len([tag for tag, _ in seen.elements if tag == "h1"]) == 1
    assert ("database: <gone>" in seen.text) is (report.error != "")


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_large_run_has_a_small_page(journal: Journal, count: int, evidence: Evidence) -> None:
    text = written(journal, count, hostile=True, one_in=20)
    assert len(text.encode()) < 2_000_000
    assert "more objects; the journal has them all" in text or count == 10_000
    evidence.record("the page of a large run is small", objects=count, bytes=len(text.encode()))


def test_the_longest_names_that_all_need_a_person_keep_the_page_small(journal: Journal) -> None:
    long = "<\u202e\U000e0041" * 400
    ref = RowRef(DOCUMENTS, (long,))
    outcome = Outcome(
        kind=OutcomeKind.FAILED,
        source=Location("old", long),
        destination=Location("new", long + "x"),
        reason=long,
        refs=(ref,) * 9,
    )
    report: Report = replace(journaled(journal, 1), problems=(outcome,) * 1000, counts={OutcomeKind.FAILED: 1000})
    text = page(report, Figures())
    assert 1_000_000 < len(text.encode()) < 2_000_000
    assert re.search(r"And [\d,]+ more objects; the journal has them all", text)


def test_text_becomes_markup_only_by_being_escaped() -> None:
    made = element("p", "<b>", Markup("<i></i>"), class_='"', aria_label="'>\x00")
    assert made == '<p class="&quot;" aria-label="&#x27;&gt;\\x00">&lt;b&gt;<i></i></p>'
    assert joined("&", made) == f"&amp;{made}"
    assert not isinstance(made + "<b>", Markup), "what is put together otherwise is escaped again"
    assert clipped("a" * 500, 10) == "aaaaa … aaaaa"


def test_every_outcome_that_needs_a_person_says_what_to_do() -> None:
    assert set(ADVICE) == {kind for kind in OutcomeKind if not kind.done}
