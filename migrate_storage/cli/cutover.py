"""``cutover``: what a CutoverBackend has left unsettled, and its repair."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import click

from migrate_storage.application import Application
from migrate_storage.cli.endings import stopped_by_signals
from migrate_storage.cli.options import SECONDS, Door, Output, door_options, example, option, output_options
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phases import Phase, neighbours
from migrate_storage.cutover.repair import Repair, Result
from migrate_storage.errors import ConfigurationError
from migrate_storage.report import amount
from migrate_storage.text import visible

__all__ = ("cutover",)

_SHOWN = 20


@click.group(short_help="Look after a cutover: what is not settled, and its repair.")
def cutover() -> None:
    """Look after the cutover of a running application, whose backend is a CutoverBackend.

    The phases, and what each does, are in docs/cutover.md.
    """


_backend = option("--backend", metavar="KEY", help="Key of the cutover backend, where there are several.")


@cutover.command(
    short_help="Say the phase, and which keys are not settled.",
    epilog=example("migrate-storage cutover status --app myapp.storage"),
)
@_backend
@door_options
@output_options
def status(backend: str | None, door: Door, output: Output) -> int:
    """Say the phase that a new process would be in, and which keys wait for repair. Exit code 1 where some do."""
    found, outbox = _opened(door.open(), backend)
    waiting = list(outbox.waiting())
    by_side = Counter(each.side.value for each in waiting)
    if output.json:
        told: dict[str, Any] = {"event": "cutover", "backend": found.key, "phase": found.phase.value}
        told |= {"entries": len(waiting), "by_side": dict(by_side)}
        told["failures"] = {each.path: each.failure for each in waiting if each.failure}
        click.echo(json.dumps(told))
    elif not output.quiet or waiting:
        click.echo(visible(f"{found.key}: phase {found.phase.name}, {amount(len(waiting), 'key')} not settled"))
        for each in waiting[:_SHOWN]:
            stone = ", and what the other has is old" if each.tombstone else ""
            click.echo(
                visible(f"  {each.path}: the {each.side} is right{stone}{f'; {each.failure}' if each.failure else ''}")
            )
        if len(waiting) > _SHOWN:
            click.echo(f"  and {len(waiting) - _SHOWN:,} more")
        if waiting:
            click.echo("`migrate-storage cutover repair` makes both sides the same.")
    return 1 if waiting else 0


@cutover.command(
    short_help="Make both sides of every unsettled key the same.",
    epilog=example(
        "migrate-storage cutover repair --app myapp.storage",
        "migrate-storage cutover repair --watch --phases dual_write,destination_first --app myapp.storage",
    ),
)
@_backend
@option(
    "--phases",
    metavar="NAMES",
    in_file=False,
    help="Phases that processes are in. A process in SOURCE or DESTINATION writes its side without telling: the other "
    "side's keys then wait.  [default: the phase of a new process, and its neighbours]",
)
@option("--watch", in_file=False, is_flag=True, help="Go on until Ctrl-C.")
@option(
    "--every",
    metavar="TIME",
    type=SECONDS,
    in_file=False,
    default="10s",
    show_default=True,
    help="With --watch: how often.",
)
@door_options
@output_options
def repair(backend: str | None, phases: str | None, watch: bool, every: float, door: Door, output: Output) -> int:
    """Make both sides of every key that waits the same, as its entry says. Exit code 1 where some are left.

    Several may run at once: each takes a key's lease. Writers go on meanwhile; a key that is written is begun anew.
    """
    found, outbox = _opened(door.open(), backend)
    named = tuple(map(_phase, phases.split(","))) if phases else neighbours(found.phase)
    work = Repair(found.source, found.destination, outbox, phases=named)
    left = 0

    def tell(result: Result) -> None:
        nonlocal left
        left = result.left + len(result.failures)
        _tell(result, output)

    stop = threading.Event()
    with stopped_by_signals(stop.set, 0):
        if watch:
            work.watch(tell, every=every, stop=stop)
        else:
            tell(work.once(stop.is_set))
    return 1 if left else 0


def _opened(application: Application, key: str | None) -> tuple[CutoverBackend, Outbox]:
    there = {name: each for name, each in application.backends.items() if isinstance(each, CutoverBackend)}
    if key is not None and key not in there:
        raise ConfigurationError(f"--backend {visible(key)}: no CutoverBackend has this key; there is {_names(there)}")
    if not there:
        raise ConfigurationError(
            "the application has no CutoverBackend: register one under the key that its models name"
        )
    if key is None and len(there) > 1:
        raise ConfigurationError(
            f"the application has several CutoverBackends: say which with --backend {_names(there)}"
        )
    found = there[key] if key is not None else next(iter(there.values()))
    if found.outbox is None:
        raise ConfigurationError(
            f"{visible(found.key)} has no outbox, so nothing can be unsettled: pass outbox= to CutoverBackend"
        )
    return found, found.outbox


def _names(there: dict[str, CutoverBackend]) -> str:
    return visible(", ".join(sorted(there)) or "none")


def _phase(name: str) -> Phase:
    try:
        return Phase(name.strip().lower())
    except ValueError:
        raise ConfigurationError(f"--phases {visible(name)}: no such phase; use {', '.join(Phase)}") from None


def _tell(result: Result, output: Output) -> None:
    if output.json:
        told = {"event": "repaired", "settled": result.settled, "left": result.left, "failures": result.failures}
        click.echo(json.dumps(told))
        return
    if not output.quiet or result.left or result.failures:
        click.echo(f"{amount(result.settled, 'key')} settled, {result.left:,} left, {len(result.failures):,} failed")
    for path, reason in list(result.failures.items())[:_SHOWN]:
        click.echo(visible(f"  {path}: {reason}"))
