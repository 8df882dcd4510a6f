"""ACME before the cutover: sixty uploads in the old bucket, and their rows."""

import os

import sqlalchemy as sa
from acme.models import Upload
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages
from obstore.store import S3Store

from migrate_storage import ObstoreBackend

store = S3Store("acme-uploads")
storages.register_backend(ObstoreBackend("uploads", store))
engine = sa.create_engine(os.environ["DATABASE_URL"])
Upload.metadata.create_all(engine)
with sa.orm.Session(engine) as session:
    for number in range(60):
        name = f"{number:03}.png"
        store.put(name, b"picture " * number, attributes={"Content-Type": "image/png"})
        session.add(Upload(name=name, file=FileObject(backend="uploads", filename=name, content_type="image/png")))
    session.commit()
