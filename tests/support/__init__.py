"""Code that tests share: servers, applications, proxies that fail, and processes that are killed."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
