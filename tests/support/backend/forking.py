"""Applications that fork: a WSGI one for ``gunicorn --preload``, and Celery's with its prefork pool.

``STORE`` holds the backend's URL and options as JSON; with ``USE_BEFORE_FORK`` the parent makes a request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend

_options = json.loads(os.environ["STORE"])
backend = ObstoreBackend("files", _options.pop("url"), **_options)

if os.environ.get("USE_BEFORE_FORK"):
    backend.exists("anything")


def work(content: bytes) -> str:
    """Save and read an object; return the process id too."""
    try:
        FileObject(backend=backend, filename="forked.txt").save(content)
        return json.dumps({"content": backend.get_content("forked.txt").decode(), "pid": os.getpid()})
    except RuntimeError as error:
        return json.dumps({"error": str(error), "pid": os.getpid()})


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [work(environ["QUERY_STRING"].encode()).encode()]


if "CELERY_FOLDER" in os.environ:
    from celery import Celery

    _folder = Path(os.environ["CELERY_FOLDER"])
    app = Celery("forking", broker="filesystem://", backend=(_folder / "results").as_uri())
    app.conf.broker_transport_options = {
        "data_folder_in": str(_folder / "queue"),
        "data_folder_out": str(_folder / "queue"),
        "control_folder": str(_folder / "control"),
    }
    app.conf.worker_hijack_root_logger = False

    @app.task(name="save")  # type: ignore[untyped-decorator]
    def save(content: str) -> str:
        return work(content.encode())
