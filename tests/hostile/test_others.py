"""While somebody attacks, the others log in; in the long form, `make hostile`, half a second is the most."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPResponse

from tests.handlers.test_app import APP, bearer
from tests.handlers.test_memory import taken
from tests.harness import ROOT, Browser, Child, document, new_account, write_settings
from tests.ports import free_port

LONG = bool(os.environ.get("SAOMA_HOSTILE"))
SECONDS = 20.0 if LONG else 2.0
IDLE = 5_000 if LONG else 500
CROWD = 500 if LONG else 50
SLOW = ("-c", "1000", "-r", "500") if LONG else ("-c", "100", "-r", "100")
WAITING = 100 if LONG else 10  # pages that were there before
# So that a short flood on a busy machine comes to its limits too.
LIMITS = {} if LONG else {"tickets_per_address": 10, "tickets_per_node": 10}
P99 = 0.5
ROOM = 100 * 1024  # kB more than before, with 5,000 connections held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@dataclass(frozen=True)
class Page:
    browser: Browser
    ticket_id: str
    person: str


@dataclass
class Site:
    """A server in a process of its own, behind a proxy on this machine; and the others there."""

    port: int
    process: int
    times: list[float] = field(default_factory=list)  # of each of the others' requests
    turned_away: int = 0
    people: Iterator[int] = field(default_factory=itertools.count)

    async def open_page(self) -> Page | None:
        """None where there were too many."""
        number = next(self.people)
        seen_at = {"X-Forwarded-For": f"203.0.{number // 250}.{number % 250}"}
        browser = Browser(f"http://127.0.0.1:{self.port}", seen_at)
        answer = await self._timed(browser.get("/login?method=app"))
        if answer.code == 429:
            assert int(answer.headers["Retry-After"]) >= 1
            self.turned_away += 1
            return None
        assert answer.code == 200, answer.body
        shown = answer.body.decode()
        browser.xsrf = re.search(r'data-xsrf="([^"]+)"', shown)[1]  # type: ignore[index]
        return Page(browser, re.search(r'data-ticket="([^"]+)"', shown)[1], f"person {number}")  # type: ignore[index]

    async def log_in(self, page: Page) -> None:
        """From the scan to the session. Nothing of that is ever refused."""
        browser, path, who = page.browser, f"/api/v1/tickets/{page.ticket_id}", bearer(page.person)
        scanned = await self._timed(browser.post(f"{path}/scan", **who))
        assert scanned.code == 200, scanned.body
        handle = {"handle": document(scanned)["handle"]}
        assert (await self._timed(browser.post(f"{path}/confirm", handle, **who))).code == 200
        assert (await self._timed(browser.get(path))).code == 200
        collected = await self._timed(browser.post(f"{path}/exchange"))
        assert collected.code == 200, collected.body
        assert (await self._timed(browser.get("/api/v1/me"))).code == 200

    async def _timed(self, asking: Awaitable[HTTPResponse]) -> HTTPResponse:
        start = time.perf_counter()
        answer = await asking
        self.times.append(time.perf_counter() - start)
        return answer

    async def others(self, attack: asyncio.Future[Any], waiting: list[Page]) -> None:
        """New ones come until the attack is over; where one is turned away, one who waits goes on."""
        while not attack.done():
            page = await self.open_page()
            if page is None and waiting:
                page = waiting.pop()
            if page is not None:
                await self.log_in(page)
            await asyncio.sleep(0.1)

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(0.99 * len(self.times))]


@asynccontextmanager
async def serving(folder: Path, **limits: Any) -> AsyncIterator[Site]:
    port = free_port()
    settings = write_settings(
        folder,
        new_account(),
        "http://127.0.0.1:9",
        server={"port": port, "trusted_proxies": ["127.0.0.1"]},
        metrics={"port": 0},
        app=APP,
        limits=limits,
        wechat={"appid": "", "secret": "", "token": "", "encoding_aes_key": ""},
    )
    async with Child.serving(settings) as child:
        await child.says("serving")
        assert child.process is not None
        yield Site(port, child.process.pid)
        assert "ERROR" not in child.output, child.output
        assert "Traceback" not in child.output, child.output


async def attackers(kind: str, site: Site, number: int) -> dict[str, Any]:
    """What they got."""
    command = (
        sys.executable,
        "-m",
        "tests.hostile.attackers",
        kind,
        f"{site.port}",
        f"{number}",
        f"{SECONDS}",
    )
    told = await _output(*command)
    return json.loads(told)


async def slow(*arguments: str) -> None:
    program = shutil.which("slowhttptest")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test with slowhttptest, and it is not on PATH (Debian's slowhttptest)")
        return
    told = await _output(program, *SLOW, "-l", f"{int(SECONDS)}", "-p", "5", *arguments)
    assert "Exit status" in told, told


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return told.decode()


# What runs against the server, by kind.
ATTACKS: dict[str, Callable[[Site, str], Awaitable[Any]]] = {
    "slow headers": lambda site, url: slow("-H", "-i", "3", "-u", f"{url}/"),
    "slow bodies": lambda site, url: slow("-B", "-i", "3", "-s", "8192", "-u", f"{url}/api/v1/tickets"),
    "slow reading": lambda site, url: slow(
        *(
            "-r",
            "50",
            "-X",
            "-k",
            "10",
            "-w",
            "512",
            "-y",
            "1024",
            "-n",
            "1",
            "-z",
            "32",
            "-u",
            f"{url}/static/ticket.js",
        )
    ),
    "idle connections": lambda site, url: attackers("idle", site, IDLE),
    "connections from one address": lambda site, url: attackers("storm", site, 4 * CROWD),
    "who never reads": lambda site, url: attackers("unread", site, CROWD),
    "codes from one address": lambda site, url: attackers("one", site, CROWD // 10),
    "codes from many addresses": lambda site, url: attackers("many", site, CROWD // 10),
}
FLOODS = [kind for kind in ATTACKS if kind.startswith("codes")]


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Rows, printed when all is over (`pytest -s`), to be pasted into docs/reliability.md."""
    rows = [
        "| attack | the others' p99 | their slowest | requests | turned away | memory | answers |",
        "|---|---|---|---|---|---|---|",
    ]
    yield rows
    print("", *rows, sep="\n")


def _got(told: dict[str, Any] | None) -> str:
    """What attackers of ours were answered."""
    answered = told["answered"] if told else {}
    return ", ".join(f"{times} times {status}" for status, times in sorted(answered.items()))


@pytest.mark.parametrize("kinds", [[kind] for kind in ATTACKS] if LONG else [list(ATTACKS)], ids=" and ".join)
async def test_others_log_in_meanwhile(tmp_path, kinds, table):
    """In the long form one attack after the other, in the short one all at once, but none for long."""
    async with serving(tmp_path, **LIMITS) as site:
        waiting = [page for _ in range(WAITING) if (page := await site.open_page())]
        assert len(waiting) == WAITING
        await site.log_in(waiting.pop())
        site.times.clear()
        before, url = taken(site.process, "VmRSS"), f"http://127.0.0.1:{site.port}"
        attack = asyncio.gather(*(ATTACKS[kind](site, url) for kind in kinds))
        try:
            await site.others(attack, waiting)
        finally:
            told = dict(zip(kinds, await attack, strict=True))
        grown = taken(site.process, "VmRSS") - before
        figures = (
            f"{1000 * site.p99:.0f} ms | {1000 * max(site.times):.0f} ms | {len(site.times)}"
            f" | {site.turned_away} | {grown / 1024:+.0f} MB"
        )
        table.append(
            f"| {', '.join(kinds)} | {figures} | {', '.join(filter(None, map(_got, told.values())))} |"
        )
        assert len(site.times) >= 6
        assert grown < ROOM, f"{grown} kB"
        assert not LONG or site.p99 < P99
        assert not site.turned_away or FLOODS[1] in kinds
        for kind in set(kinds) & set(FLOODS):
            answered = {int(status): times for status, times in told[kind]["answered"].items()}
            assert answered.keys() <= {201, 429}
            assert told[kind]["retry_after"] == answered.get(429, 0) > 0
        if kinds == ["connections from one address"]:
            refused = told[kinds[0]]
            assert refused["answered"].keys() == {"429"}
            assert refused["retry_after"] == refused["answered"]["429"]
        if kinds == FLOODS[:1]:
            assert 60 <= answered[201] <= 62 + SECONDS
