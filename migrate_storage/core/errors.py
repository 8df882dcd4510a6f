"""The errors of the toolkit, as a tree. Every message is one line: what was being done to what, and what to do next.

::

    MigrateStorageError            the base: catch this to catch all of ours
    ├── ConfigurationError         bad usage or configuration; nothing was changed   (exit code 2)
    │   ├── UnknownOptionError     an option that no store knows, with the nearest known name
    │   └── ApplicationError       the application failed to import or holds no such thing
    ├── KeyRefusedError            a key that the store cannot address, never silently normalised
    ├── ConditionFailedError       a read's condition (if_match and the like) did not hold
    ├── DeleteFailedError          some of several objects could not be deleted; ``failures`` says which and why
    ├── MissingBucketError         the bucket or container itself does not exist
    ├── PhaseLostError             this process may not act now: its lease on the cutover's phase is over
    ├── RunError                   a run cannot go on; what was done is journaled       (exit code 3)
    │   ├── RefusedError           the database refuses a statement, and would again
    │   ├── PreflightError         found before anything was touched                    (exit code 2)
    │   └── LeaseHeldError         another run holds the lease                          (exit code 2)
    └── StoppedError               the person (or a signal) asked the run to stop       (exit code 130)

One item's failure is a value (:class:`migrate_storage.core.model.Outcome`), never raised out of a run. Backends raise
Python's own types where there is one: ``FileNotFoundError``, ``PermissionError``, ``FileExistsError``.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = (
    "ApplicationError",
    "ConditionFailedError",
    "ConfigurationError",
    "DeleteFailedError",
    "KeyRefusedError",
    "LeaseHeldError",
    "MigrateStorageError",
    "MissingBucketError",
    "PhaseLostError",
    "PreflightError",
    "RefusedError",
    "RunError",
    "StoppedError",
    "UnknownOptionError",
)


class MigrateStorageError(Exception):
    """The base of all errors of this package."""


class ConfigurationError(MigrateStorageError, ValueError):
    """Bad usage or configuration. Nothing was changed."""


class UnknownOptionError(ConfigurationError, TypeError):
    """An option that the store does not know."""


class ApplicationError(ConfigurationError):
    """The application could not be imported, or does not hold what was asked of it."""


class KeyRefusedError(MigrateStorageError, ValueError):
    """A key that the store cannot address exactly; it is refused rather than normalised into another object."""


class ConditionFailedError(MigrateStorageError, OSError):
    """The object is not as the condition of the request says."""


class DeleteFailedError(MigrateStorageError, OSError):
    """Some of several objects could not be deleted; all others were."""

    def __init__(self, message: str, failures: Mapping[str, Exception] | None = None) -> None:
        super().__init__(message)
        #: By the path as it was given: why that one could not be deleted.
        self.failures = dict(failures or {})


class MissingBucketError(MigrateStorageError, OSError):
    """The bucket or container does not exist. Never a ``FileNotFoundError``: nothing in it can be missing or deleted."""


class PhaseLostError(MigrateStorageError, OSError):
    """This process does not know the phase of the cutover, so it may not act. Nothing more is written; try again later."""


class RunError(MigrateStorageError):
    """The run cannot go on. All that was done is journaled: the same command goes on from here."""


class RefusedError(RunError):
    """The database refuses a statement, and would refuse it again. Its transaction was rolled back.

    Args:
        message: one line.
        reason: the database's own words within it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class PreflightError(RunError, ConfigurationError):
    """Something that would make the run fail was found before anything was touched."""


class LeaseHeldError(RunError, ConfigurationError):
    """Another run, revert or purge holds the lease."""


class StoppedError(RunError):
    """The run was asked to stop. All that was done is journaled: the same command goes on from here."""
