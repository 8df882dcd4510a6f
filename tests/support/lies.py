"""The lies that a store may tell about its objects, each as a function from a request to an answer."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape, unescape

from tests.support.lying_proxy import ENTRY, Answer, Liar, Request, entry_key, md5
from tests.support.servers import S3Server

__all__ = ("LIES", "Lie", "lagging_listing", "other_etags", "s3_entries")

Tell = Callable[[Liar, Request], Answer]


@dataclass(frozen=True, kw_only=True)
class Lie:
    """One lie, and where it is told."""

    name: str
    #: ``source``, ``destination`` or ``both``.
    side: str
    #: The calls about which it lies.
    calls: frozenset[str]
    tell: Tell
    #: Whether it is told about objects besides those of rows.
    of_all_keys: bool = False
    #: Whether the application writes the source of a chosen object right after its copy.
    rewrites: bool = False
    #: Whether it contradicts what a user says who calls the source's listings consistent.
    breaks_user_word: bool = False


LIES: dict[str, Lie] = {}


def lie(
    side: str, *calls: str, of_all_keys: bool = False, rewrites: bool = False, word: bool = False
) -> Callable[[Tell], Tell]:
    """Register a lie under the name of its function."""

    def register(tell: Tell) -> Tell:
        name = tell.__name__
        LIES[name] = Lie(
            name=name, side=side, calls=frozenset(calls), tell=tell, of_all_keys=of_all_keys,
            rewrites=rewrites, breaks_user_word=word,
        )  # fmt: skip
        return tell

    return register


def _flipped(content: bytes) -> bytes:
    """Return the bytes with one bit changed, always the same one."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :] if content else b"?"


def _stored(liar: Liar, request: Request, body: bytes) -> Answer:
    """Let the server keep another body, and answer with the ETag of the right one."""
    return liar.forward(replace(request, body=body)).having(etag=f'"{md5(request.body)}"')


def _acknowledged(request: Request) -> Answer:
    return Answer(status=200, headers={"etag": f'"{md5(request.body)}"', "content-length": "0"})


# -- PUT at the destination


@lie("destination", "PUT")
def put_keeps_nothing(liar: Liar, request: Request) -> Answer:
    return _acknowledged(request)


@lie("destination", "PUT")
def put_keeps_nothing_and_tells_no_etag(liar: Liar, request: Request) -> Answer:
    return Answer(status=200, headers={"content-length": "0"})


@lie("destination", "PUT")
def put_keeps_it_truncated(liar: Liar, request: Request) -> Answer:
    return _stored(liar, request, request.body[: len(request.body) // 2])


@lie("destination", "PUT")
def put_keeps_it_empty(liar: Liar, request: Request) -> Answer:
    return _stored(liar, request, b"")


@lie("destination", "PUT")
def put_keeps_one_bit_flipped(liar: Liar, request: Request) -> Answer:
    return _stored(liar, request, _flipped(request.body))


@lie("destination", "PUT")
def put_keeps_one_bit_flipped_and_tells_it(liar: Liar, request: Request) -> Answer:
    return liar.forward(replace(request, body=_flipped(request.body)))


@lie("destination", "PUT")
def put_keeps_another_body(liar: Liar, request: Request) -> Answer:
    return _stored(liar, request, liar.other(request.key))


@lie("destination", "PUT")
def put_keeps_garbage_at_the_end(liar: Liar, request: Request) -> Answer:
    return _stored(liar, request, request.body + b"\0garbage")


@lie("destination", "PUT")
def put_loses_it_after_the_answer(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    liar.remove(request.key)
    return answer


@lie("destination", "PUT")
def put_refused_although_nothing_is_there(liar: Liar, request: Request) -> Answer:
    return Answer(status=412, headers={}).having(b"<Error><Code>PreconditionFailed</Code></Error>")


# -- what the destination shows of a copy


@lie("destination", "HEAD")
def head_of_copy_tells_another_size(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(content_length=str(int(answer.headers.get("content-length", 0)) + 7))


@lie("destination", "HEAD")
def head_of_copy_tells_another_etag(liar: Liar, request: Request) -> Answer:
    return liar.forward(request).having(etag=f'"{md5(b"another")}"')


@lie("destination", "HEAD", "LIST")
def copies_are_never_shown(liar: Liar, request: Request) -> Answer:
    if request.call == "LIST":
        return list_of_copies_omits_some(liar, request)
    return Answer(status=404, headers={"content-length": "0"})


@lie("destination", "HEAD")
def head_of_copy_is_that_of_another_object(liar: Liar, request: Request) -> Answer:
    other = liar.other(request.key)
    return liar.forward(request).having(etag=f'"{md5(other)}"', content_length=str(len(other)))


def _edit_entries(liar: Liar, request: Request, edit: Callable[[bytes], bytes]) -> Answer:
    answer = liar.forward(request)

    def change(found: re.Match[bytes]) -> bytes:
        return edit(found[0]) if entry_key(found[0]) in liar.chosen else found[0]

    return answer.having(ENTRY.sub(change, answer.body))


@lie("destination", "LIST")
def list_of_copies_omits_some(liar: Liar, request: Request) -> Answer:
    return _edit_entries(liar, request, lambda entry: b"")


@lie("destination", "LIST")
def list_of_copies_repeats_some(liar: Liar, request: Request) -> Answer:
    return _edit_entries(liar, request, lambda entry: entry + entry)


@lie("destination", "LIST")
def list_of_copies_tells_another_etag(liar: Liar, request: Request) -> Answer:
    return _edit_entries(liar, request, lambda entry: re.sub(rb"<ETag>[^<]*", b"<ETag>" + b"0" * 32, entry))


@lie("destination", "LIST")
def list_of_copies_tells_another_size(liar: Liar, request: Request) -> Answer:
    return _edit_entries(liar, request, lambda entry: re.sub(rb"<Size>\d+", b"<Size>1", entry))


@lie("destination", "LIST")
def list_of_copies_lags(liar: Liar, request: Request) -> Answer:
    with liar.lock:
        return liar.memory.setdefault(request.target, liar.forward(request))


# -- GET of the source


@lie("source", "GET")
def get_flips_one_bit_always(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(_flipped(answer.body))


@lie("source", "GET")
def get_flips_one_bit_and_tells_no_etag(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(_flipped(answer.body), etag=None)


@lie("source", "GET")
def get_flips_one_bit_and_tells_its_etag(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(_flipped(answer.body), etag=f'"{md5(_flipped(answer.body))}"')


@lie("source", "GET")
def get_answers_the_body_of_another_object(liar: Liar, request: Request) -> Answer:
    return liar.forward(request).having(liar.other(request.key))


@lie("source", "GET")
def get_answers_another_object(liar: Liar, request: Request) -> Answer:
    other = liar.other(request.key)
    return liar.forward(request).having(other, etag=f'"{md5(other)}"')


@lie("source", "GET")
def get_answers_an_object_of_another_bucket(liar: Liar, request: Request) -> Answer:
    other = b"the same key in another bucket"
    return liar.forward(request).having(other, etag=f'"{md5(other)}"', last_modified="Sat, 01 Jan 2022 00:00:00 GMT")


@lie("source", "GET")
def get_truncates_and_tells_the_shorter_length(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(answer.body[: len(answer.body) // 2])


@lie("source", "GET")
def get_adds_garbage_at_the_end(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(answer.body + b"\0garbage")


@lie("source", "GET")
def get_answers_nothing(liar: Liar, request: Request) -> Answer:
    return liar.forward(request).having(b"")


@lie("source", "GET")
def get_answers_a_page_of_html(liar: Liar, request: Request) -> Answer:
    return Answer(status=200, headers={"content-type": "text/html"}).having(b"<html>Please sign in</html>")


@lie("source", "GET")
def get_answers_a_part_for_the_whole(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    half, size = len(answer.body) // 2, len(answer.body)
    return answer.having(answer.body[:half], status=206, content_range=f"bytes 0-{max(0, half - 1)}/{size}")


@lie("source", "GET")
def get_answers_not_modified(liar: Liar, request: Request) -> Answer:
    return liar.forward(request).having(b"", status=304)


@lie("source", "GET")
def get_answers_compressed_bytes(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    return answer.having(gzip.compress(answer.body), content_encoding="gzip")


@lie("source", "GET")
def get_tells_an_encoding_that_is_none(liar: Liar, request: Request) -> Answer:
    return liar.forward(request).having(content_encoding="gzip")


@lie("source", "GET")
def get_tells_another_etag(liar: Liar, request: Request) -> Answer:
    return liar.forward(request).having(etag=f'"{md5(b"another")}"')


@lie("source", "GET")
def get_is_from_before_a_write(liar: Liar, request: Request) -> Answer:
    with liar.lock:
        answer = liar.memory.setdefault(request.key, liar.forward(request))
        liar.rewrite_once(request.key)
    return answer


# -- HEAD and LIST of the source


@lie("source", "HEAD", "GET")
def head_is_from_before_a_write(liar: Liar, request: Request) -> Answer:
    with liar.lock:
        if request.call == "GET":
            liar.memory.setdefault(request.key, liar.forward(request))
            liar.rewrite_once(request.key)
            return liar.forward(request)
        return liar.memory.get(request.key) or liar.forward(request)


@lie("source", "HEAD")
def head_of_source_tells_another_size(liar: Liar, request: Request) -> Answer:
    return head_of_copy_tells_another_size(liar, request)


@lie("source", "HEAD")
def head_of_source_tells_another_etag(liar: Liar, request: Request) -> Answer:
    return head_of_copy_tells_another_etag(liar, request)


@lie("source", "HEAD")
def head_of_source_finds_nothing(liar: Liar, request: Request) -> Answer:
    return Answer(status=404, headers={"content-length": "0"})


@lie("source", "HEAD", "GET", "LIST", rewrites=True)
def time_of_source_is_frozen(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    if request.call == "LIST":
        frozen = rb"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        return _edit_entries(liar, request, lambda entry: re.sub(rb"<LastModified>.*?</LastModified>", frozen, entry))
    return answer.having(last_modified="Thu, 01 Jan 2026 00:00:00 GMT")


@lie("source", "LIST", rewrites=True, word=True)
def list_of_sources_lags(liar: Liar, request: Request) -> Answer:
    with liar.lock:
        return liar.memory.setdefault(request.target, liar.forward(request))


@lie("source", "LIST", rewrites=True)
def list_of_sources_omits_some(liar: Liar, request: Request) -> Answer:
    return _edit_entries(liar, request, lambda entry: b"")


@lie("source", "LIST", rewrites=True)
def list_of_sources_repeats_some(liar: Liar, request: Request) -> Answer:
    return _edit_entries(liar, request, lambda entry: entry + entry)


def lagging_listing(lag: float, *, by_page: bool, per_request: int = 1000) -> Lie:
    """Return the lie of a source whose listings are old. A second passes with each LIST.

    Args:
        lag: seconds. The whole bucket is listed as it was so long ago; or a cache keeps each answer for so long.
        by_page: whether it is such a cache.
        per_request: objects in one answer.
    """
    history: list[list[tuple[str, str]]] = []

    def list_bucket_of_earlier(liar: Liar, request: Request) -> Answer:
        with liar.lock:
            history.append(liar.entries())
            then = history[max(0, len(history) - 1 - int(lag))]
            return _page_of(then, request, per_request)

    def list_page_of_earlier(liar: Liar, request: Request) -> Answer:
        with liar.lock:
            history.append([])
            kept, answer = cached.get(request.target, (-lag, None))
            if answer is None or len(history) - kept >= lag:
                answer = _page_of(liar.entries(), request, per_request)
                cached[request.target] = (len(history), answer)
            return answer

    cached: dict[str, tuple[float, Answer | None]] = {}
    tell = list_page_of_earlier if by_page else list_bucket_of_earlier
    return Lie(name="lagging_listing", side="source", calls=frozenset({"LIST"}), tell=tell, rewrites=True)


def other_etags(write: Callable[[str], str], *, flips: bool) -> Lie:
    """Return the lie of a source that writes its ETags in another way.

    Args:
        write: returns an ETag as the source writes it, with its quotes.
        flips: whether each GET flips one bit.
    """

    def tell_other_etag(liar: Liar, request: Request) -> Answer:
        if request.call == "LIST":
            return _edit_entries(liar, request, lambda entry: re.sub(rb"(?<=<ETag>).*?(?=</ETag>)", rewrite, entry))
        answer = liar.forward(request)
        if "etag" not in answer.headers:
            return answer
        body = _flipped(answer.body) if flips and request.call == "GET" else None
        return answer.having(body, etag=write(answer.headers["etag"]))

    def rewrite(found: re.Match[bytes]) -> bytes:
        return escape(write(unescape(found[0].decode(), {"&quot;": '"'}))).encode()

    return Lie(name="other_etags", side="source", calls=frozenset({"GET", "HEAD", "LIST"}), tell=tell_other_etag)


def s3_entries(server: S3Server, bucket: str) -> list[tuple[str, str]]:
    """Return the keys of a bucket in order, each with its entry in a ListObjectsV2."""
    entry = "<Contents><Key>{}</Key><LastModified>{:%Y-%m-%dT%H:%M:%S.000Z}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>"
    return [
        (each["Key"], entry.format(escape(each["Key"]), each["LastModified"], escape(each["ETag"]), each["Size"]))
        for each in server.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    ]


def _page_of(entries: list[tuple[str, str]], request: Request, most: int) -> Answer:
    """Answer a ListObjectsV2 with some objects: keys, and what is said of them."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
    after = query.get("continuation-token") or query.get("start-after", "")
    listed = [(key, entry) for key, entry in entries if key > after and key.startswith(query.get("prefix", ""))]
    page = listed[:most]
    more = f"<IsTruncated>{'true' if len(listed) > most else 'false'}</IsTruncated>"
    if len(listed) > most:
        more += f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>"
    shown = "".join(entry for _, entry in page)
    text = f"<?xml version='1.0'?><ListBucketResult><Name>b</Name>{more}{shown}</ListBucketResult>"
    return Answer(status=200, headers={"content-type": "application/xml"}).having(text.encode())


# -- COPY by the service


@lie("destination", "COPY")
def copy_keeps_nothing(liar: Liar, request: Request) -> Answer:
    return _copied(liar, request)


@lie("destination", "COPY")
def copy_answers_200_with_an_error(liar: Liar, request: Request) -> Answer:
    return Answer(status=200, headers={"content-type": "application/xml"}).having(
        b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>try again</Message></Error>"
    )


@lie("destination", "COPY")
def copy_loses_it_after_the_answer(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    liar.remove(request.key)
    return answer


@lie("destination", "COPY")
def copy_is_of_another_object(liar: Liar, request: Request) -> Answer:
    liar.put(request.key, liar.other(request.key))
    return _copied(liar, request)


@lie("destination", "COPY")
def copy_is_truncated(liar: Liar, request: Request) -> Answer:
    liar.put(request.key, liar.contents[request.key][:3])
    return _copied(liar, request)


def _copied(liar: Liar, request: Request) -> Answer:
    tag = md5(liar.contents[request.key])
    return Answer(status=200, headers={"content-type": "application/xml"}).having(
        f'<?xml version="1.0"?><CopyObjectResult><ETag>"{tag}"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified>'
        "</CopyObjectResult>".encode()
    )


# -- an upload in parts


@lie("destination", "PART")
def part_is_lost(liar: Liar, request: Request) -> Answer:
    if request.part == 2:
        liar.forward(replace(request, body=b""))
        return _acknowledged(request)
    return liar.forward(request)


@lie("destination", "PART")
def part_has_one_bit_flipped(liar: Liar, request: Request) -> Answer:
    return liar.forward(replace(request, body=_flipped(request.body)))


@lie("destination", "PART")
def part_has_its_bytes_in_another_order(liar: Liar, request: Request) -> Answer:
    return liar.forward(replace(request, body=request.body[::-1]))


@lie("destination", "COMPLETE")
def upload_is_lost_after_the_answer(liar: Liar, request: Request) -> Answer:
    answer = liar.forward(request)
    liar.remove(request.key)
    return answer
