"""Pages that differ in a few places only: rendered once, and filled in for each visitor."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

MAX_PAGES = 64

# The values are other people's: whoever could guess a mark could have a value put where it does not belong.
_CHANCE = secrets.token_hex(12)
_MARK = re.compile(f"-{_CHANCE}-([a-z_]+)-".encode())


def mark(name: str) -> str:
    """What stands in a template for the value of this name; escaping leaves it as it is."""
    return f"-{_CHANCE}-{name}-"


class Skeletons:
    """The pages rendered last, with marks in the place of what differs."""

    def __init__(self, size: int = MAX_PAGES) -> None:
        self._size = size
        self._pages: OrderedDict[Hashable, list[bytes]] = OrderedDict()

    def page(self, kind: Hashable, render: Callable[[], bytes], values: Mapping[str, str]) -> bytes:
        """The page of this kind with `values`, as they stand in HTML, in the place of their marks.

        `render` gives it with its marks; it is asked where the kind has not been rendered of late.
        """
        pieces = self._pages.get(kind)
        if pieces is None:
            pieces = self._pages[kind] = _MARK.split(render())
            if len(self._pages) > self._size:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(kind)
        filled = pieces.copy()  # text, name, text, name, …, text
        filled[1::2] = [values[name.decode()].encode() for name in pieces[1::2]]
        return b"".join(filled)
