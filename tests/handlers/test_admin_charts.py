"""Charts: what is drawn of the numbers, and that it is SVG that anybody can read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from handlers.admin.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Column, columns, share

KINDS = ("good", "bad")


def drawn(*counts: tuple[int, int], label: str = "08:00", words: str = "words") -> ElementTree.Element:
    given = [Column(f"{words} {n}", label if n % 4 == 0 else "", pair) for n, pair in enumerate(counts)]
    return ElementTree.fromstring(columns("Title <&>", "Told", KINDS, given, "logins"))


def parts(chart: ElementTree.Element, kind: str) -> list[dict[str, float]]:
    numbers = ("x", "y", "width", "height")
    return [
        {name: float(part.attrib[name]) for name in numbers}
        for part in chart.iter("rect")
        if part.attrib["class"] == kind
    ]


def ticks(chart: ElementTree.Element) -> list[str]:
    return [str(text.text) for text in chart.iter("text") if text.attrib.get("text-anchor") == "end"]


def test_parts_are_as_high_as_their_counts():
    chart = drawn((6, 0), (3, 3), (0, 12), (0, 0))
    unit = parts(chart, "good")[0]["height"] / 6
    assert [round(part["height"] / unit, 1) for part in parts(chart, "good")] == [6, 3]
    assert [round(part["height"] / unit, 1) for part in parts(chart, "bad")] == [3, 12]
    stacked_on, stacked = parts(chart, "good")[1], parts(chart, "bad")[0]
    assert stacked["y"] + stacked["height"] == pytest.approx(stacked_on["y"], abs=0.2)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 99, 100, 1234, 10**7])
def test_nothing_leaves_the_picture(count):
    chart = drawn(*[(count, count // 2)] * 72)
    for kind in KINDS:
        for part in parts(chart, kind):
            assert part["x"] >= LEFT
            assert part["x"] + part["width"] <= WIDTH - RIGHT + 0.2
            assert part["y"] >= TOP - 0.1
            assert part["y"] + part["height"] <= HEIGHT - BOTTOM + 0.1


@pytest.mark.parametrize(
    ("most", "lines"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (4, ["0", "1", "2", "3", "4"]),
        (5, ["0", "2", "4", "6"]),
        (19, ["0", "5", "10", "15", "20"]),
        (4000, ["0", "1,000", "2,000", "3,000", "4,000"]),
    ],
)
def test_the_axis_has_few_and_round_numbers(most, lines):
    assert ticks(drawn((most, 0), (0, 0), label="")) == lines


def test_it_is_told_to_who_cannot_see_it():
    chart = drawn((1, 0), words="08:00 <b>")
    assert chart.attrib["role"] == "img"
    names = {part.attrib["id"]: part.text for part in chart if "id" in part.attrib}
    assert [names[name] for name in chart.attrib["aria-labelledby"].split()] == ["Title <&>", "Told"]
    assert [title.text for title in chart.iter("title")][1:] == ["08:00 <b> 0"]


def test_labels_stand_below_and_inside():
    texts = [text for text in drawn(*[(1, 1)] * 24, label="12:00").iter("text") if text.text == "12:00"]
    assert len(texts) == 6
    for text in texts:
        half = 30 if text.attrib["text-anchor"] == "middle" else 0
        assert float(text.attrib["x"]) + half <= WIDTH
        assert HEIGHT - BOTTOM < float(text.attrib["y"]) <= HEIGHT


def test_nothing_inline():
    """The policy allows no style that stands in the page."""
    text = columns("t", "d", KINDS, [Column("w", "l", (1, 1))], "a") + share(1, 2)
    assert not re.search(r"style|on\w+=|href|<script|url\(", text)


@pytest.mark.parametrize(("part", "whole", "width"), [(0, 0, 0), (1, 4, 25), (4, 4, 100)])
def test_a_share(part, whole, width):
    bars = list(ElementTree.fromstring(share(part, whole)).iter("rect"))
    assert float(bars[1].attrib["width"]) == width
