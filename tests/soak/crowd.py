"""Visitors of all kinds at a steady rate: who logs in, who goes away in the middle, who means ill.

Each knows what they have to be answered; what is answered otherwise is kept as wrong.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import WebSocketClientConnection

from emulator import Emulator, Push
from emulator.phone import scan_fields, subscribe_fields
from tests.cluster.site import SiteBrowser
from tests.handlers.relying_party import RelyingParty
from tests.handlers.test_app import bearer
from tests.harness import Wire, document
from tests.torture.crowd import Person
from tests.wires import UPGRADE

ADDRESSES = 500  # that visitors come from
PEOPLE = 200  # who log in again and again, with either method
NEW = 0.02  # of those who scan are new
LOOK_AROUND_SECONDS = 5.0
SILENT_SECONDS = 30.0  # until a server must have closed a connection that says nothing
OVERSIZED = 100_000  # bytes
PATIENCE = 30.0  # seconds, of who waits for what has happened
ENOUGH = ("CONFIRMED", "CANCELLED", "INVALID", "closed")  # then nobody waits any longer

Told = Callable[[str], Awaitable[None]]


class Wrong(Exception):
    """An answer that should have been another."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Wrong(what)


def require_status(answer: HTTPResponse, *expected: int) -> HTTPResponse:
    require(answer.code in expected, f"{answer.request.method} {answer.effective_url}: {answer.code}")
    return answer


class Crowd:
    def __init__(self, emulator: Emulator, port: int, rng: random.Random) -> None:
        self._emulator, self._port, self._rng = emulator, port, rng
        self.base_url = f"http://127.0.0.1:{port}"
        self._over = asyncio.Event()
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=500)
        platform = emulator.platform
        for _ in range(PEOPLE - len(platform.people)):
            platform.add_person(secrets.token_hex(8), following=True)
        self._people = [Person(person.openid, person.following) for person in platform.people.values()]
        self._visits: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()  # visits by kind
        self.logins = 0
        self.wrong: Counter[str] = Counter()
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self._logs_in_by_wechat: 20,
            self._logs_in_by_app: 12,
            self._logs_in_to_the_site: 8,
            self._looks_and_goes: 20,
            self._reloads: 10,
            self._waits_in_vain: 8,
            self._polls_and_goes: 8,
            self._gives_up: 4,
            self._says_no_in_the_app: 3,
            self._leaves: 3,
            self._deceives_the_callback: 6,
            self._guesses: 6,
            self._sends_too_much: 3,
            self._says_nothing: 2,
        }

    def browser(self) -> SiteBrowser:
        """A new visitor's."""
        number = self._rng.randrange(ADDRESSES)
        browser = SiteBrowser(self.base_url, self._client)
        browser.headers["X-Forwarded-For"] = f"198.18.{number // 250}.{number % 250 + 1}"
        return browser

    async def come(self, rate: float, seconds: float) -> None:
        """So many visits a second, for so long; returns when the last has ended."""
        self._over.clear()
        loop, kinds = asyncio.get_running_loop(), tuple(self._kinds)
        start = due = loop.time()
        while due < start + seconds:
            (kind,) = self._rng.choices(kinds, weights=tuple(self._kinds.values()))
            visit = asyncio.create_task(self._visit(kind))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)
            due += self._rng.expovariate(rate)
            await asyncio.sleep(max(0.0, due - loop.time()))
        self._over.set()
        if self._visits:
            await asyncio.wait(self._visits)

    def close(self) -> None:
        self._client.close()

    async def _visit(self, kind: Callable[[], Awaitable[None]]) -> None:
        name = kind.__name__.strip("_").replace("_", " ")
        try:
            await kind()
        except Wrong as wrong:
            self.wrong[f"{name}: {wrong}"] += 1
        except Exception:
            self.wrong[f"{name}: {traceback.format_exc(limit=-3)}"] += 1
        self.done[name] += 1

    # Who logs in.

    async def _logs_in_by_wechat(self) -> None:
        person, browser = self._somebody(), self.browser()
        try:
            ticket_id = await self._opened(browser, "/login")
            async with self._waiting(browser, ticket_id) as told:
                await self._scans(person, ticket_id)
                await told("CONFIRMED")
            await self._collects(browser, ticket_id)
            await self._looks_around(browser)
        finally:
            self._people.append(person)

    async def _logs_in_by_app(self) -> None:
        browser = self.browser()
        await self._enters_by_app(browser, "/login?method=app")
        await self._looks_around(browser)

    async def _logs_in_to_the_site(self) -> None:
        """Some of them go on being logged in there, and some sign out of all."""
        browser, party = self.browser(), RelyingParty(self)
        started = require_status(await browser.get(party.authorize_path()), 302)
        where = await self._enters_by_app(browser, f"{started.headers['Location']}&method=app")
        brought = party.brought(await browser.get(where))
        tokens = await party.tokens(brought["code"])
        await party.verified(tokens["id_token"])
        access = tokens["access_token"]
        require_status(await party.userinfo(access), 200)
        require(await party.redeemed(brought["code"]) == (400, "invalid_grant"), "a code was good twice")
        require(not await party.active(access), "what a code gave outlives its reuse")
        tokens = await party.given(browser)
        if self._happens(0.5) and "refresh_token" in tokens:
            tokens = party.tokens_of(await party.refreshed(tokens["refresh_token"]))
        require(await party.active(tokens["access_token"]), "a token is not active")
        if self._happens(0.5):
            await self._signs_out(browser)
            require(not await party.active(tokens["access_token"]), "a token outlives its session")

    # Who goes away.

    async def _looks_and_goes(self) -> None:
        """A socket that ends without a word."""
        browser = self.browser()
        ticket_id = await self._opened(browser, self._login())
        if self._happens(0.3):
            return
        connection = await browser.connect(ticket_id)
        try:
            require(await self._heard(connection) == "WAITING", "a new ticket does not wait")
            await self._pause(self._rng.uniform(0, 20))
        finally:
            if self._happens(0.5):
                connection.protocol.stream.close()
            connection.close()

    async def _reloads(self) -> None:
        browser, path = self.browser(), self._login()
        ticket_id = await self._opened(browser, path)
        for _ in range(3):
            require(await self._opened(browser, path) == ticket_id, "a reload shows another ticket")
        picture = require_status(await browser.get(f"/api/v1/tickets/{ticket_id}/qr.png"), 200)
        require(picture.body.startswith(b"\x89PNG"), "no picture")

    async def _waits_in_vain(self) -> None:
        """To the ticket's end."""
        browser = self.browser()
        ticket_id = await self._opened(browser, self._login())
        connection = await browser.connect(ticket_id)
        try:
            require(await self._heard(connection) == "WAITING", "a new ticket does not wait")
            ended = asyncio.ensure_future(self._heard(connection))
            await self._unless_over(ended)
            if not ended.done():
                return
            require(ended.result() == "INVALID", f"a ticket's end is told as {ended.result()}")
        finally:
            connection.close()
        require_status(await browser.get(f"/api/v1/tickets/{ticket_id}"), 404)

    async def _polls_and_goes(self) -> None:
        """Long polls; the last is cut off in the middle."""
        browser = self.browser()
        ticket_id = await self._opened(browser, self._login())
        path = f"/api/v1/tickets/{ticket_id}?state=WAITING&wait="
        for _ in range(self._rng.randint(0, 2)):
            answer = require_status(await browser.get(f"{path}{self._rng.randint(1, 3)}"), 200)
            require(document(answer)["state"] == "WAITING", "a long poll tells what is not")
        async with Wire(self._port) as wire:
            await wire.send(self._head("GET", f"{path}20", f"Cookie: {self._cookies(browser)}\r\n"))
            await self._pause(self._rng.uniform(0, 5))

    async def _gives_up(self) -> None:
        browser = self.browser()
        ticket_id = await self._opened(browser, self._login())
        require_status(await browser.post(f"/api/v1/tickets/{ticket_id}/abandon"), 200)
        require(await browser.state(ticket_id) == "INVALID", "a ticket that was given up lives")

    async def _says_no_in_the_app(self) -> None:
        browser, phone = self.browser(), self.browser()
        ticket_id = await self._opened(browser, "/login?method=app")
        path, token = f"/api/v1/tickets/{ticket_id}", bearer(self._subject(), jti=secrets.token_hex(8))
        async with self._waiting(browser, ticket_id) as told:
            scanned = require_status(await phone.post(f"{path}/scan", **token), 200)
            handle = {"handle": document(scanned)["handle"]}
            require_status(await phone.post(f"{path}/cancel", handle, **token), 200)
            await told("CANCELLED")
        require_status(await browser.exchange(ticket_id), 409)

    async def _leaves(self) -> None:
        """An unfollow ends what WeChat's login began."""
        person, browser = self._somebody(), self.browser()
        try:
            ticket_id = await self._opened(browser, "/login")
            await self._scans(person, ticket_id)
            await self._collects(browser, ticket_id)
            require_status(await browser.get("/api/authz/auth-request"), 200)
            await self._pushed(person, {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""}, False)
            require_status(await browser.get("/api/authz/auth-request"), 401)
        finally:
            self._people.append(person)

    # Who means ill, or knows no better.

    async def _deceives_the_callback(self) -> None:
        push = self._emulator.courier.build(secrets.token_hex(14), subscribe_fields())
        forged = [
            replace(push, url=re.sub("msg_signature=.", "msg_signature=x", push.url)),
            replace(push, body=push.body.replace(b"<Encrypt>", b"<Encrypt>A")),
            replace(push, url=push.url.replace("timestamp=1", "timestamp=2")),
            replace(push, body=b"<!DOCTYPE x []>" + push.body[:50]),
        ]
        attempt = await self._emulator.courier.post(self._rng.choice(forged))
        require(
            (attempt.status, attempt.answer) == (403, b""), f"a forgery is answered with {attempt.status}"
        )

    async def _guesses(self) -> None:
        """Tickets, sessions, tokens and codes that there are not; a socket from another site."""
        browser, unknown = self.browser(), secrets.token_urlsafe(18)
        require_status(await browser.get(f"/api/v1/tickets/{unknown}?wait=20"), 404)
        require_status(await browser.exchange(unknown), 403, 404)
        browser.cookies["saoma-session"] = secrets.token_urlsafe(32)
        require_status(await browser.get("/api/authz/auth-request"), 401)
        stranger = {"Authorization": f"Bearer {secrets.token_urlsafe(32)}"}
        require_status(await browser.get("/api/v1/me", **stranger), 401)
        require_status(await browser.get("/oauth2/userinfo", **stranger), 401)
        party = RelyingParty(self)
        require(await party.redeemed(secrets.token_urlsafe(32)) == (400, "invalid_grant"), "a guessed code")
        require_status(await browser.get(f"/{unknown}"), 404)
        ticket_id = await self._opened(browser, self._login())
        async with Wire(self._port) as wire:
            more = f"Cookie: {self._cookies(browser)}\r\nOrigin: https://evil.example.com\r\n"
            await wire.send(
                self._head("GET", f"/websocket/{ticket_id}", more).removesuffix(b"\r\n") + UPGRADE.encode()
            )
            status = (await wire.answer()).status
            require(status == 403, f"a foreign page's socket: {status}")

    async def _sends_too_much(self) -> None:
        body = b"{" + b" " * OVERSIZED
        lengths = f"Content-Length: {len(body)}\r\n"
        for path in ("/api/v1/tickets", "/wechat/callback?signature=x"):
            async with Wire(self._port) as wire:
                with suppress(ConnectionError, EOFError):
                    await wire.send(self._head("POST", path, lengths) + body)
                    status = (await wire.answer(has_body=False)).status
                    require(status in (400, 403, 413), f"{OVERSIZED} bytes to {path}: {status}")
        browser = self.browser()
        connection = await browser.connect(await self._opened(browser, self._login()))
        try:
            await self._heard(connection)
            await connection.write_message("x" * OVERSIZED)
            require(await connection.read_message() is None, "a frame that is too big is taken")
        finally:
            connection.close()

    async def _says_nothing(self) -> None:
        async with Wire(self._port) as wire:
            if self._happens(0.5):
                await wire.send(b"GET / HTTP/1.1\r\nHost: ")
            ended = asyncio.ensure_future(wire._reader.read())
            async with asyncio.timeout(SILENT_SECONDS):
                with suppress(ConnectionError):
                    await ended

    # Steps.

    def _login(self) -> str:
        return self._rng.choice(["/login", "/login?method=app"])

    async def _opened(self, browser: SiteBrowser, path: str) -> str:
        try:
            return await browser.open_login(path)
        except AssertionError as error:
            raise Wrong(f"no ticket at {path}: {str(error)[:500]}") from None

    async def _enters_by_app(self, browser: SiteBrowser, path: str) -> str:
        """Where the browser goes on to, logged in."""
        ticket_id = await self._opened(browser, path)
        path, token = f"/api/v1/tickets/{ticket_id}", bearer(self._subject(), jti=secrets.token_hex(8))
        phone = self.browser()
        async with self._waiting(browser, ticket_id) as told:
            scanned = require_status(await phone.post(f"{path}/scan", **token), 200)
            await told("SCANNED")
            handle = {"handle": document(scanned)["handle"]}
            require_status(await phone.post(f"{path}/confirm", handle, **token), 200)
            await told("CONFIRMED")
        return (await self._collects(browser, ticket_id))["next"]

    async def _collects(self, browser: SiteBrowser, ticket_id: str) -> dict[str, Any]:
        collected = document(require_status(await browser.exchange(ticket_id), 200))
        self.logins += 1
        return collected

    async def _looks_around(self, browser: SiteBrowser) -> None:
        """At pages of ours and of sites behind a proxy that asks us."""
        for path, status in (("/", 200), ("/api/v1/me", 200), ("/account", 200), ("/oauth2/auth", 202)):
            require_status(await browser.get(path), status)
        for _ in range(self._rng.randint(1, 10)):
            require_status(await browser.get("/api/authz/forward-auth"), 200)
            await self._pause(self._rng.uniform(0, LOOK_AROUND_SECONDS))
        if self._happens(0.6):
            await self._signs_out(browser)

    async def _signs_out(self, browser: SiteBrowser) -> None:
        session = browser.cookies["saoma-session"]
        require_status(await browser.post("/api/v1/sessions/current/revoke"), 204)
        browser.cookies["saoma-session"] = session
        require_status(await browser.get("/api/authz/auth-request"), 401)

    async def _scans(self, person: Person, ticket_id: str) -> None:
        codes = reversed(self._emulator.platform.codes.values())  # the newest first, it is among them
        code = next(code for code in codes if code.scene == ticket_id)
        fields = scan_fields(code) if person.following else subscribe_fields(code)
        require("/not-me/" in await self._pushed(person, fields, True), "a scan is not told to the person")

    async def _pushed(self, person: Person, fields: dict[str, Any], follows: bool) -> str:
        """The reply in clear; sometimes WeChat delivers again what was answered."""
        platform = self._emulator.platform
        person.following = platform.people[person.openid].following = follows
        push = self._emulator.courier.build(person.openid, fields, person.next_time(platform.now()))
        answers = {await self._posted(push) for _ in range(self._rng.choice([1, 1, 1, 2]))}
        require(len(answers) == 1, "two answers to one event")
        return answers.pop()

    async def _posted(self, push: Push) -> str:
        attempt = await self._emulator.courier.post(push)
        require(not attempt.fault, f"an event: {attempt.fault}")
        return attempt.clear_answer

    @asynccontextmanager
    async def _waiting(self, browser: SiteBrowser, ticket_id: str) -> AsyncIterator[Told]:
        """As the page does, by a socket or by long polls; gives what returns once a state was told."""
        by_socket, states = self._happens(0.7), asyncio.Queue[str]()
        ways = self._follows_by_socket if by_socket else self._follows_by_polls
        following = asyncio.create_task(ways(browser, ticket_id, states))

        async def told(state: str) -> None:
            async with asyncio.timeout(PATIENCE):
                while (heard := await states.get()) != state:
                    require(heard != "closed", f"{state} was not told")

        try:
            await told("WAITING")
            yield told
            await following
        finally:
            following.cancel()

    async def _follows_by_socket(
        self, browser: SiteBrowser, ticket_id: str, states: asyncio.Queue[str]
    ) -> None:
        connection = await browser.connect(ticket_id)
        try:
            heard = ""
            while heard not in ENOUGH:
                heard = await self._heard(connection)
                states.put_nowait(heard)
        finally:
            connection.close()

    async def _follows_by_polls(
        self, browser: SiteBrowser, ticket_id: str, states: asyncio.Queue[str]
    ) -> None:
        path, known = f"/api/v1/tickets/{ticket_id}", ""
        while known not in ENOUGH:
            answer = await browser.get(f"{path}?wait=20&state={known}" if known else path)
            heard = document(require_status(answer, 200))["state"]
            if heard != known:
                states.put_nowait(heard)
            known = heard

    async def _heard(self, connection: WebSocketClientConnection) -> str:
        message = await connection.read_message()
        return json.loads(message)["state"] if message is not None else "closed"

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._over.is_set() else seconds):
                await self._over.wait()

    async def _unless_over(self, coming: asyncio.Future[Any]) -> None:
        """Returns when it is there, or all is over."""
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({coming, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()

    def _cookies(self, browser: SiteBrowser) -> str:
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

    def _head(self, method: str, path: str, more: str) -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{more}\r\n".encode()

    def _somebody(self) -> Person:
        """Nobody else has them meanwhile."""
        if self._people and not self._happens(NEW):
            return self._people.pop(self._rng.randrange(len(self._people)))
        following = self._happens(0.5)
        person = self._emulator.platform.add_person(secrets.token_hex(8), following=following)
        return Person(person.openid, following)

    def _subject(self) -> str:
        return secrets.token_hex(8) if self._happens(NEW) else f"u{self._rng.randrange(PEOPLE)}"

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability
