"""``convert``: registrations in source files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from migrate_storage.cli.option import example, option
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import visible

__all__ = ("convert",)


@click.command(
    short_help="Rewrite fsspec registrations in source files.",
    epilog=example("migrate-storage convert src/", "migrate-storage convert src/ --write"),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@option("--diff/--write", "diff", in_file=False, default=True, help="Show the change, or make it.  [default: --diff]")
@output_options
def convert(paths: tuple[Path, ...], diff: bool, output: Output) -> int:
    """Rewrite the fsspec registrations in Python files and folders for obstore.

    What is not certain is left as it was, and listed with its line, the reason and what to paste. The difference is for
    reading: literals that may be secrets are hidden in it. Exits with 1 when something was left.
    """
    try:
        from migrate_storage.translate.codemod.files import convert_file, difference, sources, write
    except ImportError:
        raise ConfigurationError("convert needs libcst: pip install 'migrate-storage[convert]'") from None
    left = changed = 0
    for file in map(convert_file, sources(paths)):
        result = file.converted
        if result.code != file.source:
            changed += 1
            if not diff:
                write(file)
            elif not output.json and not output.quiet:
                for line in difference(file).splitlines():
                    click.echo(visible(line))
        remarks = [(line, "converted", note, "") for line, notes in result.done for note in notes or ("",)]
        remarks += [(each.line, "left", each.reason, each.paste) for each in result.left]
        if file.error:
            remarks.append((0, "unreadable", file.error, ""))
        left += len(result.left) + bool(file.error)
        _tell(file.path, remarks, output)
    if not output.json and not output.quiet:
        verb = "would change" if diff else "changed"
        click.echo(f"{changed} files {verb}, {left} registrations left as they are")
    return 1 if left else 0


def _tell(path: Path, remarks: list[tuple[int, str, str, str]], output: Output) -> None:
    for line, state, text, paste in sorted(remarks):
        if output.json:
            told = {"event": state, "path": str(path), "line": line, "reason": text, "paste": paste}
            click.echo(json.dumps(told))
        elif state != "converted" or (text and not output.quiet):
            click.echo(visible(f"{path}:{line}: {state}: {text}"), err=True)
            if paste:
                click.echo(visible(f"  {paste}"), err=True)
