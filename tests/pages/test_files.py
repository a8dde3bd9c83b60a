"""What the pages' files must hold to: no inline code (the policy forbids it), and little of everything."""

from __future__ import annotations

import re

from tests.pages.stage import ROOT


def test_nothing_is_inline_and_the_files_stay_small() -> None:
    for template in (ROOT / "templates").glob("*.html"):
        text = template.read_text("utf-8")
        assert " style=" not in text, template
        assert "<style" not in text, template
        assert not re.search(r"<[^>]*\son[a-z]+=", text), template
        assert text.count("<script") == text.count('<script type="module" src='), template
    for name in ("login.js", "ticket.js", "widget.js", "saoma.css"):
        assert (ROOT / "static" / name).stat().st_size < 13_000, name
    assert (ROOT / "static" / "saoma.js").stat().st_size < 10_000, "other people's pages load it"
