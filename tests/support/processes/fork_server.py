"""A process that has imported everything and forks one process for each request.

A start of Python with all imports takes 1 to 2 seconds; a fork takes about 30 milliseconds. A forked process has its own
arguments, environment, folder and standard streams. It ends as an interpreter does, but for one thing: it does not destroy what
was imported before the fork, which takes 0.25 seconds. No thread runs and no connection is open when it forks.

A request is one message on a Unix socket: JSON with ``arguments``, ``environment`` and ``folder``, and three descriptors. The
answers are the process id at once, and the wait status at the end, each as 8 bytes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
import types
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy
from sqlalchemy.orm import Mapper

import migrate_storage
from migrate_storage.jobs.revert.job import RevertOptions
from migrate_storage.jobs.run.options import RunOptions

PRELOADED = (
    "advanced_alchemy.config",
    "advanced_alchemy.types.file_object.backends.fsspec",
    "advanced_alchemy.types.file_object.backends.obstore",
    "aiobotocore.httpsession",
    "aiosqlite",
    "distributed",
    "litestar",
    "s3fs",
    "psycopg",
    "pymysql",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "tests.support.engine.preloaded",
)
"""Modules of others that most processes import, also those that they import late."""
LONGEST_REQUEST = 1 << 20
EXIT_OUTPUT_LOST = 120
"""Of an interpreter that could not write what was printed."""


def serve(path: str) -> dict[str, Any]:
    """Fork on each request until the standard input ends.

    Returns:
        the request, in each forked process.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    waking, woken = socket.socketpair()
    for one in (waking, woken):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(waking.fileno())
    clients: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for ready in (listener, woken, sys.stdin):
            selector.register(ready, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    shutil.rmtree(Path(path).parent)
                    os._exit(0)
                elif key.fileobj is listener:
                    client = listener.accept()[0]
                    request, descriptors, *_ = socket.recv_fds(client, LONGEST_REQUEST, 3)
                    if len(descriptors) != 3:
                        client.close()
                        continue
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        signal.signal(signal.SIGINT, signal.default_int_handler)
                        for one in (listener, waking, woken, client, *clients.values()):
                            one.close()
                        for number, descriptor in enumerate(descriptors):
                            os.dup2(descriptor, number)
                            os.close(descriptor)
                        return dict(json.loads(request))
                    for descriptor in descriptors:
                        os.close(descriptor)
                    clients[pid] = client
                    answer(client, pid)
                else:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    with contextlib.suppress(ChildProcessError):
                        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                            answer(clients[ended[0]], ended[1])
                            clients.pop(ended[0]).close()


def answer(client: socket.socket, number: int) -> None:
    """Send a number; the other side may be gone."""
    with contextlib.suppress(OSError):
        client.send(number.to_bytes(8, "little"))


def become(request: dict[str, Any]) -> None:
    """Do what ``python ARGUMENTS`` does, in this process."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 - as Python opens them
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.path[:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    # A new one, which ends with the program. It has no package and no ``__spec__``: click reads the name of the program there.
    sys.modules["__main__"] = types.ModuleType("__main__")
    kind, *arguments = request["arguments"]
    if kind == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = arguments
        runpy._run_module_as_main(arguments[0])  # type: ignore[attr-defined]
    elif kind == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), sys.modules["__main__"].__dict__)  # noqa: S102
    else:
        sys.path.insert(0, str(Path(kind).resolve().parent))
        sys.argv = [kind, *arguments]
        runpy.run_path(kind, run_name="__main__")


def end(request: dict[str, Any]) -> NoReturn:
    """Run the program and end the process with its exit code, in the order of ``Py_FinalizeEx``."""
    imported = frozenset(sys.modules)
    code = _run(request)
    threading._shutdown()
    atexit._run_exitfuncs()
    if not _flush():
        code = EXIT_OUTPUT_LOST
    # What the program made and imported is destroyed, for destructors may print a warning.
    for name in {*sys.modules} - imported | {"__main__"}:
        del sys.modules[name]
    gc.collect()
    _flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _run(request: dict[str, Any]) -> int:
    """Run the program; return its exit code, or the negative number of the signal that ends it."""
    try:
        become(request)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 0xFF
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _flush() -> bool:
    """Flush both outputs; report as the interpreter does when what was printed is lost."""
    flushed = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception as error:
            flushed = False
            with contextlib.suppress(Exception):
                print(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}", file=sys.stderr)
    return flushed


def _shorten_waits() -> None:
    """Let forked commands wait for 0.1 seconds where 2 and 5 are the default: nothing uploads while they run."""
    for options in (RunOptions, RevertOptions):
        options.__init__.__kwdefaults__["settle_time"] = 0.1


def preload() -> None:
    """Import what most commands import, and check that a fork is safe."""
    # Before the command line reads the defaults.
    _shorten_waits()
    mapped: list[type] = []
    sqlalchemy.event.listen(Mapper, "instrument_class", note_class := lambda _, class_: mapped.append(class_))
    for module in (*PRELOADED, *_list_own_modules()):
        importlib.import_module(module)
    sqlalchemy.event.remove(Mapper, "instrument_class", note_class)
    assert mapped == [], "a command finds each class that is mapped"
    assert threading.active_count() == 1 == len(os.listdir("/proc/self/task")), "an import has started a thread"
    gc.collect()
    gc.freeze()


def _list_own_modules() -> list[str]:
    """Name the modules of the package, but neither the application of ``demo``, which maps classes, nor the plugin of pytest."""
    name = migrate_storage.__name__
    found = [module.name for module in pkgutil.walk_packages(migrate_storage.__path__, f"{name}.")]
    without = (f"{name}.__main__", f"{name}.testing", f"{name}.cli.demo.")
    return [module for module in found if not module.startswith(without)]


if __name__ == "__main__":
    preload()
    end(serve(sys.argv[1]))
