"""What the commands print in each phase of a cutover, and after it, is what ``docs/cutover.md`` shows.

``PLAYBOOKS=write`` writes it there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.support.cli.project import ROOT, Project
from tests.support.cutover.phases import AFTER, COMMANDS, Answer, PhasesApplication, render

PAGE = ROOT / "docs" / "cutover.md"
BEGIN, END = "<!-- phases -->\n", "<!-- end of phases -->\n"
SAVE = """
from sqlalchemy.orm import Session
with Session(app.engine) as session:
    file = app.FileObject(backend="uploads", filename="{name}", content=b"saved in a phase")
    file.save()
    session.add(app.Document(id={id}, file=file))
    session.commit()
"""
DELETE = """
from sqlalchemy.orm import Session
with Session(app.engine) as session:
    session.delete(session.get(app.Document, 2))
    session.commit()
app.storages.get_backend("uploads").delete_object("2.txt")
"""
ADVANCE, ROLLBACK = ("cutover", "advance", "--quiet-for", "0s"), ("cutover", "rollback")
WEB_1 = ("exec", "app.storages.get_backend('uploads').phase")
WEB_2 = ("exec", "process('web-2')")


def walk(application: PhasesApplication) -> Iterator[tuple[str, list[Answer]]]:
    """Take an application through the phases; yield a title, and what the commands printed."""
    application.register_cutover()
    yield "In SOURCE", application.ask(WEB_1, *COMMANDS)
    save = ("exec", SAVE.format(name="5.txt", id=5))
    asked = application.ask(WEB_2, ADVANCE, WEB_1, save, *COMMANDS)
    yield "In DUAL_WRITE, before the copy, while one process has not followed", asked[1:]
    asked = application.ask(("cutover", "repair", "--all"), ADVANCE, WEB_1, *COMMANDS)
    yield "In DESTINATION_FIRST, after `cutover repair --all`", asked[2:]
    save = ("exec", SAVE.format(name="6.txt", id=6))
    asked = application.ask(ADVANCE, WEB_1, save, ("exec", DELETE), *COMMANDS)
    yield "In DESTINATION, where a file was saved and one was deleted", asked[1:]
    asked = application.ask(("cutover", "repair"), ROLLBACK, WEB_1, *COMMANDS)
    yield "Back in DESTINATION_FIRST", asked[2:]
    taken = application.ask(ADVANCE)
    assert taken[0].code == 0, taken
    application.write(AFTER)
    yield "After the cutover: the destination alone is registered under the key", application.ask(*COMMANDS)


def test_the_page_shows_what_the_commands_print_in_each_phase(empty: Project) -> None:
    application = PhasesApplication(empty)
    application.begin()
    seen: dict[Answer, str] = {}
    walked = ((title, render(title[0].lower() + title[1:], answers, seen)) for title, answers in walk(application))
    shown = "\n".join(f"### {title}\n\n{block}" for title, block in walked)
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    written, end, after = rest.partition(END)
    assert begin
    assert end
    if os.environ.get("PLAYBOOKS") == "write":
        PAGE.write_text(f"{before}{begin}\n{shown}\n{end}{after}")
        written = f"\n{shown}\n"
    assert written == f"\n{shown}\n"
