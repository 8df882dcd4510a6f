"""The states of the records of objects and rows."""

from __future__ import annotations

import enum

__all__ = ("LinkState", "ObjectState", "RowState")


class ObjectState(enum.StrEnum):
    """The state of the record of an object.

    A run begins with ``INTENT``. ``purge`` continues from ``VERIFIED`` or ``UNREFERENCED``. ``orphans`` begins with
    ``QUARANTINE_COPYING``, for an object that no row names. The comparison of a cutover begins with ``COMPARED``.
    """

    INTENT = "intent"
    """The run may have begun to write the copy."""
    VERIFIED = "verified"
    """The copy at the destination was verified."""
    UNREFERENCED = "unreferenced"
    """The copy exists, and no row names it."""
    UNRESOLVED = "unresolved"
    """A problem without a verified copy. ``outcome`` and ``reason`` describe it."""
    SOURCE_DELETING = "source_deleting"
    """``purge`` may have begun to delete the source object."""
    SOURCE_DELETED = "source_deleted"
    """``purge`` deleted the source object."""
    COPY_DELETING = "copy_deleting"
    """``purge`` may have begun to delete the unreferenced copy."""
    COPY_DELETED = "copy_deleted"
    """The unreferenced copy is deleted. Its destination has no owner."""
    QUARANTINE_COPYING = "quarantine_copying"
    """The copy to the quarantine may have begun. The object is under its own key."""
    QUARANTINE_DELETING = "quarantine_deleting"
    """The copy in the quarantine is verified, and the DELETE of the object may have begun."""
    QUARANTINED = "quarantined"
    """The object is in the quarantine only."""
    RESTORING = "restoring"
    """The copy back from the quarantine may have begun."""
    RESTORED = "restored"
    """The object is under its own key again."""
    COMPARED = "compared"
    """Both sides of a key were equal. The record is evidence and owns no destination.

    A cutover writes it. So does a run, for a copy that no row names and whose source key means another place by now.
    """


class RowState(enum.StrEnum):
    """The state of the record of a row."""

    INTENT = "intent"
    """Written before an UPDATE in another database."""
    REPOINTED = "repointed"
    """The UPDATE is committed."""
    SUPERSEDED = "superseded"
    """The application wrote the row first. Its value was kept."""
    REVERTED = "reverted"
    """The row has its old value again."""


class LinkState(enum.StrEnum):
    """The state of the record of a text in which addresses were changed."""

    INTENT = "intent"
    """Written before an UPDATE in another database."""
    REWRITTEN = "rewritten"
    """The UPDATE is committed."""
    SUPERSEDED = "superseded"
    """The application wrote the row first. Its value was kept."""
    REVERTED = "reverted"
    """The row has its old value again."""
