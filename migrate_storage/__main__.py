"""Entry point of the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from migrate_storage.cli import cli
from migrate_storage.cli.exit_codes import exit_code_of
from migrate_storage.cli.standard_output import send_stdout_to_stderr

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments to parse, by default those of the process.

    Returns:
        The exit code, one of :mod:`migrate_storage.core.exit_codes`.
    """
    try:
        return exit_code_of(
            lambda: cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
        )
    finally:
        if arguments is None:
            send_stdout_to_stderr()


if __name__ == "__main__":
    sys.exit(main())
