"""SVG plots of a page: bars over time, and the bar of a share in a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from migrate_storage.reporting.html.markup import Markup, element, joined

__all__ = ("bar", "plot")

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 480, 190, 90, 10, 26


def bar(part: float, whole: float) -> Markup:
    """Return a bar for a part of the whole. Screen readers skip it."""
    width = round(100 * part / whole, 2) if whole else 0
    return element(
        "svg", element("rect", width=width, height=8),
        class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip


def plot(
    name: str,
    title: str,
    values: Sequence[float],
    *,
    shown: Callable[[float], str],
    ends: tuple[str, str],
    binary: bool,
) -> Markup:
    """Return vertical bars from left to right.

    Args:
        name: The id, and the CSS class of the colour.
        title: The title of the plot.
        values: The heights, zero or more.
        shown: Formats a height.
        ends: The labels below the first and the last bar.
        binary: Whether the steps of the scale are powers of two, as for bytes.
    """
    top = _round_up(max(values), binary=binary)
    width = (_WIDTH - _LEFT) / len(values)
    floor = _HEIGHT - _BOTTOM
    parts = []
    for share in (0, 0.5, 1):
        y = round(floor - share * (floor - _TOP), 1)
        parts.append(element("line", x1=_LEFT, x2=_WIDTH, y1=y, y2=y, class_="grid"))
        parts.append(element("text", shown(share * top), x=_LEFT - 8, y=y + 4, text_anchor="end"))
    for number, value in enumerate(values):
        if value:
            height = max(1.0, round(value / top * (floor - _TOP), 1))
            x = round(_LEFT + number * width, 1)
            parts.append(
                element("rect", x=x, y=round(floor - height, 1), width=round(max(1.0, width - 1), 1), height=height)
            )
    first, last = ends
    parts.append(element("text", first, x=_LEFT, y=_HEIGHT - 6))
    parts.append(element("text", last, x=_WIDTH, y=_HEIGHT - 6, text_anchor="end"))
    described = f"At most {shown(max(values))}. The numbers are in a table below."
    return element(
        "svg", element("title", title, id=f"{name}-title"), element("desc", described, id=f"{name}-text"), joined(*parts),
        class_=f"plot {name}", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_labelledby=f"{name}-title {name}-text",
    )  # fmt: skip


def _round_up(value: float, *, binary: bool) -> float:
    """Return the next round number."""
    if value <= 0:
        return 1.0
    if binary:
        unit = 1024 ** math.floor(math.log(max(value, 1), 1024))
        value /= unit
    else:
        unit = 1
    power = 10 ** math.floor(math.log10(value))
    return float(unit * power * next(step for step in (1, 2, 4, 6, 8, 10) if value <= step * power * (1 + 1e-9)))
