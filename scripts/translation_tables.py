"""The tables of the translation as Markdown, for the documentation."""

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
    """Return a table of options for each filesystem."""
    parts = []
    for title, table in TABLES.items():
        rows = [(f"`{each.name}`", _describe_result(each), _describe_remark(each)) for each in table]
        parts.append(f"### {title}\n\n{_format_table(('option', 'becomes', 'and'), rows)}")
    return "\n".join(parts)


def codes() -> str:
    """Return a table of the codes of notes."""
    rows = [
        (f"`{name}`", code.severity.value, _fill_template(code.message), _fill_template(code.todo))
        for name, code in CODES.items()
    ]
    return _format_table(("code", "severity", "it says", "what to do"), rows)


def sources() -> str:
    """Return a table of the protocols that can only be sources."""
    return _format_table(("protocol", "is"), [(f"`{name}`", what) for name, what in sorted(SOURCE_ONLY.items())])


def _describe_result(option: Option) -> str:
    if option.becomes:
        return f"`{option.becomes}`"
    return "nothing" if option.code else ""


def _describe_remark(option: Option) -> str:
    code = f"[`{option.code}`](#codes)" if option.code else ""
    header = (
        f"header `{option.says}`" if option.becomes == "default_headers" and option.says[:1] != "`" else option.says
    )
    return ": ".join(part for part in (code, header) if part)


def _fill_template(template: str) -> str:
    return template.replace("{subject}", "*it*").replace("{why}", "").replace("{{", "{").replace("}}", "}")


def _format_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
