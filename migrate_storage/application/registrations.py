"""The registrations of an application, without its database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from advanced_alchemy.types.file_object import StorageBackend

from migrate_storage.application.columns import backends_of, described_columns, find_tables
from migrate_storage.application.importing import enter_lifespan, import_target

__all__ = ("loaded_backends",)


@contextlib.contextmanager
def loaded_backends(target: object, *, lifespan: bool = False) -> Iterator[Mapping[str, StorageBackend]]:
    """Import an application, and give the backends that it registers or that its columns name, by their keys.

    Args:
        target: ``module`` or ``module:name``, as for :func:`migrate_storage.application.application.load_application`,
            or an object of the application. It needs neither an engine nor a model.
        lifespan: whether to be inside of the application's ASGI lifespan until the end of the block.

    Raises:
        ApplicationError: when the application cannot be imported.
    """
    label = f"--app {target}" if isinstance(target, str) else "this application"
    _, named = import_target(target) if isinstance(target, str) else (None, target)
    entered = enter_lifespan(label, named) if lifespan else None
    try:
        # Connects to nothing: a column's type may depend on the dialect.
        described = described_columns(find_tables(), sa.create_engine("sqlite://"))
        yield backends_of(backend for _, backend in described)
    finally:
        if entered is not None:
            entered.exit()
