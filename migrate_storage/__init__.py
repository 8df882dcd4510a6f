"""Move an application's stored files from fsspec to obstore without losing one."""

__version__ = "0.1.0"
