"""The errors of this package.

Every message is one line: what failed, why, and what to do.

::

    MigrateStorageError            the base: catch this to catch all of ours
    ├── ConfigurationError         bad usage or configuration; nothing was changed   (exit code 2)
    │   ├── UnknownOptionError     an option that no store knows, with the nearest known name
    │   └── ApplicationError       the application failed to import or lacks what was named
    ├── KeyRefusedError            a key that the store cannot address exactly
    ├── ConditionFailedError       a condition of a read, such as if_match, is not met
    ├── DeleteFailedError          some of several objects could not be deleted; ``failures`` has the reasons
    ├── MissingBucketError         the bucket or container itself does not exist
    ├── UploadRefusedError         an uploaded object breaks a promise or a bound; ``reasons`` has them
    ├── PhaseLostError             the lease of this process on the cutover's phase has expired
    ├── RunError                   a job cannot continue; its work is journaled          (exit code 3)
    │   ├── RefusedError           the database refuses a statement, and would again
    │   │   └── WrongUpdateError   an UPDATE of one row left it as it is, or changed others too; it is rolled back
    │   ├── PreflightError         found before anything was changed                    (exit code 2)
    │   └── LeaseHeldError         another job has the lease                            (exit code 2)
    └── StoppedError               a person or a signal stopped the job                  (exit code 130)

The failure of one object is a value (:class:`migrate_storage.core.model.Outcome`), and no job raises it. Backends raise
Python's own types where there is one: ``FileNotFoundError``, ``PermissionError``, ``FileExistsError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = (
    "ApplicationError", "ConditionFailedError", "ConfigurationError", "DeleteFailedError", "KeyRefusedError",
    "LeaseHeldError", "MigrateStorageError", "MissingBucketError", "PhaseLostError", "PreflightError", "RefusedError",
    "RunError", "StoppedError", "UnknownOptionError", "UploadRefusedError", "WrongUpdateError",
)  # fmt: skip


class MigrateStorageError(Exception):
    """The base of all errors of this package."""


class ConfigurationError(MigrateStorageError, ValueError):
    """Bad usage or configuration. Nothing was changed."""


class UnknownOptionError(ConfigurationError, TypeError):
    """An option that no store knows."""


class ApplicationError(ConfigurationError):
    """The application could not be imported, or lacks what was named."""


class KeyRefusedError(MigrateStorageError, ValueError):
    """A key that the store cannot address exactly, and that is not normalised."""


class ConditionFailedError(MigrateStorageError, OSError):
    """The object does not meet the condition of the request."""


class DeleteFailedError(MigrateStorageError, OSError):
    """Some of several objects could not be deleted. All others were."""

    def __init__(self, message: str, failures: Mapping[str, Exception] | None = None) -> None:
        super().__init__(message)
        #: The exception of each object that could not be deleted, by its path as given.
        self.failures = dict(failures or {})


class MissingBucketError(MigrateStorageError, OSError):
    """The bucket or container does not exist.

    It is no ``FileNotFoundError``, which would mean that one object is missing or was deleted.
    """


class UploadRefusedError(MigrateStorageError, ValueError):
    """An object that a client uploaded is not what was promised, or not within the bounds."""

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(message)
        #: Each broken promise and bound, in a few words.
        self.reasons = tuple(reasons)


class PhaseLostError(MigrateStorageError, OSError):
    """This process does not know the phase of the cutover, so it may not write."""


class RunError(MigrateStorageError):
    """The job cannot continue. Its work is journaled, and the same command resumes it."""


class RefusedError(RunError):
    """The database refuses a statement, and its transaction was rolled back.

    Args:
        message: one line.
        reason: the database's own message, which is part of it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class WrongUpdateError(RefusedError):
    """An UPDATE of one row left it as it is, or changed others too. Its transaction must be rolled back.

    Args:
        reason: what the UPDATE did to the row.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, reason)


class PreflightError(RunError, ConfigurationError):
    """Something that would make the job fail was found before anything was changed."""


class LeaseHeldError(RunError, ConfigurationError):
    """Another run, revert or purge has the lease."""


class StoppedError(RunError):
    """The job was stopped. Its work is journaled, and the same command resumes it."""
