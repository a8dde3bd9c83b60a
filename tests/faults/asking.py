"""A server as a process, and what everybody asks of it while something is wrong."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator import Attempt, Emulator, Push
from emulator.phone import subscribe_fields
from tests.handlers.test_app import APP
from tests.harness import Browser, document, new_account
from tests.whole.test_killed import Site

SECONDS = 4.0  # WeChat must have its answer within; it waits for 5
PATIENCE = 30.0  # until a server must be well again


@dataclass
class Asking:
    """A person with a session and a code on another page, before anything is wrong."""

    site: Site
    member: Browser
    waiting: Browser
    ticket_id: str

    @classmethod
    async def begin(cls, site: Site) -> Asking:
        member, waiting = site.browser(), site.browser()
        ticket_id = await member.open_login()
        assert (await site.scan(ticket_id)).accepted
        assert (await member.exchange(ticket_id)).code == 200
        return cls(site, member, waiting, await waiting.open_login())

    def push(self) -> Push:
        """Somebody new follows by the code of the waiting page."""
        platform = self.site.emulator.platform
        person = platform.add_person(f"person {len(platform.people)}")
        return self.site.emulator.courier.build(
            person.openid, subscribe_fields(self.site.code(self.ticket_id))
        )

    async def post(self, push: Push) -> Attempt:
        return await self.site.emulator.courier.post(push)

    async def all_are_refused(self) -> None:
        """WeChat, pages, programs and whoever watches over us are told that it does not go now."""
        push = self.push()
        attempt, page, made, ready = await asyncio.gather(
            self.post(push),
            self.site.browser().get("/login?method=app&lang=en"),
            self.site.browser().post("/api/v1/tickets", {"method": "app"}),
            self.site.browser().get("/readyz"),
        )
        assert (attempt.status, attempt.answer) == (503, b""), "so that WeChat delivers again"
        assert attempt.seconds < SECONDS + 1
        assert page.code == 503
        assert "The store is not available just now." in page.body.decode()
        assert (made.code, document(made)["code"]) == (503, "store_unavailable")
        assert ready.code == 503

    async def well_again(self) -> None:
        """Without a restart: the push that was refused comes again, and the login goes through."""
        deadline = time.monotonic() + PATIENCE
        while (await self.site.browser().get("/readyz")).code != 200:
            assert time.monotonic() < deadline, "it is not ready again"
            await asyncio.sleep(0.1)
        push = self.push()
        attempt = await self.post(push)
        assert not attempt.fault, attempt
        collected = await self.waiting.exchange(self.ticket_id)
        assert collected.code == 200, collected.body
        assert document(collected)["user"]["identities"][0]["subject"] == push.openid
        assert (await self.member.get("/api/v1/me")).code == 200


def on_redis(url: str) -> dict[str, object]:
    """Settings of a cluster's node."""
    return {"redis": {"url": url}, "server": {"secret_key": "k" * 40}}


async def made(folder: Path, emulator: Emulator, **document: object) -> Site:
    return Site(folder, emulator, app=APP, limits={"enabled": False}, **document)


@pytest.fixture
async def emulator():
    emulator = Emulator.start(new_account(), timeout=6.0)
    try:
        yield emulator
    finally:
        await emulator.stop()
