"""PNG pictures: the code of `showqrcode` and the people's avatars."""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Iterator

import png
import pyqrcode

AVATAR_PIXELS = 132

_GOLDEN_RATIO = 0.618034
_CODE_SCALE = 8
# The head and the shoulders are circles: centre and radius, as shares of the picture's side.
_HEAD = (0.5, 0.40, 0.18)
_SHOULDERS = (0.5, 0.98, 0.36)


def draw_code(text: str) -> bytes:
    """The QR code of `text` with a quiet zone."""
    stream = io.BytesIO()
    pyqrcode.create(text, error="M").png(stream, scale=_CODE_SCALE, quiet_zone=4)
    return stream.getvalue()


def draw_avatar(number: int) -> bytes:
    """A figure in front of a colour; the colours of neighbouring numbers are far apart."""
    hue = number * _GOLDEN_RATIO % 1.0
    stream = io.BytesIO()
    png.Writer(AVATAR_PIXELS, AVATAR_PIXELS, greyscale=False).write(stream, _avatar_rows(hue))
    return stream.getvalue()


def _avatar_rows(hue: float) -> Iterator[bytes]:
    figure = (255.0, 255.0, 255.0)
    for y in range(AVATAR_PIXELS):
        lightness = 0.66 - 0.16 * y / AVATAR_PIXELS
        ground = tuple(255 * part for part in colorsys.hls_to_rgb(hue, lightness, 0.55))
        row = bytearray()
        for x in range(AVATAR_PIXELS):
            cover = 0.92 * max(_coverage(x, y, _HEAD), _coverage(x, y, _SHOULDERS))
            row += bytes(round(g + (f - g) * cover) for g, f in zip(ground, figure, strict=True))
        yield bytes(row)


def _coverage(x: int, y: int, circle: tuple[float, float, float]) -> float:
    """How much of a pixel the circle covers, 0 to 1: its edge is smooth."""
    centre_x, centre_y, radius = (AVATAR_PIXELS * share for share in circle)
    distance = math.hypot(x + 0.5 - centre_x, y + 0.5 - centre_y)
    return min(1.0, max(0.0, radius - distance + 0.5))
