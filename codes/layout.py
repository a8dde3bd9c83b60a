"""How a symbol lies in one integer. Pure.

Each row of modules is cut into fields of up to seven, and each field takes a byte, the first one the lowest:
so a table of 256 entries says what each byte of a symbol looks like. Another bit marks the end of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELD_BITS = 8
MAX_MODULES = 7  # of a field, beside the mark


@dataclass(frozen=True, slots=True)
class Layout:
    size: int  # modules a side

    @property
    def fields(self) -> int:
        """How many a row has."""
        return -(-self.size // MAX_MODULES)

    @property
    def width(self) -> int:
        """Modules of a field."""
        return -(-self.size // self.fields)

    @property
    def last_width(self) -> int:
        """Modules of the last field of a row."""
        return self.size - (self.fields - 1) * self.width

    @property
    def total(self) -> int:
        """Fields of a symbol."""
        return self.size * self.fields

    def dark(self, row: int, column: int) -> int:
        """The integer of this module alone; the leftmost of a field is its highest bit."""
        field, module = divmod(column, self.width)
        width = self.last_width if field == self.fields - 1 else self.width
        return 1 << FIELD_BITS * (row * self.fields + field) + width - 1 - module

    @property
    def blank(self) -> int:
        """A symbol without a dark module: the marks alone, each above the modules of its field."""
        ends = range(self.fields - 1, self.total, self.fields)
        return sum(1 << FIELD_BITS * field + self.width for field in ends)
