"""``cutover``: the phase of a CutoverBackend, what it has left unsettled, and its repair."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.output import stopped_by_signals
from migrate_storage.cli.param_types import SECONDS
from migrate_storage.cli.shared_options import Output, job_options, output_options
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration, visible
from migrate_storage.cutover.decisions import Phase, Side, adjacent_phases, trusted_side

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.cutover.backend import CutoverBackend
    from migrate_storage.cutover.outbox import Outbox
    from migrate_storage.cutover.phase.source import SharedPhase
    from migrate_storage.cutover.phase.table import ProcessRecord
    from migrate_storage.cutover.phase.transitions import PhaseController, Transition
    from migrate_storage.cutover.repair import RepairResult

__all__ = ("cutover",)

_SHOWN = 20
_AGAIN = 1.0
"""Seconds between two tries of a step."""


@click.group(short_help="Look after a cutover: its phase, what is not settled, and its repair.")
def cutover() -> None:
    """Look after the cutover of a running application, whose backend is a CutoverBackend.

    The phases, and what each does, are in docs/cutover.md.
    """


_backend = option("--backend", metavar="KEY", help="Key of the cutover backend, where there are several.")


@cutover.command(
    short_help="Say the phase, who acts in it, and which keys are not settled.",
    epilog=example("migrate-storage cutover status --app myapp.storage"),
)
@_backend
@application_options
@output_options
def status(backend: str | None, door: ApplicationOptions, output: Output) -> int:
    """Say the phase, which processes act in it, and which keys wait for repair. Exit code 1 where some do.

    A phase that is fixed in code or in the environment is the one that a new process would be in.
    """
    from migrate_storage.cutover.phase.source import SharedPhase

    found, outbox = _opened(door.open(), backend)
    shared, members = found.phase_source.table.snapshot() if isinstance(found.phase_source, SharedPhase) else (None, [])
    phase = shared.phase if shared is not None else found.phase
    waiting = list(outbox.pending_entries())
    by_side = Counter(each.side.value for each in waiting)
    if output.json:
        told: dict[str, Any] = {"event": "cutover", "backend": found.key, "phase": phase.value}
        told |= {"shared": shared is not None, "processes": [_member(each) for each in members]}
        told |= {"entries": len(waiting), "by_side": dict(by_side)}
        told["failures"] = {each.path: each.failure for each in waiting if each.failure}
        click.echo(json.dumps(told))
    elif not output.quiet or waiting:
        click.echo(visible(f"{found.key}: phase {phase.name}, {amount(len(waiting), 'key')} not settled"))
        for member in members:
            click.echo(visible(f"  {_member_line(member)}"))
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


_quiet_for = option(
    "--quiet-for",
    metavar="TIME",
    type=SECONDS,
    in_file=False,
    default="10m",
    show_default=True,
    help="Into DESTINATION: how long no read must have fallen back to the source.",
)
_wait = option(
    "--wait",
    metavar="TIME",
    type=SECONDS,
    in_file=False,
    default="0s",
    show_default=True,
    help="Try again until the conditions hold, for so long. What a full comparison finds is not waited for.",
)
_force = option(
    "--force",
    in_file=False,
    is_flag=True,
    help="Override conditions that do not hold, and say which. Processes that may be acting are waited for all the same.",
)


@cutover.command(
    short_help="Say what the next step of the phase waits for.",
    epilog=example("migrate-storage cutover ready --app myapp.storage"),
)
@_backend
@option("--back", in_file=False, is_flag=True, help="Of the step back.")
@_quiet_for
@_wait
@application_options
@output_options
def ready(
    backend: str | None, back: bool, quiet_for: float, wait: float, door: ApplicationOptions, output: Output
) -> int:
    """Say what the next step of a shared phase waits for, with the numbers. Exit code 1 where it would be refused.

    Where the step needs it both sides are listed and compared in full; `advance` takes what was found, while the phase lasts.
    """
    return _stepped(door, backend, quiet_for, output, lambda steps: steps.ready(back=back), wait)


@cutover.command(
    short_help="Take the next step of the phase, if its conditions hold.",
    epilog=example(
        "migrate-storage cutover advance --app myapp.storage",
        "migrate-storage cutover advance --wait 15m --app myapp.storage",
    ),
)
@_backend
@_quiet_for
@_wait
@_force
@application_options
@output_options
def advance(
    backend: str | None, quiet_for: float, wait: float, force: bool, door: ApplicationOptions, output: Output
) -> int:
    """Take the next step of a shared phase, if its conditions hold; else say which do not, with exit code 1.

    The steps lead from SOURCE to DUAL_WRITE, DESTINATION_FIRST and DESTINATION. Processes follow by themselves.
    """
    return _stepped(door, backend, quiet_for, output, lambda steps: steps.advance(force=force), wait)


@cutover.command(
    short_help="Take one step of the phase back, if its conditions hold.",
    epilog=example("migrate-storage cutover retreat --app myapp.storage"),
)
@_backend
@_wait
@_force
@application_options
@output_options
def retreat(backend: str | None, wait: float, force: bool, door: ApplicationOptions, output: Output) -> int:
    """Take one step of a shared phase back, if its conditions hold; else say which do not, with exit code 1.

    From DESTINATION the source is first brought level with it.
    """
    return _stepped(door, backend, 0.0, output, lambda steps: steps.retreat(force=force), wait)


def _stepped(
    door: ApplicationOptions,
    backend: str | None,
    quiet_for: float,
    output: Output,
    take: Callable[[PhaseController], Transition],
    wait: float = 0.0,
) -> int:
    from migrate_storage.cutover.phase.transitions import PhaseController

    found, _ = _opened(door.open(), backend)
    stop, until = threading.Event(), time.monotonic() + wait
    with stopped_by_signals(stop.set, 0):
        steps = PhaseController(found, quiet=quiet_for, stopping=stop.is_set)
        step = take(steps)
        while not (step.taken or step.ready) and _passes(step) and time.monotonic() < until and not stop.wait(_AGAIN):
            step = take(steps)
    fine = step.taken or step.ready
    if output.json:
        click.echo(json.dumps({"event": "step", "backend": found.key, **step.to_dict()}))
    elif not output.quiet or not fine:
        way = f"{step.before.name} to {step.after.name}"
        said = "now in force" if step.taken else "its conditions hold" if fine else "refused"
        click.echo(visible(f"{found.key}: {way}: {said}"))
        for each in step.conditions:
            mark = "+" if each.holds else "!" if each.forced else "x"
            click.echo(visible(f"  {mark} {each.name:<10} {each.message}{' (overridden)' if each.forced else ''}"))
        if step.taken:
            click.echo("`migrate-storage cutover status` says which processes have followed.")
    return 0 if fine else 1


def _passes(step: Transition) -> bool:
    """Whether what a step waits for may pass by itself: not so what was found different on the two sides."""
    held = {each.name: each.holds for each in step.conditions}
    return not held["processes"] or (held.get("comparison", True) and held.get("level", True))


def _member(member: ProcessRecord) -> dict[str, Any]:
    from migrate_storage.cutover.phase.table import NEVER_EXPIRES

    phases = [phase.value for phase in member.phases]
    told = {
        "name": member.name,
        "phases": phases,
        "alive": member.alive,
        "silent": round(member.seconds_since_report, 1),
    }
    return {
        **told,
        "until": None if member.seconds_left > NEVER_EXPIRES / 2 else round(member.seconds_left, 1),
        "fallbacks": member.fallbacks,
    }


def _member_line(member: ProcessRecord) -> str:
    from migrate_storage.cutover.phase.table import NEVER_EXPIRES

    phases = " and ".join(phase.name for phase in member.phases)
    heard = f"heard of {duration(member.seconds_since_report)} ago"
    if not member.alive:
        return f"{member.name}: gone; it was in {phases}, {heard}"
    until = (
        "goes on without its lease"
        if member.seconds_left > NEVER_EXPIRES / 2
        else f"counts for {duration(member.seconds_left)} more"
    )
    return f"{member.name}: {phases}, {heard}, {until}"


@cutover.command(
    short_help="Make both sides of every unsettled key the same.",
    epilog=example(
        "migrate-storage cutover repair --app myapp.storage",
        "migrate-storage cutover repair --all --app myapp.storage",
        "migrate-storage cutover repair --watch --phases dual_write,destination_first --app myapp.storage",
    ),
)
@_backend
@option(
    "--phases",
    metavar="NAMES",
    in_file=False,
    help="Phases that processes are in, where none is shared. A process in SOURCE or DESTINATION writes its side without "
    "telling: the other side's keys then wait.  [default: the phase of a new process, and its neighbours]",
)
@option(
    "--all",
    "whole",
    in_file=False,
    is_flag=True,
    help="Compare both sides in full, and repair every key that differs. What only the destination has, before it is read "
    "first, is deleted only where the outbox or the journal says that we wrote it.",
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
@application_options
@job_options
def repair(
    backend: str | None,
    phases: str | None,
    whole: bool,
    watch: bool,
    every: float,
    door: ApplicationOptions,
    output: Output,
) -> int:
    """Make both sides of every key that waits the same, as its entry says. Exit code 1 where some are left.

    Several may run at once: each takes a key's lease. Writers go on meanwhile; a key that is written is begun anew. A key to
    which a signed URL may still upload waits until that has expired.
    """
    from migrate_storage.cutover.phase.source import SharedPhase
    from migrate_storage.cutover.repair import Repair, repair_all

    found, outbox = _opened(door.open(), backend)
    left = 0

    def tell(result: RepairResult) -> None:
        nonlocal left
        left = result.left + len(result.failures)
        _tell(result, output)
        if output.metrics is not None:
            _write(found, outbox, output.metrics)

    stop = threading.Event()
    with _phases(found, outbox, phases) as among, stopped_by_signals(stop.set, 0):
        work = Repair(found.source, found.destination, outbox, phases=among, counters=found.counters)
        if whole:
            with work.acquire_rights():
                side = trusted_side(among.phase if isinstance(among, SharedPhase) else found.phase)
                leveled = repair_all(found, outbox, work, side, stop.is_set)
            tell(leveled.result)
            _tell_foreign(leveled.foreign, output)
            left += len(leveled.foreign)
        elif watch:
            work.repair_repeatedly(tell, every=every, stop=stop)
        else:
            tell(work.repair_pending(stop.is_set))
    return 1 if left else 0


def _write(found: CutoverBackend, outbox: Outbox, path: Path) -> None:
    tally = outbox.count_by_kind()
    for side in Side:
        for kind in ("repair", "writer", "upload"):
            found.counters.set(f"open_{kind}", side, tally.count(kind, side))
    found.counters.write(path)


@contextlib.contextmanager
def _phases(found: CutoverBackend, outbox: Outbox, named: str | None) -> Iterator[tuple[Phase, ...] | SharedPhase]:
    """The phases that processes may be in, or a part in the one that they share."""
    from migrate_storage.cutover.phase.source import SharedPhase

    if not isinstance(found.phase_source, SharedPhase):
        yield tuple(map(_phase, named.split(","))) if named else adjacent_phases(found.phase)
        return
    if named:
        raise ConfigurationError("--phases: the phase is shared, so the processes themselves say where they are")
    own = SharedPhase(outbox, name=f"repair on {socket.gethostname()}:{os.getpid()}")
    try:
        yield own
    finally:
        own.close()


def _opened(application: Application, key: str | None) -> tuple[CutoverBackend, Outbox]:
    from migrate_storage.cutover.backend import CutoverBackend

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


def _tell(result: RepairResult, output: Output) -> None:
    if output.json:
        told = {"event": "repaired", "settled": result.settled, "left": result.left, "failures": result.failures}
        told |= {"uploads": result.uploads, "bypassed": result.bypassed}
        click.echo(json.dumps(told))
        return
    if not output.quiet or result.left or result.failures:
        click.echo(f"{amount(result.settled, 'key')} settled, {result.left:,} left, {len(result.failures):,} failed")
    if result.bypassed:
        click.echo(f"{amount(len(result.bypassed), 'key')} written past the backend meanwhile, and copied again:")
        for path in result.bypassed[:_SHOWN]:
            click.echo(visible(f"  {path}"))
    if result.uploads:
        click.echo(f"{amount(result.uploads, 'key')} may still be uploaded to by a signed URL")
    for path, reason in list(result.failures.items())[:_SHOWN]:
        click.echo(visible(f"  {path}: {reason}"))


def _tell_foreign(paths: list[str], output: Output) -> None:
    if output.json:
        click.echo(json.dumps({"event": "extra", "paths": paths}))
    elif paths:
        noun = amount(len(paths), "object")
        click.echo(f"{noun} on one side alone that we did not write: look at each, and delete or copy it by hand")
        for path in paths[:_SHOWN]:
            click.echo(visible(f"  {path}"))
