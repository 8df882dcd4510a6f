"""The door of the command line: turns every ending into an exit code and at most one line, never a traceback."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from migrate_storage.errors import ConfigurationError, MigrateStorageError, StoppedError
from migrate_storage.text import masked, one_line, visible

__all__ = ("main",)

USAGE, FATAL, UNFORESEEN, INTERRUPTED = 2, 3, 70, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What to parse; the process's own by default.

    Returns:
        The exit code, as the documentation's page on exit codes has it.
    """
    from migrate_storage.cli import cli

    try:
        ended = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.UsageError as error:
        hint = f" (`{error.ctx.command_path} --help` tells more)" if error.ctx is not None else ""
        return _say(f"{error.format_message().rstrip('.')}{hint}", USAGE)
    except click.ClickException as error:
        return _say(error.format_message(), USAGE)
    except (KeyboardInterrupt, click.Abort, StoppedError) as error:
        return _say(str(error) or "interrupted", INTERRUPTED)
    except ConfigurationError as error:
        return _say(str(error), USAGE)
    except MigrateStorageError as error:
        return _say(str(error), FATAL)
    except BaseException as error:  # a panic of the Rust side is no Exception
        if isinstance(error, SystemExit):  # click's answer where the reader of our output has left
            raise
        log = _write_log(error)
        return _say(f"unforeseen error, please report it with {log}: {one_line(error)}", UNFORESEEN)
    return ended if isinstance(ended, int) else 0


def _say(message: str, code: int) -> int:
    click.echo(f"migrate-storage: {visible(masked(message))}", err=True)
    return code


def _write_log(error: BaseException) -> Path:
    """Write the traceback to a file that only its owner can read, without what looks like a secret."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    handle, name = tempfile.mkstemp(prefix=f"migrate-storage-{moment}-", suffix=".log", text=True)
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        log.write(masked("".join(traceback.format_exception(error))))
    return Path(name)


if __name__ == "__main__":
    sys.exit(main())
