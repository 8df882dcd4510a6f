"""A world whose texts have addresses of its files, and the job that finds them."""

from __future__ import annotations

from typing import Any

from migrate_storage.jobs.links.job import LinksJob
from migrate_storage.jobs.links.options import LinksOptions
from migrate_storage.jobs.links.revert import LinksRevertJob
from migrate_storage.jobs.revert.job import RevertOptions
from migrate_storage.reporting import Report
from tests.support.engine.world import World

OLD, NEW = "https://old.example/", "https://files.example/new/"


def add_posts(world: World, *bodies: str, type_: str = "TEXT", first: int = 1) -> None:
    """Add rows to a table that no model has."""
    if first == 1:
        world.sql(f"CREATE TABLE post (id INTEGER PRIMARY KEY, body {type_})")
    for number, body in enumerate(bodies, first):
        world.sql("INSERT INTO post VALUES (:id, :body)", id=number, body=body)


def posts(world: World) -> list[Any]:
    return [body for (body,) in world.sql("SELECT body FROM post ORDER BY id")]


def links(world: World, *, run: str | None = None, **options: Any) -> Report:
    """Search the texts in this process. The role of a test sees its own database only."""
    given = {"from_address": (OLD,), "to_address": NEW, "visible_tables_only": True, **options}
    return LinksJob(world.application, LinksOptions(**given), run=run, listener=world.events.append).run()


def rewrite(world: World, **options: Any) -> Report:
    """Change the addresses in this process."""
    return links(world, **{"rewrite": True, "yes": True, "lease_ttl": 1.0, **options})


def put_back(world: World, run: str, **options: Any) -> Report:
    """Undo a rewrite."""
    how = RevertOptions(lease_ttl=1.0, **options)
    return LinksRevertJob(world.application, how, run=run, listener=world.events.append).run()
