"""A picture of what was found: for each kind of work, who did how much of it in a second. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from benchmarks.results import Row

LABELS, BARS, FIGURES, LINE = 190, 420, 110, 18  # pixels
COLOURS = {"saoma": "#07a35a", "bare": "#8a94a6"}
OTHERS = "#c9ced8"


def chart(rows: Iterable[Row]) -> str:
    """SVG. The bars of one kind of work are measured by the longest of them."""
    shapes, y = [], LINE
    for row in rows:
        if not row.loads:
            continue
        shapes.append(f'<text x="8" y="{y + 13}" font-weight="bold">{escape(row.work)}</text>')
        y += LINE
        most = max(load.per_second for load in row.loads.values())
        for name, load in row.loads.items():
            width = max(1.0, BARS * load.per_second / most)
            colour = COLOURS.get(name, OTHERS)
            shapes += [
                f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{LABELS}" y="{y + 2}" width="{width:.1f}" height="{LINE - 4}" fill="{colour}"/>',
                f'<text x="{LABELS + width + 6:.1f}" y="{y + 13}">{load.per_second:,.0f}/s</text>',
            ]
            y += LINE
        y += LINE // 2
    width, height = LABELS + BARS + FIGURES, y + LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(shapes)}</svg>\n'
    )
