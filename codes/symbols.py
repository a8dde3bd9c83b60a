"""The symbols of one version as XOR of integers, module for module as pyqrcode makes them. Pure.

For one version, error level and mask a symbol is affine over GF(2) in its data bits: the error correction is
linear, interleaving and placing only move bits, the mask and the fixed patterns are constant. So pyqrcode
makes one symbol, that of the empty text; what each data bit turns over is worked out once; and the symbol of
any other text is the XOR of a start, which depends on its length, and of one integer for each of its bytes.

Numbers of sections are those of ISO/IEC 18004:2015.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import xor
from typing import Any, ClassVar

import pyqrcode
from pyqrcode import tables

from codes.layout import Layout

ERROR_LEVEL = "M"
MASK = 2  # the best one for web addresses by far: docs/decisions/0030
_MODE, _MODE_BITS = "binary", 4
_BIT_MASKS = (128, 64, 32, 16, 8, 4, 2, 1)
_KNOWN_HEADS = 64
_PADDING = b"\xec\x11"  # fills the codewords that a text leaves free, in turns (7.4.10)
_POLYNOMIAL = 0x11D  # of the field that the error correction counts in (7.5.2)


def capacity(version: int) -> int:
    """The bytes of text that fit into a symbol, 0 for version 0."""
    if not version:
        return 0
    return int(tables.data_capacity[version][tables.error_level[ERROR_LEVEL]][tables.modes[_MODE]])


class Symbols:
    """Of one version. An object takes 25 ms (version 4) to 120 ms (version 10) to make."""

    def __init__(self, version: int) -> None:
        code = pyqrcode.create("", error=ERROR_LEVEL, version=version, mode=_MODE)
        self.layout = layout = Layout(len(code.code))
        empty = layout.blank
        for row, modules in enumerate(code.builder.masks[MASK]):
            empty |= sum(layout.dark(row, column) for column, dark in enumerate(modules) if dark)
        flips = list(_flips(code.builder, layout))
        count_bits = tables.data_length_field[9 if version <= 9 else 26][tables.modes[_MODE]]

        def turned_over(length: int) -> int:
            return _chosen(flips, _codewords(length, count_bits, len(flips) // 8))

        zero = empty ^ turned_over(0)
        lengths = range(capacity(version - 1) + 1, capacity(version) + 1)
        self._starts = {length: zero ^ turned_over(length) for length in lengths}
        first = _MODE_BITS + count_bits
        ends = range(first + 8, first + 8 + 8 * capacity(version), 8)
        self._bytes = [_Byte(flips[end - 8 : end]) for end in ends]
        self._start = lru_cache(_KNOWN_HEADS)(self._started)

    def of(self, text: bytes) -> int:
        """The symbol, as `layout` says. KeyError for a length that is another version's."""
        head = text.rfind(b"/") + 1  # addresses of one kind differ behind it
        symbol = self._start(text[:head], len(text))
        for differences, byte in zip(self._bytes[head:], text[head:], strict=False):
            symbol ^= differences[byte]
        return symbol

    def _started(self, head: bytes, length: int) -> int:
        """The symbol of this head and zero bytes, `length` in all."""
        symbol = self._starts[length]
        for differences, byte in zip(self._bytes, head, strict=False):
            symbol ^= differences[byte]
        return symbol


class _Byte(dict[int, int]):
    """By value of the byte at one place of the text: the modules it turns over, against a byte of zero.

    Filled as values come: of the 256 an address uses 64, and at most places just one.
    """

    def __init__(self, flips: Sequence[int]) -> None:
        """`flips`: of the byte's bits, the highest first."""
        self._flips = flips

    def __missing__(self, byte: int) -> int:
        self[byte] = difference = _chosen(self._flips, bytes((byte,)))
        return difference


def _chosen(flips: Sequence[int], data: bytes) -> int:
    """The XOR of the flips of all bits that are set; the highest bit of the first byte has the first flip."""
    bits = (byte & mask for byte in data for mask in _BIT_MASKS)
    return reduce(xor, (flip for flip, bit in zip(flips, bits, strict=True) if bit), 0)


def _codewords(length: int, count_bits: int, total: int) -> bytes:
    """The data of a text of so many zero bytes: mode, length, text, terminator (four zero bits), padding."""
    head: int = tables.modes[_MODE] << count_bits | length
    used = (_MODE_BITS + count_bits + 4) // 8 + length
    data = (head << 8 * length + 4).to_bytes(used)
    return data + (_PADDING * total)[: total - used]


def _flips(builder: Any, layout: Layout) -> Iterator[int]:
    """For each data bit, in the order of the text: the modules it turns over, those of the correction too."""
    parity, short_blocks, short, long_blocks, long = builder.error_code_words
    sizes = [short] * short_blocks + [long] * long_blocks
    blocks = list(enumerate(sizes))
    # (block, number of the codeword in it), as they are interleaved: the data first, then the correction.
    order = [(block, number) for number in range(max(sizes)) for block, size in blocks if number < size]
    order += [(block, size + number) for number in range(parity) for block, size in blocks]
    places = _places(builder, layout, 8 * len(order))
    codewords = {where: _Byte(places[8 * rank : 8 * rank + 8]) for rank, where in enumerate(order)}
    for block, size in blocks:
        for place in range(size):
            data = [0] * size
            data[place] = 1
            corrections = builder.make_error_block(data, block)[:parity]
            flips = []
            for bit in range(8):
                flip = codewords[block, place][1 << bit]
                for number, correction in enumerate(corrections, size):
                    flip ^= codewords[block, number][correction]
                flips.append(flip)
                corrections = [_doubled(correction) for correction in corrections]
            yield from reversed(flips)


def _doubled(element: int) -> int:
    """Times x, in the field of the error correction."""
    return element << 1 ^ (_POLYNOMIAL if element & 0x80 else 0)


def _places(builder: Any, layout: Layout, count: int) -> list[int]:
    """Where each bit of the interleaved codewords lies: pyqrcode places numbers in the stead of bits."""
    template = [[" "] * layout.size for _ in range(layout.size)]
    builder.add_detection_pattern(template)
    builder.add_position_pattern(template)
    builder.add_version_pattern(template)
    builder.buffer = _Numbers(count)
    places = [0] * count
    for row, numbers in enumerate(builder.make_masks(template)[MASK]):
        for column, number in enumerate(numbers):
            if number >= _Numbers.FIRST:
                places[(number - _Numbers.FIRST) // 2] = layout.dark(row, column)
    return places


@dataclass(frozen=True, slots=True)
class _Numbers:
    """In the place of the builder's buffer of bits.

    The numbers are even, because the mask adds one to some, and unlike the 0 and 1 of the fixed modules.
    """

    count: int
    FIRST: ClassVar[int] = 2

    def getvalue(self) -> range:
        return range(self.FIRST, self.FIRST + 2 * self.count, 2)
