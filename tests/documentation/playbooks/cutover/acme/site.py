"""ACME's Litestar application."""

from acme.models import Upload
from acme.storage import engine
from advanced_alchemy.types import FileObject
from litestar import Litestar, Request, Response, delete, get, put
from litestar.exceptions import NotFoundException
from sqlalchemy.ext.asyncio import async_sessionmaker

sessions = async_sessionmaker(engine)


@put("/files/{name:str}")
async def save(name: str, request: Request) -> None:
    file = FileObject(backend="uploads", filename=name, content_type="image/png")
    await file.save_async(await request.body())
    async with sessions.begin() as session:
        await session.merge(Upload(name=name, file=file))


@get("/files/{name:str}")
async def read(name: str) -> Response[bytes]:
    async with sessions() as session:
        upload = await session.get(Upload, name)
    if upload is None:
        raise NotFoundException
    try:
        return Response(await upload.file.get_content_async(), media_type=upload.file.content_type)
    except FileNotFoundError:
        raise NotFoundException from None


@delete("/files/{name:str}", status_code=200)
async def remove(name: str) -> None:
    async with sessions.begin() as session:
        upload = await session.get(Upload, name)
        if upload is None:
            raise NotFoundException
        await session.delete(upload)
    await upload.file.delete_async()


app = Litestar([save, read, remove], on_shutdown=[engine.dispose])
