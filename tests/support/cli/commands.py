"""Every command of the command line by its full name."""

from __future__ import annotations

from collections.abc import Iterator

import click

from migrate_storage.cli import cli


def _commands(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join((*names, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, *names, name)


COMMANDS = dict(_commands(cli, "migrate-storage"))

LEAVES = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}
