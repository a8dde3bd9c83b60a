"""What other people's parsers make of an input that ours took; `make fuzz` installs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ada_url
from lxml import etree

from flows import redirects
from tests.fuzz.targets import ORIGIN, OTHER_ORIGINS
from wechat.xml import MalformedXml, parse

READER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)


def xml(data: bytes) -> None:
    """libxml2 sees the same tree wherever it takes the document, too."""
    try:
        ours = parse(data)
        text = data.decode("utf-8").removeprefix("\ufeff").lstrip(" \t\r\n")
        root = etree.fromstring(text.split("?>", 1)[-1] if text.startswith("<?xml") else text, READER)
    except (MalformedXml, etree.XMLSyntaxError, ValueError):
        return  # names and namespaces are where the two differ
    assert root.tag == "xml"
    assert ours == _children(root), "two readers see two messages"


def _children(element: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for child in element.iterchildren(tag=etree.Element):
        name = (
            f"{child.prefix}:{etree.QName(child).localname}" if child.prefix else etree.QName(child).localname
        )
        value = _children(child) or "".join(child.xpath("text()")).strip()
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def redirect(data: bytes) -> None:
    """A browser (the WHATWG's reading of addresses) goes where we meant it to."""
    target = data.decode("utf-8", "surrogateescape")
    if redirects.allowed(target, OTHER_ORIGINS):
        assert ada_url.URL(target, base=ORIGIN + "/login").origin in OTHER_ORIGINS | {ORIGIN}


SECOND: dict[str, Callable[[bytes], None]] = {"xml": xml, "redirect": redirect}
