"""Turn the end of a command into an exit code and one line of error."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from migrate_storage.core.errors import ConfigurationError, MigrateStorageError, StoppedError
from migrate_storage.core.exit_codes import EXIT_FAILED, EXIT_INTERNAL_ERROR, EXIT_INTERRUPTED, EXIT_USAGE
from migrate_storage.core.text import masked, one_line, visible

__all__ = ("exit_code_of",)


def exit_code_of(work: Callable[[], object]) -> int:
    """Run a command, print one line for an error, and return the exit code.

    Args:
        work: The command. An ``int`` that it returns is the exit code; for any other value the exit code is 0.

    Returns:
        One of :mod:`migrate_storage.core.exit_codes`, or 0.
    """
    try:
        result = work()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2 and newer; older ones print the help themselves
            click.echo(error.format_message())
            return 0
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
        return _print_error(f"{error.format_message().rstrip('.')}{hint}", EXIT_USAGE)
    except click.ClickException as error:
        return _print_error(error.format_message(), EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort, StoppedError) as error:
        return _print_error(str(error) or "interrupted", EXIT_INTERRUPTED)
    except ConfigurationError as error:
        return _print_error(str(error), EXIT_USAGE)
    except MigrateStorageError as error:
        return _print_error(str(error), EXIT_FAILED)
    except BaseException as error:  # a panic of obstore's Rust code is not an Exception
        if isinstance(error, SystemExit):  # click raises it when the reader of standard output has closed the pipe
            raise
        log = _write_log(error)
        return _print_error(f"unforeseen error, please report it with {log}: {one_line(error)}", EXIT_INTERNAL_ERROR)
    return result if isinstance(result, int) else 0


def _print_error(message: str, code: int) -> int:
    click.echo(f"migrate-storage: {visible(masked(message))}", err=True)
    return code


def _write_log(error: BaseException) -> Path:
    """Write the traceback, with secrets masked, to a private temporary file."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    handle, name = tempfile.mkstemp(prefix=f"migrate-storage-{moment}-", suffix=".log", text=True)
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        log.write(masked("".join(traceback.format_exception(error))))
    return Path(name)
