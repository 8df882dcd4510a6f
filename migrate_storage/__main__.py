"""Entry point of the command line."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from migrate_storage.cli import cli
from migrate_storage.cli.exit_codes import exit_code_of
from migrate_storage.cli.standard_output import send_stdout_to_stderr

__all__ = ("main",)

_ALLOCATIONS_PER_COLLECTION = 10_000
"""New objects after which the garbage collector searches them for cycles; Python's own value is 700."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments to parse, by default those of the process.

    Returns:
        The exit code, one of :mod:`migrate_storage.core.exit_codes`.
    """
    if arguments is None:
        # Most objects live as long as their batch of a run, and are freed by their counts of references.
        gc.set_threshold(_ALLOCATIONS_PER_COLLECTION, 10, 10)
    try:
        return exit_code_of(
            lambda: cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
        )
    finally:
        if arguments is None:
            send_stdout_to_stderr()


if __name__ == "__main__":
    sys.exit(main())
