"""A chart of bars as SVG, readable on light and dark ground."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH, _LABEL, _BAR, _GAP, _TOP = 720, 190, 22, 10, 40
_FONT = 'font-family="system-ui, sans-serif"'


def bars(title: str, values: Mapping[str, float]) -> str:
    """One bar for each value, the first in a colour of its own.

    Args:
        title: what is shown, with its unit.
        values: by name.
    """
    most = max([*values.values(), 1e-9])
    room = _WIDTH - _LABEL - 90
    height = _TOP + len(values) * (_BAR + _GAP) + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" {_FONT} font-size="15" font-weight="600" fill="#1f2328">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(values.items()):
        top = _TOP + number * (_BAR + _GAP)
        width = max(1.0, room * value / most)
        colour = "#0969da" if number == 0 else "#8c959f"
        text = f'y="{top + 16}" {_FONT} font-size="13" fill="#1f2328"'
        lines += [
            f'<text x="{_LABEL - 8}" text-anchor="end" {text}>{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
            f'<text x="{_LABEL + width + 6:.1f}" {text}>{f"{value:,.0f}" if value >= 10 else f"{value:.2f}"}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
