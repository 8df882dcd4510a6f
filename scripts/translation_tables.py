"""The translation's own tables as Markdown: the documentation shows what the code does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from migrate_storage.translate.notes import CODES
from migrate_storage.translate.option_tables import Option
from migrate_storage.translate.protocols import azure, gcs, http, local, memory, s3
from migrate_storage.translate.protocols.unsupported import SOURCE_ONLY

__all__ = ("codes", "options", "sources")

TABLES: Mapping[str, tuple[Option, ...]] = {
    "s3, s3a (s3fs)": s3.OPTIONS,
    "gs, gcs (gcsfs)": gcs.OPTIONS,
    "az, abfs, abfss, adl (adlfs)": azure.OPTIONS,
    "file, local": local.OPTIONS,
    "memory": memory.OPTIONS,
    "http, https": http.OPTIONS,
}


def options() -> str:
    """A table of options for each filesystem."""
    parts = []
    for title, table in TABLES.items():
        rows = [(f"`{each.name}`", _becomes(each), _says(each)) for each in table]
        parts.append(f"### {title}\n\n{_table(('option', 'becomes', 'and'), rows)}")
    return "\n".join(parts)


def codes() -> str:
    """A table of the notes' codes."""
    rows = [(f"`{name}`", code.severity.value, _plain(code.message), _plain(code.todo)) for name, code in CODES.items()]
    return _table(("code", "severity", "it says", "what to do"), rows)


def sources() -> str:
    """A table of the protocols that can only be sources."""
    return _table(("protocol", "is"), [(f"`{name}`", what) for name, what in sorted(SOURCE_ONLY.items())])


def _becomes(option: Option) -> str:
    if option.becomes:
        return f"`{option.becomes}`"
    return "nothing" if option.code else ""


def _says(option: Option) -> str:
    code = f"[`{option.code}`](#codes)" if option.code else ""
    header = (
        f"header `{option.says}`" if option.becomes == "default_headers" and option.says[:1] != "`" else option.says
    )
    return ": ".join(part for part in (code, header) if part)


def _plain(template: str) -> str:
    return template.replace("{subject}", "*it*").replace("{why}", "").replace("{{", "{").replace("}}", "}")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
