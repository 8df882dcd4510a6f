"""The command line: one module for each command. No other package imports click."""

from __future__ import annotations

import click

from migrate_storage.cli.commands.check import check
from migrate_storage.cli.commands.control import control
from migrate_storage.cli.commands.convert import convert
from migrate_storage.cli.commands.cutover import cutover
from migrate_storage.cli.commands.demo import demo
from migrate_storage.cli.commands.doctor import doctor
from migrate_storage.cli.commands.explain import explain
from migrate_storage.cli.commands.history import report, runs, status
from migrate_storage.cli.commands.init import init
from migrate_storage.cli.commands.inspect import inspect
from migrate_storage.cli.commands.journal import journal
from migrate_storage.cli.commands.links import links
from migrate_storage.cli.commands.orphans import orphans
from migrate_storage.cli.commands.purge import purge
from migrate_storage.cli.commands.revert import revert
from migrate_storage.cli.commands.run import plan, run
from migrate_storage.cli.commands.sync import sync
from migrate_storage.cli.commands.translate import translate
from migrate_storage.cli.commands.verify import verify
from migrate_storage.cli.embedding import mount
from migrate_storage.cli.option import example, taking_earlier_words

__all__ = ("add_storage_commands", "cli")

_EARLIER_WORDS = taking_earlier_words({"tables": "journal"})


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, **_EARLIER_WORDS},
    epilog=example("demo", "plan --app myapp.storage --from old --to new"),
)
@click.version_option(package_name="migrate-storage", prog_name="migrate-storage")
def cli() -> None:
    """Move an application's stored files from fsspec to obstore without losing one.

    Every option can also be set as MIGRATE_STORAGE_<OPTION> or in ./migrate-storage.toml; a flag wins over the
    environment, the environment over the file.
    """


_COMMANDS = (
    *(demo, init),
    *(inspect, translate, convert, doctor, explain),
    *(plan, run, verify, links, revert, purge, orphans),
    *(sync, check),
    *(runs, status, control, report),
    cutover,
    journal,
)

for command in _COMMANDS:
    cli.add_command(command)


def add_storage_commands(group: click.Group | None = None) -> click.Group:
    """Add the commands to a group in the command line of an application.

    The commands need no ``--app`` there. They take the application of Litestar or Flask from click's
    context, or ``configs`` of a context object that is a dictionary, as advanced-alchemy has it.

    Args:
        group: The group to add to; by default a new group ``storage``.

    Returns:
        The group.
    """
    own = (command for command in _COMMANDS if command.name != "demo")
    new = click.Group("storage", help=cli.help, epilog=None, context_settings=_EARLIER_WORDS)
    return mount(own, group if group is not None else new)
