"""Codes as pictures: what a scanner needs of them."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import png
import pyqrcode
import pytest

import codes
from codes import draw

URL = "http://weixin.qq.com/q/02NsyBkR3kcrF10000g07d"
FINDER = ["1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"]


def modules(text: str) -> list[str]:
    """The picture, one character a module, without the quiet zone."""
    width, height, rows, info = png.Reader(bytes=codes.png(text)).read()
    pixels = [list(row) for row in rows]
    assert width == height
    assert info["planes"] == 1
    dark = 0
    step = draw.PNG_SCALE
    grid = [
        ["1" if pixels[y][x] == dark else "0" for x in range(0, width, step)] for y in range(0, height, step)
    ]
    quiet = codes.QUIET_ZONE
    assert all("1" not in row for row in grid[:quiet] + grid[-quiet:]), "the quiet zone is white"
    assert all("1" not in row[:quiet] + row[-quiet:] for row in grid)
    return ["".join(row[quiet:-quiet]) for row in grid[quiet:-quiet]]


def test_the_png_is_the_code_that_was_asked_for():
    found = modules(URL)
    for rows in (found, [row[::-1] for row in found], found[::-1]):
        assert [row[:7] for row in rows[:7]] == FINDER
    assert found == ["".join(map(str, row)) for row in pyqrcode.create(URL, error="M").code]
    assert found != modules(URL + "x")


def test_the_quiet_zone_is_four_modules():
    assert codes.QUIET_ZONE == 4


def test_the_svg_is_one_element_that_the_page_gives_its_size():
    drawing = codes.svg(URL)
    assert drawing.startswith("<svg")
    root = ElementTree.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    side = len(modules(URL)) + 2 * codes.QUIET_ZONE
    assert root.get("viewBox") == f"0 0 {side} {side}"
    assert "width" not in root.attrib
    assert "style" not in drawing, "the policy of the pages has no inline styles"
    assert "class" not in drawing
    background, code = root
    assert background.get("fill") == "#fff"
    assert code.get("stroke") == "#000"


@pytest.mark.parametrize("text", ['"><script>', "<title>", "扫码", "a" * 1024])
def test_no_text_gets_into_the_svg(text):
    assert text not in codes.svg(text)
    ElementTree.fromstring(codes.svg(text))


def test_a_text_that_no_code_can_hold():
    with pytest.raises(ValueError):
        codes.svg("x" * 5000)


def test_a_code_is_drawn_once():
    assert codes.png(URL) is codes.png(URL)
    assert codes.svg(URL) is codes.svg(URL)
    assert draw.png.cache_info().maxsize, "and not for ever more of them"


def test_the_png_opens():
    assert png.Reader(file=io.BytesIO(codes.png("https://a.example"))).asRGB()
