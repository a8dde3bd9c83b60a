"""Codes as pictures: what a scanner needs of them, and that they are pyqrcode's."""

from __future__ import annotations

import io
import re
from itertools import chain
from xml.etree import ElementTree

import png
import pyqrcode
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

import codes
from codes import draw
from codes.symbols import MASK, capacity
from codes.writer import PNG_SCALE
from tests.codes.oracle import forced, matrix

URL = "http://weixin.qq.com/q/02NsyBkR3kcrF10000g07d"
NOT_PREPARED = ("HTTP://A.EXAMPLE/1", "0123456789", "点茗", "a" * 214, "https://a.example/" + "x" * 900)
FINDER = ["1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"]


def pixels(picture: bytes) -> list[bytes]:
    """Rows of the PNG, a byte a pixel, 0 being black; the reader also checks all sums."""
    width, height, rows, info = png.Reader(bytes=picture).read()
    assert width == height
    assert (info["planes"], info["bitdepth"], info["greyscale"], info["alpha"]) == (1, 1, True, False)
    return [bytes(row) for row in rows]


def without_quiet_zone(grid: list[str]) -> list[str]:
    quiet = codes.QUIET_ZONE
    assert all("1" not in row for row in grid[:quiet] + grid[-quiet:]), "the quiet zone is white"
    assert all("1" not in row[:quiet] + row[-quiet:] for row in grid)
    return [row[quiet:-quiet] for row in grid[quiet:-quiet]]


def modules(picture: bytes) -> list[str]:
    """Of a PNG, one character a module, without the quiet zone."""
    scale, rows = PNG_SCALE, pixels(picture)
    black_and_white = bytes.maketrans(b"\x00\x01", b"10")
    small = [row[::scale] for row in rows[::scale]]
    large = [bytes(chain.from_iterable([pixel] * scale for pixel in row)) for row in small]
    assert rows == list(chain.from_iterable([row] * scale for row in large)), "modules are square"
    return without_quiet_zone([row.translate(black_and_white).decode() for row in small])


def rasterised(drawing: str) -> list[str]:
    """Of an SVG, the same; understands the path that draws modules as strokes along the middle of rows."""
    root = ElementTree.fromstring(drawing)
    _, _, side, _ = map(int, root.get("viewBox").split())
    grid = [["0"] * side for _ in range(side)]
    (path,) = [element.get("d") for element in root if element.get("stroke")]
    start, rest = re.fullmatch(r"M4 (4\.5)(.*)", path).groups()
    x, y = 4, int(float(start))
    steps = re.findall(r"([hm])(-?\d+)(?: (\d+))?", rest)
    assert "".join(f"{kind}{first}{second and ' '}{second}" for kind, first, second in steps) == rest
    for kind, first, second in steps:
        if kind == "h":
            assert int(first) > 0
            for column in range(x, x + int(first)):
                assert grid[y][column] == "0", "no module is drawn twice"
                grid[y][column] = "1"
        else:
            y += int(second)
        x += int(first)
    return without_quiet_zone(["".join(row) for row in grid])


def test_the_png_is_the_code_that_was_asked_for():
    found = modules(codes.png(URL))
    for rows in (found, [row[::-1] for row in found], found[::-1]):
        assert [row[:7] for row in rows[:7]] == FINDER
    assert found == forced(URL.encode(), MASK)
    assert found != modules(codes.png(URL[:-1] + "e"))


def test_the_quiet_zone_is_four_modules():
    assert codes.QUIET_ZONE == 4


@pytest.mark.parametrize("text", [URL, *NOT_PREPARED[:3]])
def test_the_svg_is_one_element_that_the_page_gives_its_size(text):
    drawing = codes.svg(text)
    assert drawing.startswith("<svg")
    root = ElementTree.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    side = len(modules(codes.png(text))) + 2 * codes.QUIET_ZONE
    assert root.attrib == {"viewBox": f"0 0 {side} {side}"}
    assert "style" not in drawing, "the policy of the pages has no inline styles"
    background, code = root
    assert background.attrib == {"fill": "#fff", "d": f"M0 0h{side}v{side}h-{side}z"}
    assert code.attrib.keys() == {"stroke", "d"}
    assert code.get("stroke") == "#000"


@pytest.mark.parametrize("version", range(1, draw.MAX_VERSION + 1))
def test_both_pictures_show_pyqrcodes_modules(version):
    shortest = capacity(version - 1) + 1
    for length in {shortest, (shortest + capacity(version)) // 2, capacity(version)}:
        text = ("https://a.example/" + "9_Zx" * 60)[-length:]
        assert codes.version_of(text) == version
        expected = forced(text.encode(), MASK)
        assert len(expected) == 17 + 4 * version
        assert modules(codes.png(text)) == expected
        assert rasterised(codes.svg(text)) == expected


@pytest.mark.parametrize("text", NOT_PREPARED)
def test_pyqrcode_draws_what_is_not_prepared(text):
    assert codes.version_of(text) is None
    expected = matrix(pyqrcode.create(text, error="M", encoding="utf-8").code)
    assert modules(codes.png(text)) == expected
    assert rasterised(codes.svg(text)) == expected
    assert codes.png(text) is codes.png(text), "once"
    assert codes.svg(text) is codes.svg(text)
    assert draw._drawn_png.cache_info().maxsize, "and not for ever more of them"


texts = st.one_of(
    st.text(max_size=230).filter(lambda text: text.isprintable()),
    st.from_regex(r"https?://[a-z0-9.-]{1,90}(:[0-9]{1,5})?/[sq]/[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.text("ABC123$%*+-./: ", max_size=120),
    st.text("ｱﾊ茗点アa", max_size=40),  # in Shift JIS of one byte and of two
)


@given(texts)
def test_what_is_prepared_has_the_mode_and_version_that_pyqrcode_chooses(text):
    version = codes.version_of(text)
    if version is not None:
        mode, _ = pyqrcode.QRCode._detect_content_type(None, text, "utf-8")
        assert mode == "binary"
        assert capacity(version - 1) < len(text.encode()) <= capacity(version)


@given(texts.filter(codes.version_of))
def test_the_two_pictures_are_the_same(text):
    assert rasterised(codes.svg(text)) == modules(codes.png(text))


@given(texts.filter(lambda text: text.strip()))
def test_readers_read_what_was_written(text):
    assert read(codes.png(text)) == text


@pytest.mark.parametrize(
    "head", ["http://weixin.qq.com/q/02", "https://login.example.com/s/", "https://扫码.example/s/"]
)
def test_readers_read_addresses(head, tails):
    for tail in tails[:40]:
        assert read(codes.png(head + tail)) == head + tail


def read(picture: bytes) -> str:
    rows = pixels(picture)
    side = len(rows)
    image = memoryview(bytes(255 * pixel for row in rows for pixel in row)).cast("B", (side, side))
    (found,) = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)
    return str(found.text)


@pytest.mark.parametrize("text", ['"><script>', "<title>", "扫码", "a" * 1024])
def test_no_text_gets_into_the_svg(text):
    assert text not in codes.svg(text)
    ElementTree.fromstring(codes.svg(text))


@pytest.mark.parametrize("draw_it", [codes.svg, codes.png])
@pytest.mark.parametrize("text", ["x" * 5000, "http://a.example/\ud800"])
def test_a_text_that_no_code_can_hold(text, draw_it):
    with pytest.raises(ValueError):
        draw_it(text)


def test_the_png_opens():
    assert png.Reader(file=io.BytesIO(codes.png("https://a.example"))).asRGB()
