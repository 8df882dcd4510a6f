"""Errors are Python's own, name the path, keep the cause, and tell no secret."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import DeleteFailedError, MissingBucketError
from migrate_storage.stores.fork_guard import ForkedAfterUseError
from tests.support.backend.echo import Seen, echo
from tests.support.servers import AzureServer, GCSServer, S3Server

KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "very-secret", "aws_session_token": "hush-token"}
QUICK = {"retry_config": {"max_retries": 0}}


def _error(status: int, code: str, extra: str = "") -> Any:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message>{extra}</Error>"
    return lambda seen: (status, {"Content-Type": "application/xml"}, body.encode())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", FileNotFoundError),
        (404, "NoSuchBucket", MissingBucketError),
        (403, "AccessDenied", PermissionError),
        (401, "InvalidToken", PermissionError),
        (400, "InvalidRequest", OSError),
        (500, "InternalError", OSError),
        (503, "SlowDown", OSError),
        (507, "InsufficientStorage", OSError),
    ],
)
async def test_by_status(status: int, code: str, kind: type[Exception]) -> None:
    with echo(_error(status, code)) as server:
        backend = ObstoreBackend("k", "s3://b/p", aws_endpoint=server.url, **KEYS, **QUICK)
        for awaits in (False, True):
            with pytest.raises(kind) as caught:
                await backend.get_content_async("a/x.txt") if awaits else backend.get_content("a/x.txt")
            assert "a/x.txt" in str(caught.value)
            assert "s3://b/p" in str(caught.value)
            assert caught.value.__cause__ is not None
            assert "\n" not in str(caught.value)
            assert type(caught.value).__module__ in ("builtins", "migrate_storage.core.errors")


def test_services_echo_secrets_and_we_do_not() -> None:
    """S3 answers a wrong signature with all that was signed, tokens included."""
    echoed = "<StringToSign>x-amz-security-token:hush-token very-secret</StringToSign>"
    with echo(_error(400, "SignatureDoesNotMatch", echoed)) as server:
        backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, **KEYS, **QUICK)
        with pytest.raises(OSError, match="SignatureDoesNotMatch") as caught:
            backend.get_content("x")
    text = "".join(traceback.format_exception(caught.value))
    assert "hush-token" not in text
    assert "very-secret" not in text


def test_a_sas_token_in_a_url_is_not_told() -> None:
    backend = ObstoreBackend(
        "k", "az://c", account_name="a", sas_token="sv=1&sig=TOPSECRET", endpoint="http://127.0.0.1:9", **QUICK
    )
    with pytest.raises(ConnectionError) as caught:
        backend.get_content("x")
    assert "TOPSECRET" not in "".join(traceback.format_exception(caught.value))


def test_nobody_there_is_a_connection_error() -> None:
    backend = ObstoreBackend("k", "s3://b", aws_endpoint="http://127.0.0.1:9", **KEYS, **QUICK)
    with pytest.raises(ConnectionError, match="reading 'x' in s3://b"):
        backend.get_content("x")


def test_somebody_too_slow_is_a_timeout() -> None:
    import threading

    release = threading.Event()

    def slow(_: Seen) -> None:
        release.wait(20)

    with echo(slow) as server:
        backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, timeout=0.3, **KEYS, **QUICK)
        try:
            with pytest.raises(TimeoutError, match="reading 'x'"):
                backend.get_content("x")
        finally:
            release.set()


def test_refused_credentials(rclone_s3: S3Server, azurite: AzureServer) -> None:
    bucket = rclone_s3.new_bucket()
    wrong = ObstoreBackend(
        "k", f"s3://{bucket}", aws_endpoint=rclone_s3.endpoint, aws_access_key_id="k", aws_secret_access_key="wrong"
    )
    with pytest.raises(PermissionError, match="check its credentials"):
        wrong.get_content("x")
    with pytest.raises(PermissionError):
        FileObject(backend=wrong, filename="x").save(b"1")
    with pytest.raises(PermissionError):
        wrong.exists("x")
    container = azurite.new_container()
    other = ObstoreBackend(
        "k", f"az://{container}", account_name=azurite.account, account_key="d3Jvbmc=", endpoint=azurite.endpoint
    )
    with pytest.raises(PermissionError):
        other.get_content("x")


def test_some_of_many_deletes_fail() -> None:
    def answer(seen: Seen) -> Any:
        if seen.method != "POST":
            return None
        if b"kept" in seen.body:
            body = b"<DeleteResult><Error><Key>kept</Key><Code>AccessDenied</Code><Message>m</Message></Error></DeleteResult>"
            return 200, {"Content-Type": "application/xml"}, body
        key = seen.body.partition(b"<Key>")[2].partition(b"</Key>")[0]
        return (
            200,
            {"Content-Type": "application/xml"},
            b"<DeleteResult><Deleted><Key>" + key + b"</Key></Deleted></DeleteResult>",
        )

    with echo(answer) as server:
        backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, **KEYS, **QUICK)
        with pytest.raises(DeleteFailedError, match="1 of 3 objects in s3://b") as caught:
            backend.delete_object(["a", "kept", "c"])
    assert set(caught.value.failures) == {"kept"}
    assert isinstance(caught.value.failures["kept"], OSError)


def test_a_folder_that_went_away_is_no_successful_delete(tmp_path: Any) -> None:
    backend = ObstoreBackend("k", tmp_path / "files")
    backend.delete_object("x")
    (tmp_path / "files").rmdir()
    with pytest.raises(OSError, match="files"):
        backend.delete_object("x")


def test_the_bucket_that_google_does_not_have() -> None:
    with echo(_error(404, "NoSuchBucket")) as server:
        backend = ObstoreBackend("k", "gs://b", google_bearer_token="t", google_base_url=server.url, **QUICK)
        for attempt in (backend.get_content, backend.delete_object):
            with pytest.raises(MissingBucketError):
                attempt("x")


def test_errors_can_be_handed_to_another_process() -> None:
    for error in (
        DeleteFailedError("m", {"a": OSError("x")}),
        ForkedAfterUseError(),
        MissingBucketError("m"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


def test_panics_of_rust_never_reach_the_caller(gcs: GCSServer) -> None:
    """A live store of the caller's own may panic in any call; what comes out is an Exception."""
    from migrate_storage.backend.errors import ErrorTranslator

    class PanicException(BaseException):
        __module__ = "pyo3_runtime"

    with pytest.raises(OSError, match="reading 'x'"), ErrorTranslator("reading", "x", "s3://b", ()):
        raise PanicException("called `Option::unwrap()` on a `None` value")
