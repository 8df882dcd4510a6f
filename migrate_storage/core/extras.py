"""The extras of this package, and the libraries that they install."""

from __future__ import annotations

import re

__all__ = ("install_advice", "install_command")

_EXTRAS = {
    "s3fs": "s3fs",
    "gcsfs": "gcsfs",
    "adlfs": "adlfs",
    "boto3": "boto3",
    "duckdb_sqlalchemy": "duckdb",
    "psycopg": "postgres",
    "pymysql": "mysql",
    "libcst": "convert",
    "opentelemetry": "otel",
    "distributed": "dask",
}
"""Libraries by the names of their modules, with the extra of each."""


def install_command(module: str) -> str:
    """Return the command that installs a library, such as ``pip install 'migrate-storage[s3fs]'``; empty without an extra."""
    return f"pip install 'migrate-storage[{_EXTRAS[module]}]'" if module in _EXTRAS else ""


def install_advice(error: BaseException) -> str:
    """Return the command that installs the library that an error misses; empty for other errors and libraries.

    fsspec's own errors have no module's name: ``Install s3fs to access S3``.
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        return install_command(error.name.partition(".")[0])
    if isinstance(error, ImportError) and not error.name:
        return next(filter(None, map(install_command, re.findall(r"\w+", str(error)))), "")
    return ""
