"""Where FSSpecBackend differs from ObstoreBackend: each difference is a failing contract test, and a line in the docs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("DIFFERENCES", "Difference")

EVERYWHERE = ("memory", "local", "rclone", "moto", "azurite", "gcs")


@dataclass(frozen=True)
class Difference:
    #: The contract test that FSSpecBackend fails.
    test: str
    beds: tuple[str, ...]
    #: The line in ``docs/backend.md``.
    line: str


DIFFERENCES = (
    Difference(
        "test_deleting_what_is_not_there_is_no_error",
        ("memory", "local", "azurite", "gcs"),
        "Deleting what is not there is no error on any store; FSSpecBackend raises FileNotFoundError except on S3.",
    ),
    Difference(
        "test_deleting_takes_names_not_patterns",
        ("memory", "rclone", "moto", "azurite", "gcs"),
        "Deleting takes names, never patterns; FSSpecBackend deletes every match of `a*.txt`.",
    ),
    Difference(
        "test_names_with_brackets_are_kept",
        ("azurite",),
        "Names with brackets can be saved on Azure; adlfs refuses them.",
    ),
    Difference(
        "test_a_file_on_disk_is_saved",
        EVERYWHERE,
        "A `Path` can be saved; FSSpecBackend hands source and target over the wrong way round and fails.",
    ),
    Difference(
        "test_an_open_file_is_saved",
        ("memory", "local", "rclone", "moto", "gcs"),
        "An open file can be saved; FSSpecBackend takes bytes only, except on Azure.",
    ),
    Difference(
        "test_an_iterator_is_saved",
        ("memory", "local", "rclone", "moto", "gcs"),
        "An iterator can be saved; FSSpecBackend takes bytes only, except on Azure.",
    ),
    Difference(
        "test_metadata_stays_in_the_file_object",
        ("azurite",),
        "A file's metadata stays as it was given; adlfs adds `is_directory` to it on Azure.",
    ),
    Difference(
        "test_a_signed_url_gives_the_content",
        ("rclone", "gcs"),
        "Signed URLs have Signature Version 4 on S3, where s3fs signs with version 2 by default. "
        "On Google Cloud Storage a service account's file is enough.",
    ),
    Difference(
        "test_several_urls_are_signed", ("rclone", "gcs"), "Several URLs are signed in one call, on every cloud."
    ),
    Difference(
        "test_a_signed_url_takes_an_upload",
        ("rclone", "moto", "azurite", "gcs"),
        "`for_upload=True` gives a URL to `PUT` to; FSSpecBackend raises NotImplementedError.",
    ),
)
