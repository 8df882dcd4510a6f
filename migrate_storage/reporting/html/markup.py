"""HTML that nothing from a key, a row or an error can break out of: every text is escaped where it becomes HTML."""

from __future__ import annotations

import html

from migrate_storage.core.text import visible

__all__ = ("Markup", "clipped", "element", "joined")

_WITHOUT_END = frozenset({"meta", "hr"})


class Markup(str):
    """Text that is HTML already, made by :func:`element` or :func:`joined` alone."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        tag: Its name.
        children: What is in it: markup as it is, other text escaped, control and reordering characters shown as escapes.
        attributes: ``None`` leaves one out. ``class_`` is ``class``, ``aria_label`` is ``aria-label``.
    """
    said = "".join(
        f' {attribute.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for attribute, value in attributes.items()
        if value is not None
    )
    end = "" if tag in _WITHOUT_END else f"</{tag}>"
    return Markup(f"<{tag}{said}>{joined(*children)}{end}")


def joined(*children: str) -> Markup:
    """Return markup and texts one after another; what is no markup is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else _escaped(child) for child in children))


def clipped(text: str, length: int = 160) -> str:
    """Return text as it can be shown, with its middle left out where it is longer."""
    if len(text) > 2 * length:
        text = text[:length] + text[-length:]
    text, half = visible(text), length // 2
    return text if len(text) <= length else f"{text[:half]} … {text[-half:]}"


def _escaped(text: str) -> str:
    return html.escape(visible(text), quote=True)
