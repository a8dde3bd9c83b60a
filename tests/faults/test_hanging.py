"""A store that hangs: it takes what it is asked, and answers nothing for a while."""

from __future__ import annotations

import asyncio
import threading
import time

from emulator.phone import subscribe_fields
from tests.faults.asking import PATIENCE, SECONDS, Asking, made
from tests.harness import document, running

HANGING = 10.0


async def test_a_mongodb_that_hangs_for_ten_seconds(tmp_path, emulator, own_mongodb):
    site = await made(tmp_path, emulator, storage={"url": f"{own_mongodb.url}/saoma"})
    async with site.child() as child:
        await child.says("serving")
        asking = await Asking.begin(site)
        until = time.monotonic() + HANGING
        own_mongodb.hang()
        try:
            while time.monotonic() < until:
                await asking.all_are_refused()
                assert (await asking.member.get("/api/v1/me")).code == 503, "nobody can be confirmed"
        finally:
            own_mongodb.resume()
        assert "MongoDB did not do what was asked" in child.output
        # What hung may have been done meanwhile: then the page's code has been used.
        asking.ticket_id = await _opened(asking)
        await asking.well_again()
        assert "Traceback" not in child.output


async def _opened(asking: Asking) -> str:
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await asking.waiting.get("/login?next=/again&wait=1")
            if page.code == 200 and b"data-ticket" in page.body:
                return await asking.waiting.open_login("/login?next=/again")
            await asyncio.sleep(0.1)


async def test_a_writer_of_sqlite_that_hangs(tmp_path):
    async with running(tmp_path, limits={"enabled": False}) as whole:
        go_on, browser, member = threading.Event(), whole.browser(), whole.browser()
        await whole.log_in(member, whole.person(1))
        ticket_id = await browser.open_login()
        code = next(each for each in whole.emulator.platform.codes.values() if each.scene == ticket_id)
        push = whole.emulator.courier.build(whole.person(0), subscribe_fields(code))
        whole.emulator.courier.timeout = 6.0

        async def hang(transaction):
            go_on.wait(60)

        hanging = asyncio.ensure_future(whole.storage.transact(hang))
        try:
            attempt, page, ready = await asyncio.gather(
                whole.post(push), whole.browser().get("/login"), whole.browser().get("/readyz")
            )
            assert (attempt.status, attempt.answer) == (503, b"")
            assert attempt.seconds < SECONDS + 1
            assert (page.code, ready.code) == (503, 503)
        finally:
            go_on.set()
            await asyncio.wait({hanging})
            hanging.exception()
        attempt = await whole.post(push)
        assert not attempt.fault, "WeChat delivers again"
        collected = await browser.exchange(ticket_id)
        assert collected.code == 200
        assert document(collected)["user"]["identities"][0]["subject"] == whole.person(0)
        assert (await member.get("/api/v1/me")).code == 200
