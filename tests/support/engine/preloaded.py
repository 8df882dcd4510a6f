"""For the process that lives are forked from: each would load this anew, and that takes longer than all else it does."""

from __future__ import annotations

import importlib

import botocore.session

from tests.support.client_start import share_botocore_data

share_botocore_data()
for _late in ("aiobotocore.httpsession", "s3fs", "psycopg", "pymysql", "migrate_storage.cli.commands.run"):
    importlib.import_module(_late)
# Imports the rest of what is imported late, and reads the files. It opens no connection and starts no thread: a fork is safe.
botocore.session.get_session().create_client("s3", region_name="us-east-1")
