"""The small part of XML that WeChat speaks, read with limits and written without surprises.

No DTD, no entities beyond XML's own five, a cap on bytes, depth and elements. Shapes met in real
deliveries are read: a byte order mark, leading blanks, blanks around CDATA, loose text, empty elements,
repeated and nested lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias
from xml.parsers import expat

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_ELEMENTS = 1000

Value: TypeAlias = "str | dict[str, Value] | list[Value]"
Fields: TypeAlias = "dict[str, Value]"
Writable: TypeAlias = "str | int | Mapping[str, Writable] | Sequence[Writable]"

_BOM = "\ufeff"
_BLANKS = " \t\r\n"
# What XML 1.0 forbids (https://www.w3.org/TR/xml/#charsets).
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MalformedXml(ValueError):
    """Not XML, or XML that nobody honest sends."""


def parse(data: bytes, *, max_depth: int = MAX_DEPTH) -> Fields:
    """The children of the root `<xml>`: text stripped, repeated elements as a list. Raises MalformedXml."""
    if len(data) > MAX_BYTES:
        raise MalformedXml("too long")
    reader = _Reader(max_depth)
    try:
        # UTF-8 whatever the document says of itself: a declared encoding must not change what was signed.
        # Told so, expat would still guess UTF-16, by its byte order mark or by the zeros between letters.
        text = data.decode("utf-8").removeprefix(_BOM).lstrip(_BLANKS)
        if "\0" in text:
            raise MalformedXml("not well-formed")
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = reader.start
        parser.CharacterDataHandler = reader.text
        parser.EndElementHandler = reader.end
        parser.Parse(text, True)
    except (UnicodeDecodeError, expat.ExpatError) as error:
        raise MalformedXml("not well-formed") from error
    return reader.root


def _refuse_doctype(*_: object) -> NoReturn:
    raise MalformedXml("a DOCTYPE is not allowed")


class _Reader:
    """expat's events into nested dictionaries."""

    def __init__(self, max_depth: int) -> None:
        self.root: Fields = {}
        self._max_depth = max_depth
        self._elements = 0
        self._open: list[tuple[str, Fields, list[str]]] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        if len(self._open) >= self._max_depth or self._elements > MAX_ELEMENTS:
            raise MalformedXml("too deep or too many elements")
        if not self._open and name != "xml":
            raise MalformedXml("the root is not <xml>")
        self._open.append((name, {}, []))

    def text(self, text: str) -> None:
        self._open[-1][2].append(text)

    def end(self, name: str) -> None:
        _, children, texts = self._open.pop()
        if not self._open:
            self.root = children
            return
        value: Value = children or "".join(texts).strip()
        siblings = self._open[-1][1]
        if name not in siblings:
            siblings[name] = value
            return
        known = siblings[name]
        if isinstance(known, list):
            known.append(value)
        else:
            siblings[name] = [known, value]


def text_of(fields: Fields, name: str) -> str:
    """The text of a child that occurs once. Raises MalformedXml where it is missing, repeated or nested."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise MalformedXml(f"{name} is not there exactly once")
    return value


def write(fields: Mapping[str, Writable]) -> str:
    """`<xml>…</xml>` of the fields in their order: text as CDATA, numbers bare, sequences repeated."""
    return f"<xml>{_children(fields)}</xml>"


def _children(fields: Mapping[str, Writable]) -> str:
    return "".join(
        f"<{name}>{_content(item)}</{name}>"
        for name, value in fields.items()
        for item in (value if isinstance(value, Sequence) and not isinstance(value, str) else (value,))
    )


def _content(value: Writable) -> str:
    match value:
        case int():
            return str(value)
        case str():
            # "]]>" would end the section early; what XML forbids would make the whole reply void.
            safe = _FORBIDDEN.sub("", value).replace("]]>", "]]]]><![CDATA[>")
            return f"<![CDATA[{safe}]]>"
        case Mapping():
            return _children(value)
        case _:
            raise TypeError(f"cannot be written: {type(value).__name__}")
