import pytest

from emulator.links import Segment, segments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("你好", [Segment("你好")]),
        (
            "https://a.example/x?y=1&z=2",
            [Segment("https://a.example/x?y=1&z=2", "https://a.example/x?y=1&z=2")],
        ),
        (
            "看 http://a.example/x。好",
            [Segment("看 "), Segment("http://a.example/x", "http://a.example/x"), Segment("。好")],
        ),
        (
            "(https://a.example/x).",
            [Segment("("), Segment("https://a.example/x", "https://a.example/x"), Segment(").")],
        ),
        ('<a href="https://a.example/?b=1&amp;c">这里</a>', [Segment("这里", "https://a.example/?b=1&c")]),
        ('<a href="javascript:alert(1)">x</a>', [Segment('<a href="javascript:alert(1)">x</a>')]),
        ("javascript:alert(1) data:text/html,x", [Segment("javascript:alert(1) data:text/html,x")]),
    ],
)
def test_links_in_a_text(text: str, expected: list[Segment]) -> None:
    assert list(segments(text)) == expected


def test_an_address_ends_where_markup_begins() -> None:
    assert list(segments('https://a.example/"onclick=x<b>')) == [
        Segment("https://a.example/", "https://a.example/"),
        Segment('"onclick=x<b>'),
    ]
