"""Logins go on while parts fail: nothing acknowledged is lost. `pytest -s` prints the figures."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pymongo
import pytest
import redis
import yaml
from tornado.httpclient import HTTPResponse

from tests.cluster.page import FAILURES, Page, unhurried
from tests.cluster.site import Site, SiteBrowser
from tests.harness import document

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOPS = 5  # browsers that log in again and again
STANDING = 12  # pages that wait while something fails
PATIENCE = 30.0  # seconds that anybody goes on trying
RECOVERY = 5.0
AWAY = frozenset({500, 502, 503, 504})  # no answer to the request: it is sent again


@dataclass
class Login:
    """What one browser was promised."""

    browser: SiteBrowser
    person: str
    ticket: str = ""
    page: Page | None = None
    handle: str = ""
    confirmed: bool = False
    token: str = ""  # of the session, once the exchange was acknowledged


@dataclass
class Phase:
    """What happened during one fault. Counts are of requests, and of pages where it says so."""

    name: str
    attempted: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    pages: int = 0
    recovered: int = 0  # pages that were cut off and came back by themselves
    gap: float = 0.0  # seconds that the slowest of them took, once what had failed was there again
    slowest: float = 0.0  # seconds from the confirm's answer until the page knew
    over: float = 0.0  # when what had failed was there again
    recovery: float = 0.0  # as `slowest`, but from `over` where the confirm was earlier

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {kind}" for kind, count in sorted(self.unanswered.items())) or "none"
        return (
            f"{self.name}: {self.attempted.total()} requests, {self.acknowledged.total()} acknowledged,"
            f" {len(self.refused)} refused, {self.unanswered.total()} sent again ({failures});"
            f" {self.pages} pages told, {self.slowest:.2f} s after the confirm at most;"
            f" {self.recovered} of them cut off, and back after {self.gap:.2f} s at most"
        )


class Driver:
    """People who log in with the own app, through nginx, and try again as apps and pages do."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.logins: list[Login] = []
        self.phases = [Phase("before any fault")]

    @property
    def phase(self) -> Phase:
        return self.phases[-1]

    async def opened(self) -> Login:
        """A login that waits for its confirm, on a page that watches."""
        login = Login(self._site.browser(), f"person {len(self.logins)}")
        self.logins.append(login)
        page = await self._done("open", lambda: login.browser.get("/login?method=app"))
        login.ticket = re.search(r'data-ticket="([^"]+)"', page.body.decode())[1]
        login.browser.xsrf = re.search(r'data-xsrf="([^"]+)"', page.body.decode())[1]
        login.page = Page(login.browser, login.ticket)
        scanned = await self._done("scan", lambda: self._site.scan(login.ticket, login.person))
        login.handle = document(scanned)["handle"]
        await login.page.told("SCANNED")
        return login

    async def finish(self, login: Login) -> None:
        await self._done(
            "confirm", lambda: self._site.decide("confirm", login.ticket, login.handle, login.person)
        )
        confirmed, login.confirmed = time.monotonic(), True
        assert login.page is not None
        told = await login.page.told("CONFIRMED", PATIENCE)
        await login.page.close()
        phase = self.phase
        phase.pages += 1
        phase.recovered += bool(login.page.broken)
        phase.recovery = max(phase.recovery, told - max(confirmed, phase.over))
        for cut, heard in login.page.gaps:
            phase.gap = max(phase.gap, heard - (max(cut, phase.over) if heard > phase.over else cut))
        phase.slowest = max(phase.slowest, told - confirmed)
        await self._done("exchange", lambda: login.browser.exchange(login.ticket))
        login.token = login.browser.cookies["__Host-saoma-session"]
        await self._done("me", lambda: login.browser.get("/api/v1/me"))

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Logins are going on; at the end all that were begun are brought to their end."""
        over = asyncio.Event()

        async def again_and_again() -> None:
            while not over.is_set():
                await self.finish(await self.opened())
                await asyncio.sleep(random.uniform(0, 0.2))

        async with asyncio.TaskGroup() as loops:
            for _ in range(LOOPS):
                loops.create_task(again_and_again())
            try:
                yield
            finally:
                over.set()

    @asynccontextmanager
    async def fault(self, name: str, seconds: float = 2.0) -> AsyncIterator[None]:
        """Pages stand waiting when it comes; their people confirm within `seconds` from then."""
        standing = await asyncio.gather(*(self.opened() for _ in range(STANDING)))
        self.phases.append(Phase(name))
        async with asyncio.TaskGroup() as people:
            for login in standing:
                people.create_task(self._hesitate(login, seconds))
            yield
            self.phase.over = time.monotonic()
        await asyncio.sleep(0.5)

    async def _hesitate(self, login: Login, seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, seconds))
        await self.finish(login)

    async def _done(self, what: str, send: Callable[[], Awaitable[HTTPResponse]]) -> HTTPResponse:
        """Sends until there is an answer, and it must be yes."""
        deadline = time.monotonic() + PATIENCE
        for attempt in range(10**6):
            failure = answer = None
            try:
                async with asyncio.timeout(10):
                    answer = await unhurried(send())
            except FAILURES as error:
                failure = error
            phase = self.phase  # the one that it ended in
            phase.attempted[what] += 1
            if answer is None:
                phase.unanswered[f"{what}: {type(failure).__name__}"] += 1
            else:
                if answer.code == 200:
                    phase.acknowledged[what] += 1
                    return answer
                if answer.code not in AWAY:
                    phase.refused.append(f"{what}: {answer.code} {answer.body!r}")
                    raise AssertionError(phase.refused[-1])
                phase.unanswered[f"{what}: {answer.code}"] += 1
            assert time.monotonic() < deadline, f"{what}: in vain"
            await asyncio.sleep(min(1.0, 0.1 * 2**attempt) * random.uniform(0.5, 1))
        raise AssertionError


async def test_logins_while_parts_fail(own_cluster, own_redis, own_mongodb):
    site, driver = own_cluster, Driver(own_cluster)
    started = time.monotonic()
    stops = []
    member = site.browser()
    await site.log_in(member, "member")
    async with driver.busy():
        await asyncio.sleep(2)
        async with driver.fault("pub/sub connections killed"):
            with redis.Redis.from_url(own_redis.url) as client:
                assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 3
        async with driver.fault("Redis away for 5 s"):
            await asyncio.to_thread(own_redis.stop)
            await asyncio.sleep(5)
            assert (await member.get("/api/v1/me")).code == 200, "sessions need no Redis"
            assert (await member.post("/api/v1/sessions/current/revoke")).code == 204
            await asyncio.to_thread(own_redis.start)
        async with driver.fault("MongoDB away for 3 s"):
            await asyncio.to_thread(own_mongodb.stop)
            await asyncio.sleep(3)
            await asyncio.to_thread(own_mongodb.start)
        async with driver.fault("a node killed"):
            await site.nodes[0].end(signal.SIGKILL)
            await asyncio.sleep(2)
            await site.nodes[0].start()
        await asyncio.sleep(2)  # nginx trusts the node again
        async with driver.fault("rolling restart", 8.0):
            for node in site.nodes:
                stops.append(await node.end())
                await node.start()
                await asyncio.sleep(2)  # nginx trusts it again
    print(f"\n{len(driver.logins)} logins in {time.monotonic() - started:.0f} s")
    for phase in driver.phases:
        print(phase)
    print(f"nodes took {', '.join(f'{seconds:.2f}' for seconds in stops)} s to stop")

    assert not [refusal for phase in driver.phases for refusal in phase.refused]
    assert all(login.confirmed and login.token for login in driver.logins)
    for login in driver.logins:
        answer = await login.browser.get("/api/v1/me")
        assert answer.code == 200, f"an acknowledged exchange has no session: {answer.body!r}"
    assert max(max(phase.recovery, phase.gap) for phase in driver.phases) < RECOVERY
    live = Counter(_live_sessions(site))
    assert set(live.values()) == {1}, "no ticket has two"
    assert set(live) == {login.ticket for login in driver.logins}, "the member has signed out"
    for node in site.nodes:
        said = node.log.read_text()
        assert "Traceback" not in said
        errors = [line for line in said.splitlines() if " ERROR " in line]
        assert all("saoma.storage: MongoDB" in line for line in errors), errors


async def test_a_redis_that_comes_back_empty_costs_a_scan(own_cluster, own_redis):
    site = own_cluster
    member, waiting, confirmed = site.browser(), site.browser(), site.browser()
    collected = await site.log_in(member, "member")
    lost = [await browser.open_login("/login?method=app") for browser in (waiting, confirmed)]
    await site.scan_and_confirm(lost[1])
    pages = [Page(browser, ticket) for browser, ticket in zip((waiting, confirmed), lost, strict=True)]
    await pages[0].told("WAITING")
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
    await asyncio.to_thread(own_redis.stop)
    await asyncio.to_thread(own_redis.start)
    back = time.monotonic()
    seconds = await pages[0].told("INVALID") - back
    print(f"\na page was told that its ticket is gone {seconds:.2f} s after an empty Redis was there")
    assert seconds < RECOVERY
    assert (await confirmed.exchange(lost[1])).code == 404
    assert (await member.exchange(collected)).code == 404, "collected once, and never again"
    assert (await member.get("/api/v1/me")).code == 200
    await site.log_in(waiting, "waiting")
    for page in pages:
        await page.close()


def _live_sessions(site: Site) -> list[str]:
    """The tickets of the live sessions, one entry a session."""
    url = yaml.safe_load(site.nodes[0].settings.read_text())["storage"]["url"]
    with pymongo.MongoClient[dict[str, str]](url) as client:
        found = client.get_default_database()["sessions"].find({"revoked": False})
        return [session["ticket_id"] for session in found]
