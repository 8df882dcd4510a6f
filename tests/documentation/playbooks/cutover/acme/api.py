"""ACME's FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from acme.models import Upload
from acme.storage import engine
from advanced_alchemy.types import FileObject
from fastapi import FastAPI, HTTPException, Request, Response
from sqlalchemy.ext.asyncio import async_sessionmaker

sessions = async_sessionmaker(engine)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.put("/files/{name}")
async def save(name: str, request: Request) -> None:
    file = FileObject(backend="uploads", filename=name, content_type="image/png")
    await file.save_async(await request.body())
    async with sessions.begin() as session:
        await session.merge(Upload(name=name, file=file))


@app.get("/files/{name}")
async def read(name: str) -> Response:
    async with sessions() as session:
        upload = await session.get(Upload, name)
    if upload is None:
        raise HTTPException(404)
    try:
        return Response(await upload.file.get_content_async(), media_type=upload.file.content_type)
    except FileNotFoundError:
        raise HTTPException(404) from None


@app.delete("/files/{name}")
async def delete(name: str) -> None:
    async with sessions.begin() as session:
        upload = await session.get(Upload, name)
        if upload is None:
            raise HTTPException(404)
        await session.delete(upload)
    await upload.file.delete_async()
