"""The exit codes of the commands, see docs/exit-codes.md; success is 0."""

from __future__ import annotations

from typing import Final

__all__ = (
    "EXIT_FAILED", "EXIT_INTERNAL_ERROR", "EXIT_INTERRUPTED", "EXIT_LIMIT_REACHED", "EXIT_PROBLEMS", "EXIT_USAGE",
)  # fmt: skip

#: Finished, and the report lists problems.
EXIT_PROBLEMS: Final = 1
#: An option, an argument or the configuration is wrong; nothing was changed.
EXIT_USAGE: Final = 2
#: A fatal error stopped the job.
EXIT_FAILED: Final = 3
#: The job reached a limit that the user set.
EXIT_LIMIT_REACHED: Final = 4
#: The program failed in a way that it does not expect.
EXIT_INTERNAL_ERROR: Final = 70
#: Ctrl-C, or a stop that was requested. SIGTERM gives 143.
EXIT_INTERRUPTED: Final = 130
