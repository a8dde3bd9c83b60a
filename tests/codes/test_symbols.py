"""Symbols against pyqrcode's, bit for bit."""

from __future__ import annotations

import random

import pyqrcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codes.draw import MAX_VERSION, prepare
from codes.layout import FIELD_BITS, MAX_MODULES, Layout
from codes.symbols import MASK, capacity
from tests.codes.oracle import forced, matrix

HEADS = (
    "http://weixin.qq.com/q/02",
    "http://weixin.qq.com/q/",
    "https://login.example.com/s/",
    "http://127.0.0.1:8888/s/",
)


def made(payload: bytes) -> list[str]:
    """What our symbol shows, in the form of the oracle."""
    version = next(version for version in range(1, 41) if len(payload) <= capacity(version))
    symbols, _ = prepare(version)
    return shown(symbols.layout, symbols.of(payload))


def shown(layout: Layout, symbol: int) -> list[str]:
    rows = []
    for row in range(layout.size):
        fields = [
            symbol >> FIELD_BITS * (row * layout.fields + number) & (1 << FIELD_BITS) - 1
            for number in range(layout.fields)
        ]
        mark = fields[-1] >> layout.width
        assert mark == 1, "what ends a row is marked"
        fields[-1] -= mark << layout.width
        widths = [layout.width] * (layout.fields - 1) + [layout.last_width]
        parts = [f"{field:0{width}b}" for field, width in zip(fields, widths, strict=True)]
        assert [len(part) for part in parts] == widths
        rows.append("".join(parts))
    assert symbol >> FIELD_BITS * layout.total == 0
    return rows


@pytest.mark.parametrize("head", HEADS)
def test_two_thousand_addresses(head, tails):
    """In four parts, one for each of the heads."""
    for tail in tails[HEADS.index(head) :: len(HEADS)]:
        payload = f"{head}{tail}".encode()
        assert made(payload) == forced(payload, MASK)


def test_a_thousand_random_texts_of_all_lengths():
    chance = random.Random(11)
    lengths = range(1, capacity(MAX_VERSION) + 1)
    for length in [*lengths, *(chance.choice(range(20, 90)) for _ in range(1000 - len(lengths)))]:
        payload = chance.randbytes(length)
        assert made(payload) == forced(payload, MASK), payload


@given(st.binary(min_size=1, max_size=90), st.data())
def test_any_bytes(payload, data):
    assert made(payload) == forced(payload, MASK)
    place = data.draw(st.integers(0, len(payload) - 1))
    other = bytearray(payload)
    other[place] ^= data.draw(st.integers(1, 255))
    assert made(bytes(other)) != made(payload)


def test_the_oracle_is_what_pyqrcode_draws(tails):
    for text in (f"{HEADS[0]}{tails[0]}", f"{HEADS[2]}{tails[1]}", "a"):
        code = pyqrcode.create(text, error="M", encoding="utf-8")
        assert forced(text.encode(), code.builder.best_mask) == matrix(code.code)


def test_a_length_of_another_version():
    symbols, _ = prepare(4)
    for length in (capacity(3), capacity(4) + 1, 0):
        with pytest.raises(KeyError):
            symbols.of(b"/" * length)


@pytest.mark.parametrize("version", range(1, MAX_VERSION + 1))
def test_every_module_has_a_place_of_its_own(version):
    layout = Layout(17 + 4 * version)
    assert layout.width <= MAX_MODULES < FIELD_BITS
    assert 0 < layout.last_width <= layout.width
    places = {layout.dark(row, column) for row in range(layout.size) for column in range(layout.size)}
    assert len(places) == layout.size**2
    assert all(place.bit_count() == 1 and not place & layout.blank for place in places)
    assert shown(layout, layout.blank) == ["0" * layout.size] * layout.size
    assert shown(layout, layout.blank | layout.dark(1, layout.size - 1))[1] == "0" * (layout.size - 1) + "1"


@pytest.mark.parametrize("head", HEADS)
def test_the_mask_is_the_best_for_addresses(head, tails):
    """By the standard's penalty, as pyqrcode counts it; the best of eight for each has 5 % less."""
    penalties = []
    for tail in tails[:12]:
        scores = pyqrcode.create(head + tail, error="M", encoding="utf-8").builder.scores
        penalties.append([sum(parts) for parts in scores])
    means = [sum(column) / len(penalties) for column in zip(*penalties, strict=True)]
    assert means.index(min(means)) == MASK
    best_of_eight = sum(map(min, penalties)) / len(penalties)
    assert means[MASK] < 1.1 * best_of_eight
