"""``control``: a hand on a run that is under way."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.commands.history import opened_journal
from migrate_storage.cli.option import example, option
from migrate_storage.cli.param_types import BYTES
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import duration, visible

__all__ = ("control",)

_ACTIONS = ("pause", "resume", "set", "stop")
_SILENCE = 30.0
"""Seconds without a sign of life after which a run has probably died."""


@click.command(
    short_help="Pause, resume, retune or stop a run that is under way.",
    epilog=example(
        "migrate-storage control pause --app myapp.storage",
        "migrate-storage control set --concurrency 8 --bandwidth 10M --app myapp.storage",
    ),
)
@click.argument("words", nargs=-1, metavar="[RUN] pause|resume|set|stop")
@option("--concurrency", in_file=False, metavar="N", type=click.IntRange(1, 1024), help="With set: objects at once.")
@option(
    "--bandwidth",
    in_file=False,
    metavar="BYTES",
    type=BYTES,
    help="With set: content read in a second; 0 for no limit.",
)
@application_options
@journal_options
@output_options
def control(
    words: tuple[str, ...],
    concurrency: int | None,
    bandwidth: int | None,
    door: ApplicationOptions,
    journal: str | None,
    journal_schema: str | None,
    output: Output,
) -> None:
    """Pause, resume, retune or stop a run that is under way, from any machine that reaches its journal.

    RUN defaults to the latest. The run looks about once a second, and no port is open. While it is paused nothing is
    begun and no row is touched; objects under way finish. After stop, the same run command goes on.
    """
    run, action = _said(words)
    wishes = _wishes(action, concurrency, bandwidth)
    with opened_journal(door, journal, journal_schema) as opened:
        line = opened.runs.find(run)
        if line.finished is not None:
            raise ConfigurationError(f"run {line.id} is {line.state}: it cannot be controlled any more")
        if line.kind not in ("run", "sync", "verify"):
            raise ConfigurationError(
                f"{line.id} is a {line.kind}: only a run, a sync or a verify of several processes can be controlled; stop it with Ctrl-C"
            )
        opened.runs.request_control(line.id, **wishes)
    silent = time.time() - line.updated
    if output.json:
        click.echo(json.dumps({"event": "wanted", "run": line.id, **wishes, "silent": round(silent, 1)}))
    elif not output.quiet:
        click.echo(visible(f"{line.id}: {action} is asked for; `migrate-storage status` shows when it is done."))
        if silent > _SILENCE:
            click.echo(
                f"It gave no sign of life for {duration(silent)}: it may have died, and `migrate-storage {line.kind}` goes on."
            )


def _said(words: tuple[str, ...]) -> tuple[str | None, str]:
    if not 1 <= len(words) <= 2 or words[-1] not in _ACTIONS:
        raise ConfigurationError(f"say what to do, one of {', '.join(_ACTIONS)}: migrate-storage control [RUN] pause")
    return (words[0] if len(words) == 2 else None), words[-1]


def _wishes(action: str, concurrency: int | None, bandwidth: int | None) -> dict[str, Any]:
    retuned: dict[str, Any] = {}
    if concurrency is not None:
        retuned["concurrency"] = concurrency
    if bandwidth is not None:
        retuned["bandwidth"] = bandwidth or None
    if action != "set":
        if retuned:
            raise ConfigurationError("--concurrency and --bandwidth go with set: migrate-storage control set ...")
        return {"stop": True} if action == "stop" else {"paused": action == "pause"}
    if not retuned:
        raise ConfigurationError("say what to set: --concurrency N, --bandwidth 10M, or both")
    return retuned
