"""A hook of the documentation's build: the playbooks, which stand beside ``docs/``, are pages of the site too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add them."""
    for page in sorted((ROOT / "playbooks").glob("*.md")):
        files.append(File(f"playbooks/{page.name}", str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """In the repository a link goes from one folder to the other; on the site, one is inside the other."""
    del config, files
    if page.file.src_uri.startswith("playbooks/"):
        return markdown.replace("](../docs/", "](../")
    return markdown.replace("](../playbooks/", "](playbooks/")
