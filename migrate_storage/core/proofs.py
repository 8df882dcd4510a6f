"""The tokens that name how an object was proved equal, or why it was deleted.

An outcome has one token, or several with ``, `` between them: first the proof of the source, then that of the
destination. Reports, events and the journal have the tokens. Texts have :func:`describe_proof`.
"""

from __future__ import annotations

__all__ = (
    "AS_WRITTEN", "BY_OPTION", "CONTENT_COMPARED", "COPIED_BACK", "COPY_VERIFIED", "CUTOVER", "DELETED_BEFORE",
    "DESTINATION_DIGEST", "DESTINATION_READBACK", "DIGEST", "DRY_RUN", "EXPLANATIONS", "JOURNAL", "JOURNAL_SHA256", "LOCAL_SOURCE", "ROW_DELETED", "ROW_SHA256", "SAME_OBJECT",
    "SAME_OBJECT_LISTING", "SERVER_SIDE_COPY", "SIZE", "SIZE_AND_TIME", "SOURCE_DIGEST", "SOURCE_REREAD",
    "describe_proof", "join_proofs", "split_proof",
)  # fmt: skip

SAME_OBJECT = "same_object"
SAME_OBJECT_LISTING = "same_object_listing"
SOURCE_DIGEST = "source_digest"
LOCAL_SOURCE = "local_source"
SOURCE_REREAD = "source_reread"
BY_OPTION = "by_option"
DESTINATION_DIGEST = "destination_digest"
DESTINATION_READBACK = "destination_readback"
SERVER_SIDE_COPY = "server_side_copy"
CONTENT_COMPARED = "content_compared"
COPIED_BACK = "copied_back"
JOURNAL = "journal"
JOURNAL_SHA256 = "journal_sha256"
ROW_SHA256 = "row_sha256"
CUTOVER = "cutover"
SIZE = "size"
DIGEST = "digest"
SIZE_AND_TIME = "size_and_time"
DRY_RUN = "dry_run"
COPY_VERIFIED = "copy_verified"
ROW_DELETED = "row_deleted"
AS_WRITTEN = "as_written"
DELETED_BEFORE = "deleted_before"

EXPLANATIONS = {
    SAME_OBJECT: "both keys name the same object",
    SAME_OBJECT_LISTING: "both keys name the same object, and a listing of its bucket contains it",
    SOURCE_DIGEST: "the source's own digest is that of the bytes that were read",
    LOCAL_SOURCE: "the source is a disk or the memory of this machine, read once",
    SOURCE_REREAD: "the source reports no digest, so it was read a second time, and gave the same bytes",
    BY_OPTION: "the digest of the source is another one, but by an option its ETags are none",
    DESTINATION_DIGEST: "the destination's own digest is that of the bytes that were written",
    DESTINATION_READBACK: "the copy was read again, and has the bytes that were written",
    SERVER_SIDE_COPY: "the service copied the object, and both objects have the same digest",
    CONTENT_COMPARED: "both objects were read, and have the same bytes",
    COPIED_BACK: "the object was copied back to the source, and verified",
    JOURNAL: "an earlier run proved it, and neither side has changed since",
    JOURNAL_SHA256: "the object was read, and has the SHA-256 of the journal",
    ROW_SHA256: "the object was read, and has the SHA-256 of its row",
    CUTOVER: "a cutover proved it, and the object has not changed since",
    SIZE: "both objects have the same size",
    DIGEST: "both objects have the same digest",
    SIZE_AND_TIME: "both objects have the same size, and the destination is not older",
    DRY_RUN: "nothing was copied, so there was nothing to prove",
    COPY_VERIFIED: "deleted after its copy was verified again",
    ROW_DELETED: "deleted, as no row is left that names it or its copy",
    AS_WRITTEN: "deleted, as it still was what the run wrote",
    DELETED_BEFORE: "an interrupted purge had deleted it",
}
"""What each token of a proof means."""

_WORDS = {
    SAME_OBJECT_LISTING: "same object, listed",
    CONTENT_COMPARED: "comparing the content",
    SOURCE_REREAD: "reading the source twice",
    DESTINATION_READBACK: "reading the copy back",
    JOURNAL_SHA256: "the journal's SHA-256",
    ROW_SHA256: "the row's SHA-256",
}
"""The words of a text for a token, where they are not the token itself with spaces."""


def join_proofs(*proofs: str) -> str:
    """Return several proofs as one."""
    return ", ".join(proofs)


def split_proof(proof: str) -> list[str]:
    """Return the tokens of a proof."""
    return proof.split(", ")


def describe_proof(proof: str) -> str:
    """Return a proof in the words of a text."""
    return ", ".join(_WORDS.get(token, token.replace("_", " ")) for token in split_proof(proof))
