"""Draws QR codes: black on white whatever the page's theme, error correction M, quiet zone 4 (ISO/IEC 18004).

Web addresses of up to 213 bytes take microseconds once their version is prepared; pyqrcode draws all else.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache

import pyqrcode

from codes.symbols import ERROR_LEVEL, Symbols, capacity
from codes.writer import PNG_SCALE, QUIET_ZONE, Writer

MAX_VERSION = 10  # that is prepared: tables grow with the square of the size, addresses are shorter
_VERSIONS = [
    version for version in range(1, MAX_VERSION + 1) for _ in range(capacity(version - 1), capacity(version))
]

# pyqrcode takes 11 ms and more for a code.
_CACHED_CODES = 1024

# With one of these no mode but that for bytes can hold a text. Any other text is left to pyqrcode's choice.
_bytes_alone = re.compile("[a-z]").search


def version_of(text: str) -> int | None:
    """The version to prepare for this text; None for what only pyqrcode draws, in milliseconds each time."""
    length = len(text) if text.isascii() else len(text.encode())
    return _VERSIONS[length - 1] if length <= len(_VERSIONS) and _bytes_alone(text) else None


@lru_cache(MAX_VERSION)
def prepare(version: int) -> tuple[Symbols, Writer]:
    """What draws the codes of this version. Takes 30 ms and more the first time."""
    symbols = Symbols(version)
    return symbols, Writer(symbols.layout)


def svg(text: str) -> str:
    """An `<svg>` element without a size of its own: the style sheet gives it one.

    ValueError: the text is too long for any code.
    """
    version = version_of(text)
    if version is None:
        return _drawn_svg(text)
    symbols, writer = prepare(version)
    return writer.svg(symbols.of(text.encode()))


def png(text: str) -> bytes:
    """ValueError: the text is too long for any code."""
    version = version_of(text)
    if version is None:
        return _drawn_png(text)
    symbols, writer = prepare(version)
    return writer.png(symbols.of(text.encode()))


@lru_cache(_CACHED_CODES)
def _drawn_svg(text: str) -> str:
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
def _drawn_png(text: str) -> bytes:
    stream = io.BytesIO()
    _code(text).png(stream, scale=PNG_SCALE, quiet_zone=QUIET_ZONE)
    return stream.getvalue()


def _code(text: str) -> pyqrcode.QRCode:
    return pyqrcode.create(text, error=ERROR_LEVEL, encoding="utf-8")
