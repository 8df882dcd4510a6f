"""Each fault is what it says, as often as the rates say, and a client that keeps trying comes through."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any

import obstore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.servers import S3Server

CONTENT = bytes(range(256)) * 800
#: The proxy shows each fault to the test, not to obstore's own retries.
ONCE = {"max_retries": 0, "retry_timeout": timedelta(seconds=30)}

Through = Callable[..., AbstractContextManager[FaultProxy]]


@pytest.fixture
def through(rclone_s3: S3Server) -> Through:
    """Puts a proxy before rclone."""
    return partial(fault_proxy, rclone_s3.service.port, seed=1, in_a_row=1)


def behind(server: S3Server, proxy: FaultProxy, bucket: str, **more: Any) -> S3Store:
    return server.behind(proxy.endpoint).store(bucket, **{"retry_config": ONCE, **more})


def flipped(one: bytes, other: bytes) -> int:
    """How many bits differ."""
    assert len(one) == len(other)
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def held(store: S3Store, key: str) -> bytes | None:
    try:
        return bytes(obstore.get(store, key).bytes())
    except FileNotFoundError:
        return None


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [
        (Fault.RESET, False),
        (Fault.CUT_REQUEST, False),
        (Fault.ERROR, False),
        (Fault.THROTTLE, False),
        (Fault.LOST_ANSWER, True),
        (Fault.LATE_ERROR, True),
    ],
)
def test_a_put_fails_and_has_or_has_not_arrived(
    rclone_s3: S3Server, through: Through, fault: Fault, arrives: bool
) -> None:
    bucket = rclone_s3.new_bucket()
    with through(**{fault: 1}) as proxy:
        store = behind(rclone_s3, proxy, bucket)
        with pytest.raises(BaseError):
            obstore.put(store, "a", CONTENT, use_multipart=False)
        assert proxy.counts == {fault: 1}
        assert held(rclone_s3.store(bucket), "a") == (CONTENT if arrives else None)
        obstore.put(store, "a", CONTENT, use_multipart=False)
        assert (proxy.counts, proxy.requests) == ({fault: 1}, 2)
    assert held(rclone_s3.store(bucket), "a") == CONTENT


def test_an_answer_is_cut_short(rclone_s3: S3Server, through: Through) -> None:
    bucket = rclone_s3.new_bucket()
    obstore.put(rclone_s3.store(bucket), "a", CONTENT)
    with through(truncate=1) as proxy:
        store = behind(rclone_s3, proxy, bucket)
        with pytest.raises(BaseError):
            obstore.get(store, "a").bytes()
        assert held(store, "a") == CONTENT
        assert proxy.counts == {Fault.TRUNCATE: 1}


def test_a_stall_outlasts_the_impatient_and_no_other(rclone_s3: S3Server, through: Through) -> None:
    bucket = rclone_s3.new_bucket()
    obstore.put(rclone_s3.store(bucket), "a", CONTENT)
    with through(stall=2, only="^GET") as proxy:
        proxy.set(stall=1)
        hasty = behind(rclone_s3, proxy, bucket, client_options={"allow_http": True, "timeout": "500ms"})
        with pytest.raises(BaseError):
            obstore.get(hasty, "a").bytes()
        assert proxy.counts == {Fault.STALL: 1}
        assert held(behind(rclone_s3, proxy, bucket), "a") == CONTENT


def test_one_bit_of_an_answer_is_another(rclone_s3: S3Server, through: Through) -> None:
    bucket = rclone_s3.new_bucket()
    obstore.put(rclone_s3.store(bucket), "a", CONTENT)
    with through(flip_answer=1) as proxy:
        store = behind(rclone_s3, proxy, bucket)
        assert flipped(held(store, "a") or b"", CONTENT) == 1
        assert held(store, "a") == CONTENT
        assert proxy.counts == {Fault.FLIP_ANSWER: 1}


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("server", ["rclone_s3", "moto_s3"])
def test_a_bit_flipped_on_the_way_in_is_stored_and_the_etag_tells(
    server: str, unsigned: bool, request: pytest.FixtureRequest
) -> None:
    s3: S3Server = request.getfixturevalue(server)
    bucket = s3.new_bucket()
    with fault_proxy(s3.service.port, seed=1, in_a_row=1, flip_request=1) as proxy:
        store = behind(s3, proxy, bucket, unsigned_payload=unsigned)
        told = obstore.put(store, "a", CONTENT, use_multipart=False)
        assert proxy.counts == {Fault.FLIP_REQUEST: 1}
    stored = held(s3.store(bucket), "a") or b""
    assert flipped(stored, CONTENT) == 1
    assert told["e_tag"] == f'"{hashlib.md5(stored).hexdigest()}"'


def test_a_throttled_client_is_told_how_long_to_wait(through: Through) -> None:
    with through(throttle=1, retry_after=7) as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        connection.request("PUT", "/bucket/key", b"x" * 1_000_000)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Retry-After")) == (429, "7")
        connection.close()


def test_the_same_seed_harms_the_same_requests_whatever_the_timing(rclone_s3: S3Server) -> None:
    bucket = rclone_s3.new_bucket()
    obstore.put(rclone_s3.store(bucket), "a", b"x")
    keys = [f"missing-{number}" for number in range(300)]

    def harmed(workers: int, seed: int) -> list[bool]:
        with fault_proxy(rclone_s3.service.port, seed=seed, error=0.1, lost_answer=0.1) as proxy:
            store = behind(rclone_s3, proxy, bucket)

            def fails(key: str) -> bool:
                try:
                    obstore.get(store, key)
                except FileNotFoundError:
                    return False
                except BaseError:
                    return True
                raise AssertionError(key)

            with ThreadPoolExecutor(workers) as pool:
                result = list(pool.map(fails, keys))
            assert sum(proxy.counts.values()) == sum(result)
            assert proxy.requests == len(keys)
            # Five standard deviations about the 20 % that was asked for.
            assert 25 < sum(result) < 95
            return result

    assert harmed(1, seed=5) == harmed(16, seed=5) != harmed(1, seed=6)


def test_a_client_that_keeps_trying_comes_through_everything(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    rates = dict.fromkeys(("reset", "error", "late_error", "lost_answer", "truncate", "cut_request"), 0.15)
    with fault_proxy(moto_s3.service.port, seed=3, in_a_row=2, **rates) as proxy:
        store = behind(moto_s3, proxy, bucket)

        def insist(call: Callable[[], Any]) -> Any:
            for attempt in range(3):
                try:
                    return call()
                except BaseError:
                    if attempt == 2:
                        raise
            raise AssertionError

        for number in range(40):
            insist(lambda key=f"k{number}": obstore.put(store, key, CONTENT))
            assert insist(lambda key=f"k{number}": bytes(obstore.get(store, key).bytes())) == CONTENT
        assert set(proxy.counts) == {Fault(name) for name in rates}


def test_fsspec_passes_untouched_when_nothing_is_asked_for(rclone_s3: S3Server, through: Through) -> None:
    bucket = rclone_s3.new_bucket()
    with through() as proxy:
        # s3fs sends "Expect: 100-continue" before each body.
        fs = rclone_s3.behind(proxy.endpoint).fs()
        fs.pipe(f"{bucket}/a/b", CONTENT)
        assert fs.cat(f"{bucket}/a/b") == CONTENT
        assert fs.ls(f"{bucket}/a") == [f"{bucket}/a/b"]
        fs.rm(f"{bucket}/a/b")
        assert not fs.exists(f"{bucket}/a/b")
        assert proxy.counts == {}
        assert proxy.requests > 4


def test_an_answer_without_a_body_does_not_end_the_connection(rclone_s3: S3Server, through: Through) -> None:
    # A client that finds its connection closed unannounced fails, and no fault is counted for it.
    with through() as proxy:
        url = f"{proxy.endpoint}/{rclone_s3.new_bucket()}/nothing"
        request = AWSRequest("HEAD", url, headers={"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()})
        key = Credentials(rclone_s3.key, rclone_s3.secret)
        S3SigV4Auth(key, "s3", "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        connection.connect()
        line = connection.sock
        for _ in range(3):
            connection.request("HEAD", url.removeprefix(proxy.endpoint), headers=dict(request.headers))
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Content-Length"]) == (404, None)
            answer.read()
            assert connection.sock is line, "the same connection still"
        connection.close()


def test_impossible_rates_are_refused(through: Through) -> None:
    with through() as proxy:
        with pytest.raises(ValueError, match="together at most 1"):
            proxy.set(reset=0.6, error=0.6)
        with pytest.raises(ValueError, match="explode"):
            proxy.set(explode=0.1)
