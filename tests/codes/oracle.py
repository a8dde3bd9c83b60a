"""pyqrcode with the mask of our choice, and without its search for the best one."""

from __future__ import annotations

from collections.abc import Iterable
from unittest import mock

from pyqrcode import tables
from pyqrcode.builder import QRCodeBuilder

from codes.symbols import ERROR_LEVEL, capacity


def forced(payload: bytes, mask: int) -> list[str]:
    """The modules of a text in byte mode, in the smallest version that has room; a string of 0 and 1 a row.

    Made with that one mask: the other seven and the search take fifteen times as long.
    """
    version = next(version for version in range(1, 41) if len(payload) <= capacity(version))
    level = tables.error_level[ERROR_LEVEL]
    with (
        mock.patch.object(tables, "mask_patterns", {0: tables.mask_patterns[mask]}),
        mock.patch.dict(tables.type_bits, {level: {0: tables.type_bits[level][mask]}}),
        mock.patch.object(QRCodeBuilder, "choose_best_mask", return_value=0),
    ):
        return matrix(QRCodeBuilder(payload, version, "binary", ERROR_LEVEL).code)


def matrix(code: Iterable[Iterable[int]]) -> list[str]:
    """pyqrcode's modules in the same form."""
    return ["".join(map(str, row)) for row in code]
