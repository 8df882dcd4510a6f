"""``control``: pause, resume, retune or stop a running job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.completion import CONTROL_ACTIONS, complete_control
from migrate_storage.cli.option import argument, command, group, option
from migrate_storage.cli.param_types import BYTES
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import duration

__all__ = ("control",)

PROBABLY_DEAD_SECONDS = 30.0
"""Seconds without an update of its journal record after which a run has probably died."""


@dataclass(frozen=True, kw_only=True)
class _ControlRequest:
    words: tuple[str, ...] = argument(nargs=-1, metavar="[RUN] pause|resume|set|stop", shell_complete=complete_control)
    concurrency: int | None = option(
        in_file=False, metavar="N", type=click.IntRange(1, 1024), help="With set: objects at once."
    )
    bandwidth: int | None = option(
        in_file=False, metavar="BYTES", type=BYTES, help="With set: content read in a second; 0 for no limit."
    )
    application: JournaledApplication = group(JournaledApplication)
    output: Output = group(Output)

    def parse(self) -> tuple[str | None, str, dict[str, Any]]:
        """Return the run, the action, and what the running process is asked for.

        Raises:
            ConfigurationError: the words or the options make no sense together.
        """
        if not 1 <= len(self.words) <= 2 or self.words[-1] not in CONTROL_ACTIONS:
            raise ConfigurationError(
                f"name what to do, one of {', '.join(CONTROL_ACTIONS)}: migrate-storage control [RUN] pause"
            )
        run, action = (self.words[0] if len(self.words) == 2 else None), self.words[-1]
        retuned: dict[str, Any] = {}
        if self.concurrency is not None:
            retuned["concurrency"] = self.concurrency
        if self.bandwidth is not None:
            retuned["bandwidth"] = self.bandwidth or None
        if action == "set" and not retuned:
            raise ConfigurationError("name what to set: --concurrency N, --bandwidth 10M, or both")
        if action != "set" and retuned:
            raise ConfigurationError("--concurrency and --bandwidth go with set: migrate-storage control set ...")
        asked = {"set": retuned, "stop": {"stop": True}}
        return run, action, asked.get(action, {"paused": action == "pause"})


@command(
    _ControlRequest,
    "Pause, resume, retune or stop a run that is under way.",
    "control pause --app myapp.storage",
    "control set --concurrency 8 --bandwidth 10M --app myapp.storage",
)
def control(request: _ControlRequest) -> None:
    """Pause, resume, retune or stop a run that is under way, from any machine that reaches its journal.

    RUN defaults to the latest. The run reads the request about once a second, and no port is open. While it is paused nothing is
    begun and no row is touched; objects under way finish. After stop, the same run command resumes.
    """
    run, action, asked = request.parse()
    with request.application.opened_journal() as journal:
        record = journal.runs.find(run)
        if record.finished is not None:
            raise ConfigurationError(f"run {record.id} is {record.state}: it cannot be controlled any more")
        if record.kind not in ("run", "sync", "verify"):
            raise ConfigurationError(
                f"{record.id} is a {record.kind}: only a run, a sync or a verify of several processes can be controlled; stop it with Ctrl-C"
            )
        journal.runs.request_control(record.id, **asked)
        silent = journal.database.time() - record.updated
    lines = [f"{record.id}: {action} is asked for; `migrate-storage status` shows when it is done."]
    if silent > PROBABLY_DEAD_SECONDS:
        lines.append(
            f"It gave no heartbeat for {duration(silent)}: it may have died, and `migrate-storage {record.kind}` resumes it."
        )
    request.output.print({"event": "control_requested", "run": record.id, **asked, "silent": round(silent, 1)}, lines)
