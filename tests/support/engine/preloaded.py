"""For the process that lives are forked from: each would load this anew, and that takes longer than all else it does."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import botocore.loaders
import botocore.session

_loader: Any = botocore.loaders.JSONFileLoader
_loader.load_file = functools.cache(_loader.load_file)
for _late in ("aiobotocore.httpsession", "s3fs", "psycopg", "pymysql", "migrate_storage.cli.commands.run"):
    importlib.import_module(_late)
# Imports the rest of what is imported late, and reads the files. It opens no connection and starts no thread: a fork is safe.
botocore.session.get_session().create_client("s3", region_name="us-east-1")
