"""The clock is moved by an hour, forward and back, under a running server; the monotonic one goes on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.faults.asking import Asking, made
from tests.handlers.test_app import bearer
from tests.harness import Child, document
from tests.whole.test_killed import Site

HOUR = 3600


@pytest.fixture
def libfaketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        reason = "there is no libfaketime (Debian's faketime)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found[0]


class MovedClock:
    """Of one process, which reads the file once a second."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._file = folder / "clock"
        self.move(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def move(self, seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._file)


async def says_time(site: Site, ahead: int) -> None:
    """Waits until the server's clock is so far ahead of ours."""
    async with asyncio.timeout(30):
        while True:
            answer = await site.browser().get("/healthz")
            date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            if abs(date - time.time() - ahead) < HOUR / 2:
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_an_hour_wrong_and_right_again(tmp_path, emulator, libfaketime, seconds):
    site = await made(tmp_path, emulator)
    clock = MovedClock(libfaketime, tmp_path)
    async with Child("serve", "--settings", str(site.settings), environment=clock.environment) as child:
        await child.says("serving")
        asking, gone = await Asking.begin(site), site.browser()
        ended = await gone.open_login("/login?next=/gone")
        assert (await site.scan(ended, 1)).accepted
        assert (await gone.exchange(ended)).code == 200
        session = gone.cookies["saoma-session"]
        assert (await gone.post("/api/v1/sessions/current/revoke")).code == 204
        app_ticket = await site.browser().open_login("/login?method=app")

        clock.move(seconds)
        await says_time(site, seconds)
        assert (await asking.member.get("/api/v1/me")).code == 200
        attempt = await asking.post(asking.push())
        assert (attempt.status, attempt.answer) == (403, b""), "WeChat's time is not ours"
        said = re.search(r"whose time is ([+-]\d+) seconds", await child.says("seconds from ours"))
        assert said is not None
        assert abs(int(said[1]) + seconds) < 60
        scanned = await site.browser().post(f"/api/v1/tickets/{app_ticket}/scan", **bearer("u1"))
        assert scanned.code == 401, "nor is that of the app's token"
        assert document(scanned)["code"] == "unauthenticated"
        state = await asking.waiting.state(asking.ticket_id)
        assert state == ("INVALID" if seconds > 0 else "WAITING")
        fresh = site.browser()
        assert await fresh.state(await fresh.open_login("/login?method=app")) == "WAITING"
        assert (await site.browser().get("/readyz")).code == 200
        for browser in (gone, site.browser()):
            browser.cookies["saoma-session"] = session
            assert (await browser.get("/api/v1/me")).code == 401, "what was ended stays ended"
        assert (await gone.exchange(ended)).code in (404, 409)

        clock.move(0)
        await says_time(site, 0)
        assert (await gone.get("/api/v1/me")).code == 401
        assert (await gone.exchange(ended)).code == 409
        assert await asking.waiting.state(asking.ticket_id) == "WAITING"
        await asking.well_again()
        assert await child.end(signal.SIGTERM) == 0
    assert "Traceback" not in child.output
