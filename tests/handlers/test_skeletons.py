"""Pages rendered once and filled in for each visitor."""

from __future__ import annotations

import pytest

from handlers import pages
from handlers.skeletons import Skeletons, mark
from tests.harness import running


def test_a_page_is_rendered_once_and_filled_in_each_time():
    rendered = []

    def render() -> bytes:
        rendered.append(1)
        return f"<p>{mark('id')} 码 {mark('name')}{mark('id')}</p>".encode()

    known = Skeletons()
    assert known.page("kind", render, {"id": "1", "name": "小明"}) == "<p>1 码 小明1</p>".encode()
    assert known.page("kind", render, {"id": "22", "name": ""}) == "<p>22 码 22</p>".encode()
    assert len(rendered) == 1
    assert known.page("other", render, {"id": "", "name": ""}) == "<p> 码 </p>".encode()
    assert len(rendered) == 2


def test_a_value_is_never_read_for_marks():
    known = Skeletons()
    values = {"id": mark("secret"), "secret": "s"}
    for _ in range(2):
        assert (
            known.page("kind", lambda: f"[{mark('id')}]".encode(), values) == f"[{mark('secret')}]".encode()
        )


def test_only_so_many_are_kept_and_the_oldest_goes():
    rendered: list[int] = []

    def page(kind: int) -> None:
        def render() -> bytes:
            rendered.append(kind)
            return b""

        known.page(kind, render, {})

    known = Skeletons(size=2)
    for kind in (1, 2, 1, 3, 1, 2):
        page(kind)
    assert rendered == [1, 2, 3, 2]


PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Safari/604.1"
COMPUTER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/130.0"


@pytest.mark.parametrize("agent", [PHONE, COMPUTER])
@pytest.mark.parametrize("query", ["", "?lang=en&next=%2Fa%3Fb%3D%22%3Cc", "?method=app&lang=zh-CN"])
async def test_a_page_that_is_filled_in_is_the_one_that_its_template_gives(
    tmp_path, monkeypatch, agent, query
):
    compared = []

    ours, fill = Skeletons(), Skeletons.page

    def page(_, kind, render, values):
        filled = fill(ours, kind, render, values)
        with monkeypatch.context() as patch:
            patch.setattr(pages, "mark", values.__getitem__)  # the values, where their marks would stand
            assert filled == unescaped(render())
        compared.append(filled)
        return filled

    def unescaped(page: bytes) -> bytes:
        return page.replace(b"&amp;amp;", b"&amp;")

    app = {"issuer": "https://app.example.com", "key": "k" * 40, "link": "team://login?u={url}&id={id}"}
    async with running(tmp_path, app=app) as whole:
        monkeypatch.setattr(Skeletons, "page", page)
        for _ in range(3):
            answer = await whole.browser(**{"User-Agent": agent}).get(f"/login{query}")
            assert answer.code == 200
            assert answer.body == compared[-1]
    assert len(compared) == 3
    assert len(set(compared)) == 3, "tickets of their own"
