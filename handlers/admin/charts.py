"""Charts as SVG. Pure; colours come from the style sheet, by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 30, 34  # margins, for the labels of the axes
LABEL = 60  # how wide one is, where letters are at their largest
GAP = 0.25  # of a column's width
LINES = 4  # across, at most


@dataclass(frozen=True, slots=True)
class Column:
    """One hour: what is read of it, and its counts from the bottom up."""

    words: str  # all of it, for a pointer that rests on it
    label: str  # below the axis; "" for most
    counts: Sequence[int]


def columns(title: str, description: str, kinds: Sequence[str], given: Sequence[Column], axis: str) -> str:
    """Stacked columns; `kinds` are the classes of their parts, `axis` what is counted upwards."""
    step = _step(max((sum(column.counts) for column in given), default=0))
    top = step * max(1, -(-max((sum(column.counts) for column in given), default=0) // step))
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-t chart-d">',
        f'<title id="chart-t">{escape(title)}</title><desc id="chart-d">{escape(description)}</desc>',
    ]
    for value in range(0, top + 1, step):
        y = _height(value, top)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>')
    parts.append(f'<text class="tick" x="{LEFT}" y="{TOP - 10}">{escape(axis)}</text>')
    wide = (WIDTH - LEFT - RIGHT) / max(1, len(given))
    for index, column in enumerate(given):
        parts += _column(column, kinds, LEFT + index * wide, wide, top)
    return "".join(parts) + "</svg>"


def share(part: int, whole: int) -> str:
    """A bar beside a figure, which says the same; not for screen readers."""
    width = 100 * part / whole if whole else 0
    size = 'height="6"'
    return (
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rest" width="100" {size}/><rect class="part" width="{width:.2f}" {size}/></svg>'
    )


def _column(column: Column, kinds: Sequence[str], x: float, wide: float, top: int) -> list[str]:
    base = _height(0, top)
    parts = [
        f"<g><title>{escape(column.words)}</title>",
        # The whole height, so that a pointer finds an hour with nothing in it.
        f'<rect class="hit" x="{x:.1f}" y="{TOP}" width="{wide:.1f}" height="{base - TOP:.1f}"/>',
    ]
    below = 0
    for kind, count in zip(kinds, column.counts, strict=True):
        if count:
            y, foot = _height(below + count, top), _height(below, top)
            parts.append(
                f'<rect class="{kind}" x="{x + wide * GAP / 2:.1f}" y="{y:.1f}"'
                f' width="{wide * (1 - GAP):.1f}" height="{foot - y:.1f}"/>'
            )
        below += count
    parts.append("</g>")
    if column.label:
        near_end = x + wide / 2 > WIDTH - LABEL / 2
        place, anchor = (WIDTH, "end") if near_end else (x + wide / 2, "middle")
        parts.append(
            f'<text class="tick" x="{place:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">'
            f"{escape(column.label)}</text>"
        )
    return parts


def _height(value: int, top: int) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top


def _step(most: int) -> int:
    """Between two lines: 1, 2 or 5 times a power of ten, so that there are few lines."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if step * LINES >= most:
                return step
        size *= 10
