"""``cutover``: the phase of a CutoverBackend, its open entries, and their repair."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate_storage.cli.application_options import ApplicationOptions
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import command, group, option, taking_earlier_words
from migrate_storage.cli.output import stopped_by_signals
from migrate_storage.cli.param_types import SECONDS
from migrate_storage.cli.shared_options import JobOutput, Output
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.exit_codes import EXIT_PROBLEMS
from migrate_storage.core.text import amount, duration, visible
from migrate_storage.cutover.decisions import Phase, Side, adjacent_phases, trusted_side

if TYPE_CHECKING:
    from migrate_storage.cutover.backend import CutoverBackend
    from migrate_storage.cutover.outbox import Outbox, PendingEntry
    from migrate_storage.cutover.phase.source import SharedPhase
    from migrate_storage.cutover.phase.table import ProcessRecord
    from migrate_storage.cutover.phase.transitions import PhaseController, Transition
    from migrate_storage.cutover.repair import RepairResult

__all__ = ("cutover",)

MAX_PRINTED_KEYS = 20
STEP_RETRY_SECONDS = 1.0
"""Seconds between two attempts to take a step."""


@click.group(
    short_help="Manage a cutover: its phase, its open entries, and its repair.",
    context_settings=taking_earlier_words({"ready": "check", "retreat": "rollback"}),
)
def cutover() -> None:
    """Manage the cutover of a running application, whose backend is a CutoverBackend.

    The phases, and what each does, are in docs/cutover.md.
    """


_backend_option = partial(
    option, metavar="KEY", shell_complete=complete_keys, help="Key of the cutover backend, where there are several."
)
_quiet_for_option = partial(
    option, metavar="TIME", type=SECONDS, in_file=False, default="10m", show_default=True,
    help="Into DESTINATION: how long no read must have fallen back to the source.",
)  # fmt: skip
_wait_option = partial(
    option, metavar="TIME", type=SECONDS, in_file=False, default="0s", show_default=True,
    help="Try again until the conditions are met, for so long. What a full comparison finds is not waited for.",
)  # fmt: skip
_force_option = partial(
    option, in_file=False, is_flag=True,
    help="Override conditions that are not met, and list them. Processes that may be acting are waited for all the same.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _StatusRequest:
    backend: str | None = _backend_option()
    application: ApplicationOptions = group(ApplicationOptions)
    output: Output = group(Output)


@command(
    _StatusRequest,
    "Show the phase, who acts in it, and which keys have an open entry.",
    "cutover status --app myapp.storage",
    parent=cutover,
)
def status(request: _StatusRequest) -> int:
    """Show the phase, which processes act in it, and which keys wait for repair. Exit code 1 where some do.

    A phase that is fixed in code or in the environment is the one that a new process would be in.
    """
    from migrate_storage.cutover.phase.source import SharedPhase

    backend, outbox = _open_backend(request.application, request.backend)
    row, processes = (
        backend.phase_source.table.snapshot() if isinstance(backend.phase_source, SharedPhase) else (None, [])
    )
    phase = row.phase if row is not None else backend.phase
    entries = list(outbox.pending_entries())
    event: dict[str, Any] = {"event": "cutover", "backend": backend.key, "phase": phase.value}
    event |= {"shared": row is not None, "processes": [_encode_process(process) for process in processes]}
    event |= {"entries": len(entries), "by_side": dict(Counter(entry.side.value for entry in entries))}
    event["failures"] = {entry.path: entry.failure for entry in entries if entry.failure}
    lines = [f"{backend.key}: phase {phase.name}, {amount(len(entries), 'key')} with an open entry"]
    lines += [f"  {_describe_process(process)}" for process in processes]
    request.output.print(event, (*lines, *_render_entries(entries)), important=bool(entries))
    return EXIT_PROBLEMS if entries else 0


def _render_entries(entries: list[PendingEntry]) -> Iterator[str]:
    for entry in entries[:MAX_PRINTED_KEYS]:
        stone = ", and what the other has is old" if entry.tombstone else ""
        failure = f"; {entry.failure}" if entry.failure else ""
        yield f"  {entry.path}: the {entry.side} is right{stone}{failure}"
    if len(entries) > MAX_PRINTED_KEYS:
        yield f"  and {len(entries) - MAX_PRINTED_KEYS:,} more"
    if entries:
        yield "`migrate-storage cutover repair` makes both sides the same."


@dataclass(frozen=True, kw_only=True)
class _CheckRequest:
    backend: str | None = _backend_option()
    back: bool = option(in_file=False, is_flag=True, help="Of the step back.")
    quiet_for: float = _quiet_for_option()
    wait: float = _wait_option()
    application: ApplicationOptions = group(ApplicationOptions)
    output: Output = group(Output)


@command(
    _CheckRequest,
    "Show what the next step of the phase waits for.",
    "cutover check --app myapp.storage",
    parent=cutover,
)
def check(request: _CheckRequest) -> int:
    """Show what the next step of a shared phase waits for, with the numbers. Exit code 1 where it would be refused.

    Where the step needs it both sides are listed and compared in full; `advance` takes what was found, while the phase lasts.
    """
    return _take_step(request, request.quiet_for, lambda controller: controller.check(back=request.back))


@dataclass(frozen=True, kw_only=True)
class _AdvanceRequest:
    backend: str | None = _backend_option()
    quiet_for: float = _quiet_for_option()
    wait: float = _wait_option()
    force: bool = _force_option()
    application: ApplicationOptions = group(ApplicationOptions)
    output: Output = group(Output)


@command(
    _AdvanceRequest,
    "Take the next step of the phase, if its conditions are met.",
    "cutover advance --app myapp.storage",
    "cutover advance --wait 15m --app myapp.storage",
    parent=cutover,
)
def advance(request: _AdvanceRequest) -> int:
    """Take the next step of a shared phase, if its conditions are met; else list those that are not, with exit code 1.

    The steps lead from SOURCE to DUAL_WRITE, DESTINATION_FIRST and DESTINATION. Processes follow by themselves.
    """
    return _take_step(request, request.quiet_for, lambda controller: controller.advance(force=request.force))


@dataclass(frozen=True, kw_only=True)
class _RollbackRequest:
    backend: str | None = _backend_option()
    wait: float = _wait_option()
    force: bool = _force_option()
    application: ApplicationOptions = group(ApplicationOptions)
    output: Output = group(Output)


@command(
    _RollbackRequest,
    "Take one step of the phase back, if its conditions are met.",
    "cutover rollback --app myapp.storage",
    parent=cutover,
)
def rollback(request: _RollbackRequest) -> int:
    """Take one step of a shared phase back, if its conditions are met; else list those that are not, with exit code 1.

    From DESTINATION the source is first brought level with it.
    """
    return _take_step(request, 0.0, lambda controller: controller.rollback(force=request.force))


def _take_step(
    request: _CheckRequest | _AdvanceRequest | _RollbackRequest,
    quiet_for: float,
    take: Callable[[PhaseController], Transition],
) -> int:
    """Take a step, again and again while ``--wait`` lasts, and print how it ended."""
    from migrate_storage.cutover.phase.transitions import PhaseController

    backend, _ = _open_backend(request.application, request.backend)
    stop, until = threading.Event(), time.monotonic() + request.wait
    with stopped_by_signals(stop.set, 0), _counted_stop(stop, request.output) as stopping:
        controller = PhaseController(backend, quiet=quiet_for, stopping=stopping)
        step = take(controller)
        while not _is_successful(step) and _may_pass(step) and time.monotonic() < until:
            if stop.wait(STEP_RETRY_SECONDS):
                break
            step = take(controller)
    event = {"event": "phase_transition", "backend": backend.key, **step.to_dict()}
    request.output.print(event, _render_step(backend.key, step), important=not _is_successful(step))
    return 0 if _is_successful(step) else EXIT_PROBLEMS


def _is_successful(step: Transition) -> bool:
    return step.taken or step.ready


def _render_step(key: str, step: Transition) -> Iterator[str]:
    ending = "now in force" if step.taken else "its conditions are met" if step.ready else "refused"
    yield f"{key}: {step.before.name} to {step.after.name}: {ending}"
    for condition in step.conditions:
        mark = "+" if condition.holds else "!" if condition.forced else "x"
        forced = " (overridden)" if condition.forced else ""
        yield f"  {mark} {condition.name:<10} {condition.message}{forced}"
    if step.taken:
        yield "`migrate-storage cutover status` shows which processes have followed."


def _may_pass(step: Transition) -> bool:
    """Whether waiting may help. A difference between the two sides stays."""
    holds = {condition.name: condition.holds for condition in step.conditions}
    return not holds["processes"] or (holds.get("comparison", True) and holds.get("level", True))


def _encode_process(process: ProcessRecord) -> dict[str, Any]:
    from migrate_storage.cutover.phase.table import NEVER_EXPIRES

    known = {"name": process.name, "phases": [phase.value for phase in process.phases], "alive": process.alive}
    until = None if process.seconds_left > NEVER_EXPIRES / 2 else round(process.seconds_left, 1)
    silent = round(process.seconds_since_report, 1)
    return {**known, "silent": silent, "until": until, "fallbacks": process.fallbacks}


def _describe_process(process: ProcessRecord) -> str:
    from migrate_storage.cutover.phase.table import NEVER_EXPIRES

    phases = " and ".join(phase.name for phase in process.phases)
    heard = f"heard of {duration(process.seconds_since_report)} ago"
    if not process.alive:
        return f"{process.name}: gone; it was in {phases}, {heard}"
    counts = f"counts for {duration(process.seconds_left)} more"
    until = "continues without its lease" if process.seconds_left > NEVER_EXPIRES / 2 else counts
    return f"{process.name}: {phases}, {heard}, {until}"


@dataclass(frozen=True, kw_only=True)
class _RepairRequest:
    backend: str | None = _backend_option()
    phases: str | None = option(
        metavar="NAMES", in_file=False,
        help="Phases that processes are in, where none is shared. A process in SOURCE or DESTINATION writes its side without "
        "notice: the other side's keys then wait.  [default: the phase of a new process, and its neighbours]",
    )  # fmt: skip
    whole: bool = option(
        "--all", in_file=False, is_flag=True,
        help="Compare both sides in full, and repair every key that differs. What only the destination has, before it is read "
        "first, is deleted only where we wrote it, by the outbox or the journal.",
    )  # fmt: skip
    watch: bool = option(in_file=False, is_flag=True, help="Repeat until Ctrl-C.")
    every: float = option(
        metavar="TIME", type=SECONDS, in_file=False, default="10s", show_default=True, help="With --watch: how often."
    )
    application: ApplicationOptions = group(ApplicationOptions)
    output: JobOutput = group(JobOutput)


@command(
    _RepairRequest,
    "Make both sides of every key with an open entry the same.",
    "cutover repair --app myapp.storage",
    "cutover repair --all --app myapp.storage",
    "cutover repair --watch --phases dual_write,destination_first --app myapp.storage",
    parent=cutover,
)
def repair(request: _RepairRequest) -> int:
    """Make both sides of every key that waits the same, by its entry. Exit code 1 where some are left.

    Several may run at once: each takes a key's lease. Writers continue meanwhile; a key that is written is begun anew. A key to
    which a signed URL may still upload waits until that has expired.
    """
    from migrate_storage.cutover.phase.source import SharedPhase
    from migrate_storage.cutover.repair import Repair, repair_all

    backend, outbox = _open_backend(request.application, request.backend)
    output, left = request.output, 0

    def report(result: RepairResult) -> None:
        nonlocal left
        left = result.left + len(result.failures)
        _print_result(result, output)
        if output.metrics_file is not None:
            _write_metrics(backend, outbox, output.metrics_file)

    stop = threading.Event()
    with (
        _open_phases(backend, outbox, request.phases) as phases,
        stopped_by_signals(stop.set, 0),
        _counted_stop(stop, output, shown=not request.watch) as stopping,
    ):
        work = Repair(backend.source, backend.destination, outbox, phases=phases, counters=backend.counters)
        if request.whole:
            with work.acquire_rights():
                side = trusted_side(phases.phase if isinstance(phases, SharedPhase) else backend.phase)
                repaired = repair_all(backend, outbox, work, side, stopping)
            report(repaired.result)
            _print_foreign(repaired.foreign, output)
            left += len(repaired.foreign)
        elif request.watch:
            work.repair_repeatedly(report, every=request.every, stop=stop)
        else:
            report(work.repair_pending(stopping))
    return EXIT_PROBLEMS if left else 0


@contextlib.contextmanager
def _counted_stop(stop: threading.Event, output: Output, *, shown: bool = True) -> Iterator[Callable[[], bool]]:
    """Give what the job asks before each key, and show how many keys it has compared or repaired."""
    from migrate_storage.reporting.progress.counting import Counting

    with Counting(sys.stderr, quiet=not shown or output.quiet or output.json) as keys:

        def stopping() -> bool:
            keys.add()
            return stop.is_set()

        yield stopping


def _write_metrics(backend: CutoverBackend, outbox: Outbox, path: Path) -> None:
    counts = outbox.count_by_kind()
    for side in Side:
        for kind in ("repair", "writer", "upload"):
            backend.counters.set(f"open_{kind}", side, counts.count(kind, side))
    backend.counters.write(path)


@contextlib.contextmanager
def _open_phases(
    backend: CutoverBackend, outbox: Outbox, named: str | None
) -> Iterator[tuple[Phase, ...] | SharedPhase]:
    """Give the phases of all processes, or join their shared phase."""
    from migrate_storage.cutover.phase.source import SharedPhase

    if not isinstance(backend.phase_source, SharedPhase):
        yield tuple(map(_parse_phase, named.split(","))) if named else adjacent_phases(backend.phase)
        return
    if named:
        raise ConfigurationError("--phases: the phase is shared, so the processes themselves report theirs")
    own = SharedPhase(outbox, name=f"repair on {socket.gethostname()}:{os.getpid()}")
    try:
        yield own
    finally:
        own.close()


def _open_backend(options: ApplicationOptions, key: str | None) -> tuple[CutoverBackend, Outbox]:
    from migrate_storage.cutover.backend import CutoverBackend
    from migrate_storage.cutover.outbox import require_tables

    registered = options.open().backends.items()
    backends = {name: backend for name, backend in registered if isinstance(backend, CutoverBackend)}
    if key is not None and key not in backends:
        raise ConfigurationError(
            f"--backend {visible(key)}: no CutoverBackend has this key; there is {_join_names(backends)}"
        )
    if not backends:
        raise ConfigurationError(
            "the application has no CutoverBackend: register one under the key that its models name"
        )
    if key is None and len(backends) > 1:
        raise ConfigurationError(
            f"the application has several CutoverBackends: name one with --backend {_join_names(backends)}"
        )
    backend = backends[key] if key is not None else next(iter(backends.values()))
    if backend.outbox is None:
        raise ConfigurationError(
            f"{visible(backend.key)} has no outbox, so no key can have an entry: pass outbox= to CutoverBackend"
        )
    require_tables(backend.outbox)
    return backend, backend.outbox


def _join_names(backends: dict[str, CutoverBackend]) -> str:
    return visible(", ".join(sorted(backends)) or "none")


def _parse_phase(name: str) -> Phase:
    try:
        return Phase(name.strip().lower())
    except ValueError:
        raise ConfigurationError(f"--phases {visible(name)}: no such phase; use {', '.join(Phase)}") from None


def _print_result(result: RepairResult, output: Output) -> None:
    event = {"event": "repair_finished", "settled": result.settled, "left": result.left, "failures": result.failures}
    event |= {"uploads": result.uploads, "bypassed": result.bypassed}
    lines = []
    if not output.quiet or result.left or result.failures:
        lines = [f"{amount(result.settled, 'key')} repaired, {result.left:,} left, {len(result.failures):,} failed"]
    if result.bypassed:
        lines.append(f"{amount(len(result.bypassed), 'key')} written past the backend meanwhile, and copied again:")
        lines += [f"  {path}" for path in result.bypassed[:MAX_PRINTED_KEYS]]
    if result.uploads:
        lines.append(f"{amount(result.uploads, 'key')} may still be uploaded to by a signed URL")
    lines += [f"  {path}: {reason}" for path, reason in list(result.failures.items())[:MAX_PRINTED_KEYS]]
    output.print(event, lines, important=True)


def _print_foreign(paths: list[str], output: Output) -> None:
    noun = amount(len(paths), "object")
    line = f"{noun} on one side alone that we did not write: check each, and delete or copy it by hand"
    lines = [line, *(f"  {path}" for path in paths[:MAX_PRINTED_KEYS])] if paths else []
    output.print({"event": "extraneous_objects", "paths": paths}, lines, important=True)
