"""How a command leaves: every ending is an exit code and at most one line, never a traceback."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from migrate_storage.core.errors import ConfigurationError, MigrateStorageError, StoppedError
from migrate_storage.core.text import masked, one_line, visible

__all__ = ("EXIT_FAILED", "EXIT_INTERNAL_ERROR", "EXIT_INTERRUPTED", "EXIT_USAGE", "ended")

EXIT_USAGE, EXIT_FAILED, EXIT_INTERNAL_ERROR, EXIT_INTERRUPTED = 2, 3, 70, 130


def ended(work: Callable[[], object]) -> int:
    """Do something, and return the exit code, as the documentation's page on exit codes has it.

    Args:
        work: returns the exit code; anything else is 0.
    """
    try:
        result = work()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.UsageError as error:
        hint = f" (`{error.ctx.command_path} --help` tells more)" if error.ctx is not None else ""
        return _say(f"{error.format_message().rstrip('.')}{hint}", EXIT_USAGE)
    except click.ClickException as error:
        return _say(error.format_message(), EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort, StoppedError) as error:
        return _say(str(error) or "interrupted", EXIT_INTERRUPTED)
    except ConfigurationError as error:
        return _say(str(error), EXIT_USAGE)
    except MigrateStorageError as error:
        return _say(str(error), EXIT_FAILED)
    except BaseException as error:  # a panic of the Rust side is no Exception
        if isinstance(error, SystemExit):  # click's answer where the reader of our output has left
            raise
        log = _write_log(error)
        return _say(f"unforeseen error, please report it with {log}: {one_line(error)}", EXIT_INTERNAL_ERROR)
    return result if isinstance(result, int) else 0


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
