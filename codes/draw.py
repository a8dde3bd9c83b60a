"""Draws QR codes with pyqrcode: black on white whatever the page's theme, quiet zone 4 (ISO/IEC 18004)."""

from __future__ import annotations

import io
from functools import lru_cache

import pyqrcode

QUIET_ZONE = 4
ERROR_LEVEL = "M"
PNG_SCALE = 8  # pixels a module

# The page, its PNG and a reload ask for the same code; making one takes pyqrcode 11 ms and more.
_CACHED_CODES = 1024


@lru_cache(_CACHED_CODES)
def svg(text: str) -> str:
    """An `<svg>` element without a size of its own: the style sheet gives it one."""
    stream = io.BytesIO()
    _code(text).svg(
        stream,
        scale=1,
        quiet_zone=QUIET_ZONE,
        background="#fff",
        module_color="#000",
        xmldecl=False,
        svgns=True,
        omithw=True,
        lineclass=None,
        svgclass=None,
    )
    return stream.getvalue().decode("ascii").strip()


@lru_cache(_CACHED_CODES)
def png(text: str) -> bytes:
    stream = io.BytesIO()
    _code(text).png(stream, scale=PNG_SCALE, quiet_zone=QUIET_ZONE)
    return stream.getvalue()


def _code(text: str) -> pyqrcode.QRCode:
    return pyqrcode.create(text, error=ERROR_LEVEL, encoding="utf-8")
