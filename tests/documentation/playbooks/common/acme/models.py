"""What ACME keeps of an upload."""

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.types import FileObject, StoredObject
from sqlalchemy.orm import Mapped, mapped_column


class Upload(DefaultBase):
    __tablename__ = "uploads"
    name: Mapped[str] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="uploads"))
