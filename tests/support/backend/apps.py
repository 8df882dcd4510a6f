"""The guide's handlers in a Litestar and a FastAPI application, to be served: ``uvicorn tests.support.backend.apps:litestar``.

``STORE`` holds the backend's URL and options as JSON, ``DATABASE`` the database's URL.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import fastapi
import litestar as ls
import pydantic
from advanced_alchemy.base import UUIDAuditBase
from advanced_alchemy.extensions.fastapi import AdvancedAlchemy
from advanced_alchemy.extensions.fastapi import SQLAlchemyAsyncConfig as FastAPIConfig
from advanced_alchemy.extensions.litestar import SQLAlchemyAsyncConfig as LitestarConfig
from advanced_alchemy.extensions.litestar import SQLAlchemyPlugin
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from advanced_alchemy.types import FileObject, StoredObject
from advanced_alchemy.types.file_object import storages
from fastapi.responses import StreamingResponse
from litestar.datastructures import UploadFile
from litestar.di import Provide
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Stream
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from migrate_storage import ObstoreBackend


class Document(UUIDAuditBase):
    __tablename__ = "backend_documents"
    title: Mapped[str]
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="s3"))


class DocumentService(SQLAlchemyAsyncRepositoryService[Document]):
    class Repository(SQLAlchemyAsyncRepository[Document]):
        model_type = Document

    repository_type = Repository


def _register() -> None:
    options = json.loads(os.environ["STORE"])
    storages.register_backend(ObstoreBackend(key="s3", fs=options.pop("url"), **options))


async def _upload(service: DocumentService, name: str | None, kind: str | None, content: bytes) -> Document:
    file = FileObject(
        backend="s3", filename=name or "file", content_type=kind or "application/octet-stream", content=content
    )
    return await service.create({"title": name or "untitled", "file": file}, auto_commit=True)


async def _upload_url(filename: str, content_type: str) -> dict[str, Any]:
    file = FileObject(backend="s3", filename=filename, content_type=content_type)
    url = await file.sign_async(expires_in=3600, for_upload=True)
    return {"upload_url": url, "filename": filename, "expires_in": 3600}


async def _pieces(service: DocumentService, document_id: UUID) -> tuple[AsyncIterator[bytes], str]:
    document = await service.get(document_id)
    assert document.file is not None
    backend = document.file.backend
    assert isinstance(backend, ObstoreBackend)
    return await backend.stream_async(document.file.path), document.file.content_type


# Litestar


@asynccontextmanager
async def _lifespan(_: ls.Litestar) -> AsyncIterator[None]:
    _register()
    yield


async def _service(db_session: AsyncSession) -> DocumentService:
    return DocumentService(session=db_session)


@ls.post("/upload")
async def litestar_upload(
    data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)], service: DocumentService
) -> Document:
    return await _upload(service, data.filename, data.content_type, await data.read())


@ls.post("/upload-url")
async def litestar_upload_url(filename: str, content_type: str) -> dict[str, Any]:
    return await _upload_url(filename, content_type)


@ls.get("/download/{document_id:uuid}")
async def litestar_download(document_id: UUID, service: DocumentService) -> Stream:
    pieces, kind = await _pieces(service, document_id)
    return Stream(pieces, media_type=kind)


def litestar() -> ls.Litestar:
    config = LitestarConfig(connection_string=os.environ["DATABASE"], create_all=True)
    return ls.Litestar(
        [litestar_upload, litestar_upload_url, litestar_download],
        dependencies={"service": Provide(_service)},
        plugins=[SQLAlchemyPlugin(config)],
        lifespan=[_lifespan],
    )


# FastAPI


class ShownDocument(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)

    id: UUID
    title: str
    file: FileObject | None


def fast() -> fastapi.FastAPI:
    _register()
    app = fastapi.FastAPI()
    alchemy = AdvancedAlchemy(FastAPIConfig(connection_string=os.environ["DATABASE"], create_all=True), app=app)
    session = Annotated[AsyncSession, fastapi.Depends(alchemy.provide_session())]

    async def upload(file: fastapi.UploadFile, db: session) -> Document:  # type: ignore[valid-type]
        return await _upload(DocumentService(session=db), file.filename, file.content_type, await file.read())

    async def download(document_id: UUID, db: session) -> StreamingResponse:  # type: ignore[valid-type]
        pieces, kind = await _pieces(DocumentService(session=db), document_id)
        return StreamingResponse(pieces, media_type=kind)

    for handler in (upload, download):
        # Made in a function, so that annotations cannot be found by their names.
        handler.__annotations__["db"] = session
    upload.__annotations__["file"] = fastapi.UploadFile
    download.__annotations__["document_id"] = UUID
    app.post("/upload", response_model=ShownDocument)(upload)
    app.post("/upload-url", response_model=None)(_upload_url)
    app.get("/download/{document_id}", response_model=None)(download)
    return app
