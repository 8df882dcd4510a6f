"""``demo``: the quickstart."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.option import example, option
from migrate_storage.cli.output import interpreter, program, show
from migrate_storage.cli.run_job import watched
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.text import amount, visible

if TYPE_CHECKING:
    from migrate_storage.cli.demo.scenario import Comparison

__all__ = ("demo",)

_NEXT = (
    ("python app.py", "the application saves one more file under the old key"),
    ("migrate-storage plan", "says what is to do now"),
    ("migrate-storage run", "does it"),
    ("migrate-storage report", "what the last run did"),
    ("migrate-storage runs", "all runs"),
)


@click.command(
    short_help="See a whole run on an example application, in a few seconds.", epilog=example("migrate-storage demo")
)
@option(
    "--directory",
    in_file=False,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("migrate-storage-demo"),
    show_default=True,
    help="Folder that it makes, and keeps everything in.",
)
@output_options
def demo(directory: Path, output: Output) -> int:
    """Make a small application with 500 files, and move it from fsspec to obstore.

    SQLite and local disk, no server, nothing outside of its folder. Afterwards every row is opened through
    FileObject.get_content() and compared byte by byte. Run it again to see a finished run resumed.
    """
    from migrate_storage.cli.demo.scenario import Demo
    from migrate_storage.jobs.run.job import Migration

    def say(line: str) -> None:
        if not output.json and not output.quiet:
            click.echo(line)

    made = Demo(directory)
    again = made.exists
    files = amount(made.prepare(), "file")
    if again:
        say(f"The application in {directory}/ is there from before, with {files}. Once more:\n")
    else:
        say(f"Made an application in {directory}/, which saved {files} with FSSpecBackend. Now to obstore:\n")
    application = made.application()
    try:
        report, code = watched(
            lambda listener: Migration(application, made.options, listener), output, made.options.grace
        )
    finally:
        application.close()
    compared = made.compare()
    if output.json:
        click.echo(json.dumps({"event": "compared", **asdict(compared)}))
    elif code or compared.different or not output.quiet:
        show(replace(report, next_command=""))
        click.echo(f"\n{_verdict(compared)}\n")
        say(_next(directory))
    return 1 if compared.different else code


def _next(directory: Path) -> str:
    names = {"migrate-storage": program(), "python": interpreter()}
    commands = [(" ".join(names.get(word, word) for word in command.split()), purpose) for command, purpose in _NEXT]
    width = max(len(command) for command, _ in commands)
    lines = [f"  {command:<{width}}  # {purpose}" for command, purpose in commands]
    return "\n".join(("Next", f"  cd {shlex.quote(str(directory))}", *lines))


def _verdict(compared: Comparison) -> str:
    equal = (
        f"{amount(compared.equal, 'file')} equal to the original, byte by byte; {len(compared.different):,} different"
    )
    lines = [f"Every row opened through FileObject.get_content(): {equal}."]
    if compared.later:
        lines.append(f"{amount(compared.later, 'file')} that the application saved later opened as well.")
    lines.extend(f"  differs: {visible(name)}" for name in compared.different)
    return "\n".join(lines)
