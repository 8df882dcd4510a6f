"""``convert``: rewrite registrations in source files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.option import argument, command, group, option
from migrate_storage.cli.shared_options import Output
from migrate_storage.cli.standard_output import echo
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.exit_codes import EXIT_PROBLEMS
from migrate_storage.core.text import amount, visible

if TYPE_CHECKING:
    from migrate_storage.translate.codemod.files import ConvertedFile

__all__ = ("convert",)


@dataclass(frozen=True, kw_only=True)
class _ConvertRequest:
    paths: tuple[Path, ...] = argument(nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
    diff: bool = option(
        "--diff/--write", in_file=False, default=True, help="Show the change, or make it.  [default: --diff]"
    )
    only: str | None = option("--from", metavar="KEY", in_file=False, help="Only the registration with this key.")
    beside: str | None = option(
        metavar="KEY", in_file=False, help="Leave the old registration, and add the new one below it under KEY."
    )
    output: Output = group(Output)


@dataclass(frozen=True, order=True)
class _Remark:
    """What became of one line of a source file."""

    line: int
    state: str
    text: str = ""
    #: Code to paste by hand.
    paste: str = ""


@command(
    _ConvertRequest,
    "Rewrite fsspec registrations in source files.",
    "convert src/",
    "convert src/ --write",
    "convert src/ --beside new --from old",
)
def convert(request: _ConvertRequest) -> int:
    """Rewrite the fsspec registrations in Python files and folders for obstore.

    A name that another file of the project imports stays. What is not certain is left as it was, and listed with its line, the reason and what to paste. The difference is for
    reading: literals that may be secrets are hidden in it. Exits with 1 when something was left.
    """
    try:
        from migrate_storage.translate.codemod.files import convert_file, difference, sources, write
        from migrate_storage.translate.codemod.importers import ImportedNames, find_tree
        from migrate_storage.translate.codemod.rewrite_source import Conversion
    except ImportError:
        raise ConfigurationError("convert needs libcst: pip install 'migrate-storage[convert]'") from None
    output, left, changed = request.output, 0, 0
    imported = ImportedNames(sources(sorted({find_tree(path) for path in request.paths if path.exists()})))
    how = Conversion(beside=request.beside or "", only=request.only or "")
    files = [
        convert_file(path, replace(how, kept=imported.of(path), project=find_tree(path)))
        for path in sources(request.paths)
    ]
    if request.only and not any(file.error or request.only in file.source for file in files):
        raise ConfigurationError(f"--from {visible(request.only)}: no FSSpecBackend is registered under this key here")
    if request.beside and sum(len(file.converted.done) for file in files) > 1:
        raise ConfigurationError(
            f"--beside {visible(request.beside)}: several registrations would get this key; name one with --from KEY"
        )
    for file in files:
        if file.converted.code != file.source:
            changed += 1
            if request.diff:
                output.print_verbatim(difference(file).splitlines())
            else:
                write(file)
        remarks = sorted(_collect_remarks(file))
        left += sum(remark.state != "converted" for remark in remarks)
        for remark in remarks:
            _print_remark(file.path, remark, output)
    verb = "would change" if request.diff else "changed"
    output.print_text(
        [
            f"{amount(changed, 'file')} {verb}, {amount(left, 'registration')} left as {'it was' if left == 1 else 'they were'}"
        ]
    )
    return EXIT_PROBLEMS if left else 0


def _collect_remarks(file: ConvertedFile) -> Iterator[_Remark]:
    for line, notes in file.converted.done:
        yield from (_Remark(line, "converted", note) for note in notes or ("",))
    for kept in file.converted.left:
        yield _Remark(kept.line, "left", kept.reason, kept.paste)
    if file.error:
        yield _Remark(0, "unreadable", file.error)


def _print_remark(path: Path, remark: _Remark, output: Output) -> None:
    if output.json:
        place = {"event": remark.state, "path": str(path), "line": remark.line}
        echo(json.dumps({**place, "reason": remark.text, "paste": remark.paste}))
    elif remark.state != "converted" or (remark.text and not output.quiet):
        paste = f"\n  {visible(remark.paste)}" if remark.paste else ""
        click.echo(f"{visible(f'{path}:{remark.line}: {remark.state}: {remark.text}')}{paste}", err=True)
