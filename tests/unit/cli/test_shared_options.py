"""What a command prints on a terminal, in a file and quietly."""

from __future__ import annotations

import pytest

from migrate_storage.cli import shared_options
from migrate_storage.cli.shared_options import Output

LONG = "info: new: the destination keeps no content type or metadata beside the bytes"
COMMAND = "  migrate-storage plan --app a.very.long.name --from old --to new"


@pytest.mark.parametrize(("width", "lines"), [(60, [LONG[:-17], "  beside the bytes"]), (None, [LONG])])
def test_text_is_wrapped_at_the_width_of_a_terminal(
    width: int | None, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared_options, "terminal_width", lambda: width)
    monkeypatch.setattr("sys.argv", ["migrate-storage"])
    monkeypatch.setattr("migrate_storage.cli.output.program", lambda: "migrate-storage")
    Output(json=False, quiet=False).print_text([LONG, COMMAND])
    assert capsys.readouterr().out.splitlines() == [*lines, COMMAND]


def test_code_is_never_wrapped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shared_options, "terminal_width", lambda: 40)
    Output(json=False, quiet=False).print_verbatim([LONG])
    Output(json=False, quiet=True).print_verbatim([LONG])
    assert capsys.readouterr().out == f"{LONG}\n"
