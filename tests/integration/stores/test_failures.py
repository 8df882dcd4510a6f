"""What an error of a store means, told from the errors of real servers and from the texts of those that are not here."""

from __future__ import annotations

import errno
from typing import Any

import obstore
import pytest
from botocore.exceptions import ClientError
from obstore.exceptions import GenericError

from migrate_storage.stores.failures import FailureKind, classify
from tests.support.servers import S3Server

GENERIC = "Generic S3 error: Error performing PUT http://127.0.0.1:1/b/k in 5ms, after 2 retries - "


def client_error(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("x"), FailureKind.MISSING),
        (FileExistsError("x"), FailureKind.EXISTS),
        (PermissionError("x"), FailureKind.DENIED),
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), FailureKind.FULL),
        (ConnectionResetError("reset"), FailureKind.TRANSIENT),
        (TimeoutError(), FailureKind.TRANSIENT),
        (EOFError("unexpected end of file"), FailureKind.TRANSIENT),
        (GenericError(GENERIC + "Server returned non-2xx status code: 500 Internal Server Error: "), FailureKind.TRANSIENT),
        (GenericError(GENERIC + "Server returned non-2xx status code: 503 Service Unavailable: "), FailureKind.SLOW_DOWN),
        (GenericError(GENERIC + "Server returned non-2xx status code: 429 Too Many Requests: "), FailureKind.SLOW_DOWN),
        (GenericError(GENERIC + "Server returned non-2xx status code: 507 Insufficient Storage: "), FailureKind.FULL),
        (GenericError(GENERIC + "Server returned non-2xx status code: 501 Not Implemented: "), FailureKind.PERMANENT),
        (GenericError(GENERIC + "Server returned non-2xx status code: 400 Bad Request: "), FailureKind.PERMANENT),
        (GenericError(GENERIC + "Server returned non-2xx status code: 403 Forbidden: "), FailureKind.DENIED),
        (GenericError(GENERIC + "HTTP error: error sending request"), FailureKind.TRANSIENT),
        (GenericError("Generic S3 error: Got invalid list response: ill-formed document"), FailureKind.TRANSIENT),
        (GenericError("Generic S3 error: the key is not UTF-8"), FailureKind.PERMANENT),
        (client_error(403, "InvalidObjectState"), FailureKind.ARCHIVED),
        (client_error(503, "SlowDown"), FailureKind.SLOW_DOWN),
        (client_error(404, "NoSuchKey"), FailureKind.MISSING),
        (client_error(404, "NoSuchBucket"), FailureKind.NO_BUCKET),
        (caused(OSError("Access Denied"), client_error(403, "AccessDenied")), FailureKind.DENIED),
        (caused(OSError("hidden"), client_error(500, "InternalError")), FailureKind.TRANSIENT),
        (ValueError("anything else"), FailureKind.PERMANENT),
    ],
    ids=lambda value: str(value)[-40:] if isinstance(value, BaseException) else None,
)  # fmt: skip
def test_what_it_means(error: BaseException, kind: FailureKind) -> None:
    assert classify(error).kind is kind


def raised(work: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is the question
        work()
    return caught.value


@pytest.mark.parametrize("name", ["rclone_s3", "moto_s3"])
def test_an_s3_server_by_both_libraries(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket = server.new_bucket()
    here, nowhere, fs = server.store(bucket), server.store("no-such-bucket"), server.fs()
    for work, kinds in (
        (lambda: obstore.head(here, "gone"), {FailureKind.MISSING}),
        (lambda: obstore.get(here, "gone"), {FailureKind.MISSING}),
        (lambda: fs.info(f"{bucket}/gone"), {FailureKind.MISSING}),
        (lambda: fs.cat_file(f"{bucket}/gone"), {FailureKind.MISSING}),
        (lambda: obstore.list(nowhere).collect(), {FailureKind.NO_BUCKET}),
        (lambda: obstore.put(nowhere, "k", b"x"), {FailureKind.NO_BUCKET}),
        (lambda: fs.ls("no-such-bucket"), {FailureKind.NO_BUCKET}),
    ):
        assert classify(raised(work)).kind in kinds


def test_wrong_credentials_by_both_libraries(rclone_s3: S3Server) -> None:
    bucket = rclone_s3.new_bucket()
    stranger = rclone_s3.store(bucket, secret_access_key="wrong")
    for work in (
        lambda: obstore.head(stranger, "k"),
        lambda: obstore.put(stranger, "k", b"x"),
        lambda: obstore.list(stranger).collect(),
        lambda: rclone_s3.fs(secret="wrong").info(f"{bucket}/k"),
    ):
        assert classify(raised(work)).kind is FailureKind.DENIED


def test_nobody_there() -> None:
    store = obstore.store.S3Store(
        "b", endpoint="http://127.0.0.1:9", region="r", access_key_id="k", secret_access_key="s",
        client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )  # fmt: skip
    assert classify(raised(lambda: obstore.head(store, "k"))).kind is FailureKind.TRANSIENT


@pytest.mark.parametrize(
    "text",
    [
        GENERIC + "http://h/b/k?X-Amz-Signature=hunter2&sig=hunter2 failed",
        "cannot connect to http://me:hunter2@host/b",
        "line one\nAuthorization: ok\x1b[31m\r\nline two",
    ],
)
def test_the_message_is_one_line_without_a_secret(text: str) -> None:
    message = classify(OSError(text)).message
    assert "hunter2" not in message
    assert message.isprintable()
    assert len(message) <= 400


def test_only_some_kinds_are_worth_another_attempt_or_speak_of_the_whole_store() -> None:
    assert {kind for kind in FailureKind if kind.retriable} == {FailureKind.SLOW_DOWN, FailureKind.TRANSIENT}
    alone = {FailureKind.MISSING, FailureKind.ARCHIVED, FailureKind.EXISTS, FailureKind.PERMANENT}
    assert {kind for kind in FailureKind if not kind.is_store_wide} == alone
