"""``demo``: run a migration on an example application."""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.option import command, group, option
from migrate_storage.cli.output import interpreter, print_report, program
from migrate_storage.cli.run_job import run_with_progress
from migrate_storage.cli.shared_options import Output
from migrate_storage.cli.standard_output import echo
from migrate_storage.core.exit_codes import EXIT_PROBLEMS
from migrate_storage.core.text import amount, visible

if TYPE_CHECKING:
    from migrate_storage.cli.demo.scenario import Comparison

__all__ = ("demo",)

_NEXT_COMMANDS = (
    ("python app.py", "the application saves one more file under the old key"),
    ("migrate-storage plan", "shows what is to do now"),
    ("migrate-storage run", "does it"),
    ("migrate-storage report", "what the last run did"),
    ("migrate-storage runs", "all runs"),
)


@dataclass(frozen=True, kw_only=True)
class _DemoRequest:
    directory: Path = option(
        in_file=False, metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
        default=Path("migrate-storage-demo"), show_default=True, help="Folder that it makes, and keeps everything in.",
    )  # fmt: skip
    output: Output = group(Output)


@command(_DemoRequest, "See a whole run on an example application, in a few seconds.", "demo")
def demo(request: _DemoRequest) -> int:
    """Make a small application with 500 files, and move it from fsspec to obstore.

    SQLite and local disk, no server, nothing outside of its folder. Afterwards every row is opened through
    FileObject.get_content() and compared byte by byte. Run it again to see a finished run resumed.
    """
    from migrate_storage.cli.demo.scenario import Demo
    from migrate_storage.jobs.run.job import RunJob

    directory, output = request.directory, request.output
    example_folder = Demo(directory)
    again = example_folder.exists
    files = amount(example_folder.prepare(), "file")
    new = f"Made an application in {directory}/, which saved {files} with FSSpecBackend. Now to obstore:"
    old = f"The application in {directory}/ is there from before, with {files}. Once more:"
    output.print_text([old if again else new, ""])
    how = example_folder.options
    with contextlib.closing(example_folder.application()) as application:
        report, code = run_with_progress(
            lambda listener: RunJob(application, how, listener), output, how.shutdown_timeout
        )
    compared = example_folder.compare()
    if output.json:
        echo(json.dumps({"event": "compared", **asdict(compared)}))
    elif code or compared.different or not output.quiet:
        print_report(replace(report, next_command=""))
        output.print_text(("", *_describe_comparison(compared), "", *_describe_next(directory)), important=True)
    return EXIT_PROBLEMS if compared.different else code


def _describe_next(directory: Path) -> tuple[str, ...]:
    names = {"migrate-storage": program(), "python": interpreter()}
    commands = [
        (" ".join(names.get(word, word) for word in command.split()), purpose) for command, purpose in _NEXT_COMMANDS
    ]
    width = max(len(command) for command, _ in commands)
    lines = [f"  {command:<{width}}  # {purpose}" for command, purpose in commands]
    return ("Next commands", f"  cd {shlex.quote(str(directory))}", *lines)


def _describe_comparison(compared: Comparison) -> list[str]:
    equal = f"{amount(compared.equal, 'file')} equal to the original, byte by byte"
    lines = [f"Every row opened through FileObject.get_content(): {equal}; {len(compared.different):,} different."]
    if compared.later:
        lines.append(f"{amount(compared.later, 'file')} that the application saved later opened as well.")
    lines.extend(f"  differs: {visible(name)}" for name in compared.different)
    return lines
