"""How a symbol lies in one integer. Pure.

Each row of modules is cut into fields of up to 11, and each field takes 16 bits, the first one the lowest: so
a symbol can be read as an array of small numbers, and a table says what each of them looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELD_BITS = 16
MAX_MODULES = (
    11  # of a field: with more, the tables of codes/writer.py would not stay in the processor's cache
)


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
        """A symbol without a dark module. What ends a row is marked by the bit above a field's modules."""
        ends = range(self.fields - 1, self.total, self.fields)
        return sum(1 << FIELD_BITS * field + self.width for field in ends)
