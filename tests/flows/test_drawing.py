"""What draws slowly leaves the loop alone."""

from __future__ import annotations

import asyncio
import threading

import pytest

import codes
from flows.drawing import Drawing

URL = "http://weixin.qq.com/q/02NsyBkR3kcrF10000g07d"
FOREIGN = "HTTP://A.EXAMPLE/1"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """(text, whether the loop's thread drew it), of each drawing since."""
    loops, seen = threading.get_ident(), []

    def watched(draw):
        def watching(text):
            seen.append((text, threading.get_ident() == loops))
            return draw(text)

        return watching

    monkeypatch.setattr(codes, "svg", watched(codes.svg))
    monkeypatch.setattr(codes, "png", watched(codes.png))
    return seen


async def test_a_version_is_prepared_in_a_thread_and_then_used_at_once(threads):
    drawing = Drawing()
    assert await drawing.svg(URL) == codes.svg(URL)
    assert await drawing.png(URL[:-1]) == codes.png(URL[:-1])
    assert await drawing.svg(2 * URL) == codes.svg(2 * URL)
    calls = [own for text, own in threads]
    assert calls == [False, True, True, True, False, True]  # ours and, to compare, the test's


async def test_the_start_prepares_without_waiting(threads):
    drawing = Drawing([URL])
    drawing.start()
    assert not threads
    assert drawing._preparing is not None
    await drawing._preparing
    await drawing.svg(URL[:-2])
    assert threads == [(URL, False), (URL[:-2], True)]
    await drawing.stop()


async def test_what_cannot_be_prepared_always_goes_to_the_thread(threads):
    drawing = Drawing()
    for _ in range(2):
        assert (await drawing.png(FOREIGN)).startswith(b"\x89PNG")
    assert threads == [(FOREIGN, False)] * 2


async def test_many_at_once_draw_one_at_a_time_and_all_are_served(monkeypatch):
    working, most = 0, 0

    def draw(text: str) -> str:
        nonlocal working, most
        working += 1
        most = max(most, working)
        drawn.wait(0.005)
        working -= 1
        return text

    drawn = threading.Event()
    monkeypatch.setattr(codes, "svg", draw)
    drawing = Drawing()
    texts = [f"HTTP://A.EXAMPLE/{number}" for number in range(20)]
    assert await asyncio.gather(*map(drawing.svg, texts)) == texts
    assert most == 1


async def test_a_failure_is_the_askers_alone():
    drawing = Drawing()
    with pytest.raises(ValueError):
        await drawing.svg("x" * 5000)
    assert await drawing.svg(URL) == codes.svg(URL)


async def test_stop_ends_what_is_being_prepared():
    drawing = Drawing([URL, FOREIGN])
    await drawing.stop()
    drawing.start()
    await drawing.stop()
    assert drawing._preparing is not None
    assert drawing._preparing.cancelled()
