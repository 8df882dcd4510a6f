"""ACME after a script that moved its uploads has died half-way, in a bucket that others use too."""

import os

import fsspec
import sqlalchemy as sa
from acme.models import Upload
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages
from fill import fill
from obstore.store import S3Store

from migrate_storage import ObstoreBackend

fill(fsspec.filesystem("s3"), "acme-uploads", "2026/")
old, new = S3Store("acme-uploads"), S3Store("acme-files")
files = ObstoreBackend("files", new)
storages.register_backend(files)


def name(number: int) -> str:
    return f"2026/{number:03}.png"


# It copied twenty, at first without the content type, ...
for number in range(20):
    attributes = {} if number < 5 else {"Content-Type": "image/png"}
    new.put(name(number), bytes(old.get(name(number)).bytes()), attributes=attributes)
# ... re-pointed the rows of ten, and swallowed an error of one of these uploads.
new.delete(name(9))
with sa.orm.Session(sa.create_engine(os.environ["DATABASE_URL"])) as session:
    # The old bucket let it delete nothing.
    session.info["enable_file_object_listener"] = False
    for number in range(10):
        upload = session.get_one(Upload, f"{number:03}")
        upload.file = FileObject(backend=files, filename=name(number), content_type="image/png")
    session.commit()

# Since then a user has replaced one, and deleted another.
old.put(name(15), b"a better picture")
new.put(name(99), b"of somebody who has left")
# Others use the bucket, and one of them has a name that ACME has too.
for other in ("exports/2026-01.csv", "exports/2026-02.csv", name(30)):
    new.put(other, b"not ACME's")
