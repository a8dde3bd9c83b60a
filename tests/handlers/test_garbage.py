"""What has been answered is let go at once: what holds itself would wait for Python's collector."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from flows.watch import Poll, Watch
from handlers.base import BaseHandler
from storage.sqlite_writer import _Asked
from tests.handlers.test_app import APP
from tests.harness import Whole, running

KINDS = (BaseHandler, Watch, Poll, _Asked)


@contextmanager
def collecting_nothing() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS))


async def all_ended(whole: Whole) -> None:
    async with asyncio.timeout(30):
        while len(whole.server.connections) or whole.server.broker.waiting:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # the tasks of those connections


async def visit(whole: Whole) -> None:
    """A page that waits by both ways, what is refused, and what there is not."""
    browser = whole.browser()
    ticket_id = await browser.open_login("/login?method=app")
    path = f"/api/v1/tickets/{ticket_id}"
    polling = asyncio.ensure_future(browser.get(f"{path}?wait=20&state=WAITING"))
    async with browser.socket(ticket_id) as socket:
        await socket.read_message()
        assert (await browser.post(f"{path}/exchange")).code == 409
        assert (await browser.post(f"{path}/abandon")).code == 200
        await socket.read_message()
    assert (await polling).code == 200
    assert (await browser.get("/nowhere")).code == 404
    assert (await browser.get("/api/v1/tickets/nobody-knows-it")).code == 404
    assert (await browser.get("/login?next=//evil.example")).code == 400


async def test_what_was_answered_is_let_go(tmp_path):
    async with running(tmp_path, app=APP, wechat={"pool_size": 0}) as whole:
        await visit(whole)  # what is kept from then on is there
        with collecting_nothing():
            before = left()
            await visit(whole)
            await all_ended(whole)
            assert left() - before == Counter()
