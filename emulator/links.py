"""Finds the links in a text of the account's, as a chat does."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

# WeChat knows one tag, and bare addresses; only http and https ever become a link.
_LINK = re.compile(
    r'<a\s[^>]*?href="(?P<href>https?://[^"\s<>]+)"[^>]*>(?P<label>[^<]*)</a>'
    r"|(?P<bare>https?://[!#-;=?-~]+)",
    re.IGNORECASE,
)
_AFTER_AN_ADDRESS = ".,;:!?)]}'"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a text; `href` is "" for what is no link. Nothing of it is escaped yet."""

    text: str
    href: str = ""


def segments(text: str) -> Iterator[Segment]:
    """The pieces of `text` in their order."""
    end = 0
    for match in _LINK.finditer(text):
        start, stop = match.span()
        if match["bare"]:
            href = label = match["bare"].rstrip(_AFTER_AN_ADDRESS)
            stop = start + len(href)
        else:
            href, label = html.unescape(match["href"]), html.unescape(match["label"])
        if start > end:
            yield Segment(text[end:start])
        yield Segment(label, href)
        end = stop
    if end < len(text):
        yield Segment(text[end:])
