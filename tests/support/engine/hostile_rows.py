"""Rows with hostile names, and the check of what a run made of them."""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Callable

import sqlalchemy as sa

from migrate_storage.core.events import ObjectFinished
from migrate_storage.core.model import Outcome, OutcomeKind
from tests.support.engine.hostile_keys import hostile_names
from tests.support.engine.world import World


def insert_row(world: World, number: int, name: str) -> bool:
    """Insert a row as any program might; return whether the database accepts it."""
    value = json.dumps(
        {"filename": name, "backend": "old", "content_type": "text/plain", "metadata": {"name": str(number)}}
    )
    typed = "CAST(:value AS JSONB)" if world.engine.dialect.name == "postgresql" else ":value"
    try:
        world.sql(
            f"INSERT INTO documents (id, title, updated_at, file) VALUES (:id, 't', CURRENT_TIMESTAMP, {typed})",
            id=number,
            value=value,
        )
    except sa.exc.SQLAlchemyError:
        return False
    return True


def fill_rows(world: World, count: int, save: Callable[[str, bytes], None]) -> tuple[dict[int, str], dict[int, bytes]]:
    """Insert rows; return their names by number, and the content that the application reads for each, where it reads any."""
    names: dict[int, str] = {}
    contents: dict[int, bytes] = {}
    for number, name in enumerate(hostile_names(count, seed=11), 1):
        if not insert_row(world, number, name):
            continue
        names[number] = name
        content = f"{number} ".encode() * 3
        with contextlib.suppress(Exception):
            save(name, content)
    # Several names may be one key of the source, which has the bytes of the last write.
    for number, name in names.items():
        with contextlib.suppress(Exception):
            contents[number] = world.old.get_content(name)
    return names, contents


def check_rows(world: World, names: dict[int, str], contents: dict[int, bytes]) -> dict[int, Outcome]:
    """Check that each file is at its new key with its own bytes, or that its row is unchanged and listed with a reason."""
    ended: dict[int, Outcome] = {}
    for event in world.events:
        if isinstance(event, ObjectFinished):
            ended.update({ref.pk[0]: event.outcome for ref in event.outcome.refs})
    values = dict(world.sql("SELECT id, file FROM documents"))
    for number, name in names.items():
        value = values[number] if isinstance(values[number], dict) else json.loads(values[number])
        outcome = ended[number]
        if value["backend"] == "new":
            assert outcome.kind is OutcomeKind.REPOINTED
            # A disk opens ``a/../b`` only where ``a`` is a folder; the row names ``b``.
            held = contents.get(number) or world.old.get_content(posixpath.normpath(name))
            assert world.new.get_content(value["filename"]) == held, name
        else:
            assert (value["backend"], value["filename"]) == ("old", name)
            assert not outcome.kind.done, name
            assert outcome.reason, name
            assert outcome.kind is not OutcomeKind.MISSING or number not in contents, name
    return ended
