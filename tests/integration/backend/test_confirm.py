"""Uploads by clients: what a signed URL took is checked, then described in its FileObject."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject, StoredObject
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, attributes, mapped_column

from migrate_storage.application.application import Application
from migrate_storage.application.inspection import inspect
from migrate_storage.backend import ConfigurationError, UploadRefusedError
from migrate_storage.core.model import Column
from migrate_storage.testing import registered
from tests.support.backend.beds import BEDS, Bed

PICTURE = b"\x89PNG" + bytes(1000)


@pytest.fixture(params=["local", "rclone", "moto", "azurite", "gcs"])
def bed(request: pytest.FixtureRequest) -> Bed:
    return BEDS[request.param](request)


class Client:
    """A client that has nothing but the URL; on a local disk the application takes the upload."""

    def __init__(self, bed: Bed) -> None:
        self.bed, self.backend = bed, bed.backend()

    def upload(self, path: str, content: bytes, content_type: str | None = "image/png") -> None:
        if not self.bed.has("sign"):
            self.backend.fs.put(path, content)
            return
        headers = {"content-type": content_type} if content_type else {}
        if self.backend.protocol == "azure":
            headers["x-ms-blob-type"] = "BlockBlob"
        url = str(self.backend.sign(path, expires_in=600, for_upload=True))
        assert httpx.put(url, content=content, headers=headers).status_code in (200, 201)

    def promise(self, path: str, **promised: Any) -> FileObject:
        return FileObject(backend=self.backend, filename=path, **promised)


@pytest.fixture
def client(bed: Bed) -> Client:
    return Client(bed)


@pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])
async def test_an_upload_is_described_by_what_the_store_has(client: Client, awaits: bool) -> None:
    async def confirm(file: FileObject, **bounds: Any) -> FileObject:
        if awaits:
            return await client.backend.confirm_async(file, **bounds)
        return client.backend.confirm(file, **bounds)

    file = client.promise("pictures/a.png")
    with pytest.raises(FileNotFoundError):
        await confirm(file)
    client.upload("pictures/a.png", PICTURE)
    assert await confirm(file, min_size=1, max_size=len(PICTURE), content_types="image/*") is file
    saved = client.backend.head("pictures/a.png")
    assert (file.size, file.etag.strip('"')) == (len(PICTURE), saved.e_tag)
    assert (file.last_modified, file.version_id, file.content_type) == (saved.last_modified, saved.version, "image/png")
    assert file.checksum is None, "nothing was read"
    assert await confirm(file) is file, "what was confirmed is a promise by now"
    client.upload("pictures/a.png", PICTURE[::-1] + b"!")
    with pytest.raises(UploadRefusedError, match="were promised; its ETag is"):
        await confirm(file)
    assert file.size == len(PICTURE)


def test_a_promised_checksum_is_compared_by_reading(client: Client) -> None:
    client.upload("a.png", PICTURE)
    promised = {"size": len(PICTURE), "checksum": f"sha256:{hashlib.sha256(PICTURE).hexdigest()}"}
    assert client.backend.confirm(client.promise("a.png", **promised)).checksum == promised["checksum"]
    client.backend.confirm(client.promise("a.png", checksum=f"md5:{hashlib.md5(PICTURE).hexdigest().upper()}"))
    for checksum, said in (("sha256:00", "its checksum is sha256:"), ("crc32c:00", "neither sha256: nor md5:")):
        with pytest.raises(UploadRefusedError, match=said):
            client.backend.confirm(client.promise("a.png", checksum=checksum))


def test_a_refused_upload_stays_unless_its_deletion_is_asked_for(client: Client) -> None:
    client.upload("a.png", PICTURE)
    bounds = {"max_size": 10, "content_types": ["application/pdf", "video/*"]}
    file = client.promise("a.png", size=5)
    with pytest.raises(UploadRefusedError) as refused:
        client.backend.confirm(file, **bounds)
    assert refused.value.reasons == (
        "it has 1,004 bytes, and 5 were promised",
        "it has 1,004 bytes, and at most 10 are allowed",
        "its content type image/png is not among application/pdf, video/*",
    )
    assert "\n" not in str(refused.value)
    assert (file.size, file.etag) == (5, None)
    assert client.backend.exists("a.png")
    with pytest.raises(UploadRefusedError, match="it was deleted$"):
        client.backend.confirm(file, delete_refused=True, **bounds)
    assert not client.backend.exists("a.png")
    with pytest.raises(ConfigurationError, match="min_size=2 is more than max_size=1"):
        client.backend.confirm(file, min_size=2, max_size=1)


@pytest.mark.parametrize("bed", ["moto", "azurite"], indirect=True)
def test_the_content_type_is_that_of_the_upload_where_it_says_one(client: Client) -> None:
    confirm = client.backend.confirm
    client.upload("a.png", b"<script>", "text/html")
    with pytest.raises(UploadRefusedError, match="its content type is text/html, and image/png was promised"):
        confirm(client.promise("a.png"))
    client.upload("b.png", PICTURE, None)
    assert confirm(client.promise("b.png"), content_types=["image/png"]).content_type == "image/png", "as promised"
    client.upload("upload", PICTURE, "image/webp")
    assert confirm(client.promise("upload")).content_type == "image/webp", "nothing was promised"
    client.upload("c.txt", b"text", "Text/Plain; charset=utf-8")
    assert confirm(client.promise("c.txt"), content_types="text/plain").content_type == "Text/Plain; charset=utf-8"


class Base(DeclarativeBase):
    pass


class Picture(Base):
    __tablename__ = "pictures"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="uploads"))


@pytest.mark.parametrize("bed", ["moto"], indirect=True)
def test_a_row_is_saved_first_and_inspect_names_it_until_it_is_confirmed(bed: Bed, sqlite_url: str) -> None:
    engine = sa.create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    with registered(bed.backend(key="uploads")) as backend, Session(engine) as session:
        session.add(Picture(id=1, file=FileObject(backend="uploads", filename="a.png")))
        session.commit()
        column = Column(table="pictures", column="file", key=("id",), backend="uploads", multiple=False)
        application = Application(engine=engine, columns=(column,), backends={"uploads": backend})
        (use,) = inspect(application).backends
        assert (use.unsized_count, [(str(ref), name) for ref, name in use.unsized]) == (
            1,
            [("pictures.file[1]", "a.png")],
        )
        url = str(backend.sign("a.png", expires_in=600, for_upload=True))
        httpx.put(url, content=PICTURE, headers={"content-type": "image/png"}).raise_for_status()
        picture = session.get(Picture, 1)
        backend.confirm(picture.file)
        attributes.flag_modified(picture, "file")
        session.commit()
        assert session.get(Picture, 1, populate_existing=True).file.size == len(PICTURE)
        assert inspect(application).backends[0].unsized_count == 0
        assert backend.get_content("a.png") == PICTURE
    engine.dispose()
