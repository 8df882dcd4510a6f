"""The programs that one would write by hand instead, each in its own process.

``python -m bench._rivals NAME`` runs one; the environment variable ``BENCH`` contains its settings.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

PARALLEL_REQUESTS = 32
COMMIT = 500
"""Rows in one transaction."""
YARDSTICK_BATCH_ROWS = 2000
"""Rows in one transaction of the yardstick."""


def _read_settings() -> dict[str, Any]:
    # Not through the application: a program that needs no models must not import them.
    found: dict[str, Any] = json.loads(os.environ["BENCH"])
    return found


# -- objects


def _run_in_threads(names: Iterator[str], work: Callable[[str], None]) -> None:
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        for future in [pool.submit(work, name) for name in names]:
            future.result()


def _list_keys(store: Any) -> Iterator[str]:
    import obstore

    for page in obstore.list(store):
        for meta in page:
            yield meta["path"]


def obstore_copies() -> None:
    """Copy with bare obstore through the client, without verification."""
    from obstore.store import S3Store

    settings = _read_settings()
    source, destination = S3Store(**settings["from"]), S3Store(**settings["to"])

    def copy(name: str) -> None:
        destination.put(name, source.get(name).bytes(), use_multipart=False)

    _run_in_threads(_list_keys(source), copy)


def obstore_copies_in_the_service() -> None:
    """Copy with bare obstore server-side, without verification or content type."""
    from obstore.store import S3Store

    settings = _read_settings()
    there = f"{settings['from']['endpoint']}/{settings['to']['bucket']}"
    across = S3Store(**{**settings["from"], "endpoint": there, "virtual_hosted_style_request": True})
    _run_in_threads(_list_keys(S3Store(**settings["from"])), lambda name: across.copy(name, name))


def yardstick() -> None:
    """Copy through the client with proof, re-point each row by comparison, and journal both: the least that this costs.

    MD5 and SHA-256 of each body, compared with the ETags of both sides; a journal record before the first byte; one
    statement for the rows of a batch and their records; a listing of both sides at the end. No resume, retries, lists of
    files, attributes of objects, limits or events; nobody may write meanwhile.
    """
    import hashlib

    import obstore
    from obstore.store import S3Store

    settings = _read_settings()
    source, destination = S3Store(**settings["from"]), S3Store(**settings["to"])

    def copy(name: str) -> tuple[str, int, str, str]:
        got = source.get(name)
        content = bytes(got.bytes())
        md5, sha256 = hashlib.md5(content, usedforsecurity=False).hexdigest(), hashlib.sha256(content).hexdigest()
        put = destination.put(name, content, use_multipart=False, attributes={"Content-Type": "application/pdf"})
        for tag in (got.meta["e_tag"], put["e_tag"]):
            if str(tag).strip('"') != md5:
                raise RuntimeError(f"{name}: ETag {tag}, MD5 {md5}")
        return name, len(content), md5, sha256

    def list_tags(store: Any) -> dict[str, str]:
        pages = obstore.list(store, chunk_size=1000)
        return {meta["path"]: (meta["e_tag"] or "").strip('"') for page in pages for meta in page}

    connection, mark = _connection(settings["url"])
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE own_object (name text PRIMARY KEY, state text, size bigint, md5 text, sha256 text)")
    cursor.execute("CREATE TABLE own_row (id bigint PRIMARY KEY, old jsonb, new jsonb)")
    connection.commit()
    known: dict[str, str] = {}
    occupied = list_tags(destination)
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        for rows in _batches(cursor, mark, "file::text", size=YARDSTICK_BATCH_ROWS):
            values = [json.loads(text) for _, text in rows]
            names = [value["filename"] for value in values]
            if not occupied.keys().isdisjoint(names):
                raise RuntimeError("an object is at the destination already")
            with cursor.copy("COPY own_object (name, state) FROM STDIN") as records:
                for name in names:
                    records.write_row((name, "intent"))
            connection.commit()
            copied = list(pool.map(copy, names))
            known.update((name, md5) for name, _, md5, _ in copied)
            new = [
                json.dumps({**value, "backend": "new", "size": size, "etag": md5})
                for value, (_, size, md5, _) in zip(values, copied, strict=True)
            ]
            cursor.execute(
                """
                WITH given AS (SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS given (id, old, new)),
                repointed AS (
                    UPDATE documents SET file = given.new::jsonb FROM given
                    WHERE documents.id = given.id AND documents.file = given.old::jsonb
                    RETURNING documents.id, given.old, given.new
                )
                INSERT INTO own_row SELECT id, old::jsonb, new::jsonb FROM repointed
                """,
                ([id_ for id_, _ in rows], [text for _, text in rows], new),
            )
            cursor.execute(
                """
                UPDATE own_object SET state = 'verified', size = given.size, md5 = given.md5, sha256 = given.sha256
                FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[]) AS given (name, size, md5, sha256)
                WHERE own_object.name = given.name
                """,
                [list(column) for column in zip(*copied, strict=True)],
            )
            connection.commit()
    for store in (source, destination):
        if known.items() - list_tags(store).items():
            raise RuntimeError("a listing shows another ETag than was copied")


def script() -> None:
    """Migrate from FSSpecBackend on s3fs to ObstoreBackend through the async ORM."""
    asyncio.run(_script())


async def _script() -> None:
    import fsspec
    from advanced_alchemy.types.file_object import FileObject, storages
    from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
    from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
    from sqlalchemy import select
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    from bench._application import Document

    settings = _read_settings()
    source, to = settings["from"], dict(settings["to"])
    fs = fsspec.filesystem(
        "s3", key=source["access_key_id"], secret=source["secret_access_key"], endpoint_url=source["endpoint"], asynchronous=True
    )  # fmt: skip
    storages.register_backend(FSSpecBackend(key="old", fs=fs, prefix=source["bucket"]))
    options = {f"aws_{name}": to[name] for name in ("endpoint", "access_key_id", "secret_access_key", "region")}
    backend = ObstoreBackend(key="new", fs=f"s3://{to['bucket']}/", client_options={"allow_http": True}, **options)
    storages.register_backend(backend)
    slots = asyncio.Semaphore(PARALLEL_REQUESTS)

    async def move(file: FileObject) -> FileObject:
        async with slots:
            data = await file.get_content_async()
            new = FileObject(
                backend="new", filename=file.filename, content_type=file.content_type, metadata=file.metadata
            )
            return await new.save_async(data)

    async with AsyncSession(create_async_engine(settings["url"]), expire_on_commit=False) as session:
        documents = (await session.scalars(select(Document))).all()
        for start in range(0, len(documents), COMMIT):
            batch = documents[start : start + COMMIT]
            moved = await asyncio.gather(*(move(document.file) for document in batch if document.file is not None))
            for document, file in zip(batch, moved, strict=True):
                document.file = file
            await session.commit()


# -- rows


def _connection(url: str) -> tuple[Any, str]:
    """The bare driver's connection, and how it marks a parameter."""
    parsed = urlsplit(url)
    if parsed.scheme == "sqlite":
        return sqlite3.connect(parsed.path[1:]), "?"
    host, port, user, name = parsed.hostname, parsed.port, parsed.username, parsed.path[1:]
    if parsed.scheme.startswith("postgresql"):
        import psycopg

        return psycopg.connect(host=host, port=port, user=user, dbname=name), "%s"
    import pymysql

    return pymysql.connect(host=host, port=port or 3306, user=user, database=name, charset="utf8mb4"), "%s"


def _batches(cursor: Any, mark: str, text: str, *, size: int = COMMIT) -> Iterator[list[tuple[int, str]]]:
    last = 0
    statement = f"SELECT id, {text} FROM documents WHERE id > {mark} ORDER BY id LIMIT {size}"
    while True:
        cursor.execute(statement, (last,))
        rows = list(cursor.fetchall())
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def executemany() -> None:
    """Compare-and-swap by ``executemany`` of the bare driver; commit every 500 rows."""
    url = _read_settings()["url"]
    connection, mark = _connection(url)
    postgres = url.startswith("postgresql")
    cast = "::jsonb" if postgres else ""
    update = f"UPDATE documents SET file = {mark}{cast} WHERE id = {mark} AND file = {mark}{cast}"
    cursor = connection.cursor()
    for rows in _batches(cursor, mark, "file::text" if postgres else "file"):
        values = [(json.dumps({**json.loads(value), "backend": "new"}), id_, value) for id_, value in rows]
        cursor.executemany(update, values)
        connection.commit()


def listing() -> None:
    """Read size and time of every file, from the listing of a bucket or by a walk through a folder."""
    settings = _read_settings()
    files = settings["files"]
    if isinstance(files, str):
        found = _count_in_folder(files)
    else:
        from obstore.store import S3Store

        found = sum(1 for _ in _list_keys(S3Store(**files)))
    if found != settings["rows"]:
        raise RuntimeError(f"{found} files were listed, not {settings['rows']}")


def _count_in_folder(folder: str) -> int:
    found = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _count_in_folder(entry.path)
            else:
                entry.stat()
                found += 1
    return found


def select() -> None:
    """The bare driver: every row is read, and nothing is done with it."""
    url = _read_settings()["url"]
    connection, mark = _connection(url)
    cursor = connection.cursor()
    for _ in _batches(cursor, mark, "file::text" if url.startswith("postgresql") else "file"):
        pass


def orm() -> None:
    """The ORM: each row's FileObject is replaced, committed every 500 rows."""
    from advanced_alchemy.types import FileObject
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from bench._application import Document, engine

    last = 0
    while True:
        with Session(engine) as session:
            wanted = select(Document).where(Document.id > last).order_by(Document.id).limit(COMMIT)
            documents = session.scalars(wanted).all()
            if not documents:
                return
            for document in documents:
                file = document.file
                assert file is not None
                document.file = FileObject(
                    backend="new", filename=file.filename, content_type=file.content_type, size=file.size, metadata=file.metadata
                )  # fmt: skip
            last = documents[-1].id
            session.commit()


if __name__ == "__main__":
    works = (obstore_copies, obstore_copies_in_the_service, yardstick, script, executemany, listing, select, orm)
    {work.__name__: work for work in works}[sys.argv[1]]()
