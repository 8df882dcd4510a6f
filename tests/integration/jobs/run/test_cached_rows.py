"""Rows in the cache of advanced-alchemy's repositories, which no UPDATE of another program reaches."""

from __future__ import annotations

import json
from typing import Any

from advanced_alchemy.cache import CacheConfig
from advanced_alchemy.config import SQLAlchemySyncConfig
from advanced_alchemy.repository import SQLAlchemySyncRepository
from advanced_alchemy.types import FileObject

from tests.support.engine.world import Document, World


class Documents(SQLAlchemySyncRepository[Document]):
    model_type = Document


def serialize(document: Document) -> bytes:
    return json.dumps({"id": document.id, "title": document.title, "file": document.file.to_dict()}).encode()


def deserialize(data: bytes, model: type[Any]) -> Document:
    values = json.loads(data)
    return Document(id=values["id"], title=values["title"], file=FileObject(**values["file"]))


def test_a_cached_row_names_the_earlier_key_until_the_cache_is_cleared(world: World) -> None:
    world.add(Document(id=1, title="x", file=world.file("a")))
    cache = CacheConfig(backend="dogpile.cache.memory", serializer=serialize, deserializer=deserialize)
    config = SQLAlchemySyncConfig(engine_instance=world.engine, cache_config=cache)

    def read() -> str:
        with config.get_session() as session:
            return str(Documents(session=session, auto_expunge=True).get(1).file.backend.key)

    assert read() == "old"
    assert world.run().exit_code == 0
    assert read() == "old"
    assert config.cache_manager is not None
    config.cache_manager.invalidate_all_sync()
    assert read() == "new"
