"""Tables that a spreadsheet opens right, Chinese included. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

BOM = "\ufeff"  # without it spreadsheets take UTF-8 for another encoding
TYPE = "text/csv; charset=UTF-8"

# Full-width signs too: spreadsheets in Chinese and Japanese read them as the narrow ones.
_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def encoded(rows: Iterable[Sequence[str]]) -> bytes:
    """As CSV (RFC 4180), in UTF-8."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8")


def _cell(value: str) -> str:
    """Text from strangers never becomes a formula (security rule 18); no cell has NUL characters."""
    value = value.replace("\0", "")
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA_STARTS) else value
