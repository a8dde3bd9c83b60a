"""Symbols as SVG and PNG, from tables by field (codes/layout.py): no loop over modules. Pure."""

from __future__ import annotations

import zlib
from operator import itemgetter
from struct import pack

from codes.layout import Layout

QUIET_ZONE = 4  # modules (ISO/IEC 18004, 6.3.8)
PNG_SCALE = 8  # pixels a module: with one bit a pixel a module is a byte of each row
_DARK, _LIGHT = b"\x00", b"\xff"
_AS_IT_IS, _LIKE_THE_ROW_ABOVE = b"\x00", b"\x02"  # PNG's filters for a row
# Level 1: 600 bytes instead of 430, in a sixth of the time. Small tables: zlib's usual 268 kB would be asked
# of the system and given back for each picture, at times with 150 µs of page faults.
_LEVEL, _WINDOW_BITS, _MEMORY = 1, 13, 5


class Writer:
    """Of symbols of one size."""

    def __init__(self, layout: Layout) -> None:
        size, width, last = layout.size, layout.width, layout.last_width
        side = size + 2 * QUIET_ZONE
        self._fields = layout.total
        # The fields that end a row have their own entries, which the mark leads to.
        self._strokes = _strokes(width) + _strokes(last, size)
        self._svg_head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
            f'<path fill="#fff" d="M0 0h{side}v{side}h-{side}z"/>'
            f'<path stroke="#000" d="M{QUIET_ZONE} {QUIET_ZONE}.5'
        )
        again = (_LIKE_THE_ROW_ABOVE + bytes(side)) * (PNG_SCALE - 1)
        quiet_row = _AS_IT_IS + _LIGHT * side + again
        left, right = _AS_IT_IS + _LIGHT * QUIET_ZONE, _LIGHT * QUIET_ZONE + again
        self._pixels = _pixels(width) + [pixels + right + left for pixels in _pixels(last)]
        self._png_top = quiet_row * QUIET_ZONE + left
        self._png_bottom = (quiet_row * QUIET_ZONE).removeprefix(left)  # which the last row has brought
        pixels = side * PNG_SCALE
        self._png_head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", pack(">2I5B", pixels, pixels, 1, 0, 0, 0, 0))
        self._png_end = _chunk(b"IEND", b"")

    def svg(self, symbol: int) -> str:
        """An `<svg>` element without a size of its own: the style sheet gives it one."""
        strokes = itemgetter(*symbol.to_bytes(self._fields, "little"))(self._strokes)
        return f'{self._svg_head}{"".join(strokes)}"/></svg>'

    def png(self, symbol: int) -> bytes:
        """One bit a pixel, black on white."""
        pixels = itemgetter(*symbol.to_bytes(self._fields, "little"))(self._pixels)
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY)
        rows = deflate.compress(b"".join((self._png_top, *pixels, self._png_bottom)))
        return self._png_head + _chunk(b"IDAT", rows + deflate.flush()) + self._png_end


def _strokes(width: int, row: int = 0) -> list[str]:
    """By value of a field: what a path does from its left end to its right end.

    `row`: modules of the whole row where the field ends one; the path then goes to the start of the next.
    """
    # By width of a part at the right end: what begins dark or light, in the order of the values.
    dark: list[list[str]] = [[]]
    light: list[list[str]] = [[]]
    for part in range(1, width + 1):
        runs = range(1, part)
        stroke, move = (f"h{part}m-{row} 1", f"m{part - row} 1") if row else (f"h{part}", f"m{part} 0")
        light.append([move, *(f"m{run} 0{rest}" for run in reversed(runs) for rest in dark[part - run])])
        dark.append([*(f"h{run}{rest}" for run in runs for rest in light[part - run]), stroke])
    return light[width] + dark[width]


def _pixels(width: int) -> list[bytes]:
    """By value of a field: a row of its pixels."""
    values = [f"{value:0{width}b}".encode() for value in range(1 << width)]
    return [value.replace(b"1", _DARK).replace(b"0", _LIGHT) for value in values]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))
