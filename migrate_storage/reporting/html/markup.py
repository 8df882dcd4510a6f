"""HTML elements. Text is escaped, so keys and rows cannot contain markup."""

from __future__ import annotations

import html

from migrate_storage.core.text import visible

__all__ = ("Markup", "clipped", "element", "joined")

_WITHOUT_END = frozenset({"meta", "hr"})


class Markup(str):
    """Text that is HTML. Only :func:`element` and :func:`joined` make it."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        tag: Its name.
        children: Its content. Other text than markup is escaped, also control and reordering characters.
        attributes: Its attributes without those of ``None``. ``class_`` is ``class``, ``aria_label`` is ``aria-label``.
    """
    shown = "".join(
        f' {attribute.rstrip("_").replace("_", "-")}="{_escape(str(value))}"'
        for attribute, value in attributes.items()
        if value is not None
    )
    end = "" if tag in _WITHOUT_END else f"</{tag}>"
    return Markup(f"<{tag}{shown}>{joined(*children)}{end}")


def joined(*children: str) -> Markup:
    """Concatenate markup and texts, which are escaped."""
    return Markup("".join(child if isinstance(child, Markup) else _escape(child) for child in children))


def clipped(text: str, length: int = 160) -> str:
    """Return visible text, without its middle if it is longer than ``length``."""
    if len(text) > 2 * length:
        text = text[:length] + text[-length:]
    text, half = visible(text), length // 2
    return text if len(text) <= length else f"{text[:half]} … {text[-half:]}"


def _escape(text: str) -> str:
    return html.escape(visible(text), quote=True)
