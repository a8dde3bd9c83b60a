"""Tornado's templates, rendered so that nothing is left behind for Python's collector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.escape import url_escape, utf8, xhtml_escape
from tornado.template import Loader, Template

# What the code that Tornado makes of a template asks for, and what our templates call.
_NAMES = {
    "_tt_utf8": utf8,
    "_tt_string_types": (str, bytes),
    "xhtml_escape": xhtml_escape,
    "url_escape": url_escape,
}


class Templates(Loader):
    def _create_template(self, name: str) -> Template:
        return _Template(Path(self.root, name).read_bytes(), name=name, loader=self)


class _Template(Template):
    def generate(self, **values: Any) -> bytes:
        names = {**_NAMES, "__name__": self.name, "__loader__": self, **values}
        exec(self.compiled, names)  # noqa: S102
        page: bytes = names["_tt_execute"]()
        names.clear()  # the function and its names hold each other, and with them the request
        return page

    def get_source(self, name: str) -> str:
        """For tracebacks."""
        return self.code
