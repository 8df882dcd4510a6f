"""The application of the fleet test, one process of several: ``uvicorn --factory tests.support.cutover.fleet_app:app``.

``FLEET`` holds as JSON what :func:`backend` takes. It is plain on purpose: an upload is saved before its row is committed, so
what is acknowledged is in the storage. The stores are not asked twice: each fault reaches the cutover.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import storages
from fastapi import FastAPI, Request, Response
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column

from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.core.errors import PhaseLostError
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database

ONCE = {
    "max_retries": 0,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
}


class Picture(DefaultBase):
    __tablename__ = "fleet_pictures"
    name: Mapped[str] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="files"))


def backend(
    name: str,
    database: str,
    source: dict[str, Any],
    destination: dict[str, Any],
    lease: float,
    drain: float,
    grace: float,
) -> CutoverBackend:
    """A process's backend; nothing is registered."""
    outbox = Outbox(Database(database), "files", grace=grace)
    switch = SharedPhase(outbox, lease=lease, drain=drain, name=name)
    sides = [ObstoreBackend(key, **side, retry_config=ONCE) for key, side in (("old", source), ("new", destination))]
    return CutoverBackend("files", *sides, outbox=outbox, phase=switch)


def app() -> FastAPI:
    told = json.loads(os.environ["FLEET"])
    files = backend(**told)
    storages.register_backend(files)
    sessions = async_sessionmaker(create_async_engine(told["database"]), expire_on_commit=False)
    made = FastAPI()

    @made.middleware("http")
    async def phase(request: Request, call: Any) -> Response:
        try:
            answer: Response = await call(request)
        except FileNotFoundError:
            answer = Response(status_code=404)
        except PhaseLostError:
            answer = Response("lost", status_code=503)
        except Exception as error:
            answer = Response(type(error).__name__, status_code=500)
        answer.headers["x-phase"] = files.phase_source.last_known or ""
        return answer

    @made.put("/files/{name}")
    async def save(name: str, request: Request) -> None:
        file = FileObject(backend="files", filename=name, content_type="image/png")
        await file.save_async(await request.body())
        async with sessions.begin() as session:
            await session.merge(Picture(name=name, file=file))

    @made.delete("/files/{name}")
    async def delete(name: str) -> None:
        async with sessions.begin() as session:
            if picture := await session.get(Picture, name):
                await session.delete(picture)
        await files.delete_object_async(name)

    @made.get("/files/{name}")
    async def read(name: str) -> Response:
        async with sessions() as session:
            picture = await session.get(Picture, name)
        if picture is None:
            return Response(status_code=404)
        return Response(await picture.file.get_content_async())

    @made.get("/objects/{name}")
    async def look(name: str) -> Response:
        """Without its row, which hides an object that came back."""
        return Response(await files.get_content_async(name))

    return made
