"""Rewrite fsspec registrations in source files: a codemod.

Needs libcst (``pip install 'migrate-storage[convert]'``).
"""

from __future__ import annotations

from migrate_storage.translate.codemod.rewrite_source import Converted, Left, convert_source

__all__ = ("Converted", "Left", "convert_source")
