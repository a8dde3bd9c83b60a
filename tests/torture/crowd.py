"""People with phones and browsers who log in, log out, follow, leave and come back, all at once.

They do as the real ones do: WeChat delivers a push up to three times until it is answered, a page asks again
until it is. Whatever they ask and are answered goes into the history.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from emulator import Emulator, Push
from emulator.phone import scan_fields, subscribe_fields
from tests.cluster.page import FAILURES, unhurried
from tests.handlers.test_app import bearer
from tests.harness import Browser, document
from tests.torture.history import APP, FOLLOW, SCAN, UNFOLLOW, WECHAT, Event, History, Login
from tests.torture.stored import Stored
from tickets import hash_secret

TRIES = 3  # WeChat's
REDELIVERY_SECONDS = 0.3  # WeChat's are 5
PATIENCE = 300.0  # seconds that a page goes on asking, on a machine with far too much to do
AWAY = (502, 503, 504)  # no answer to what was asked
SESSION = "saoma-session"


@dataclass(eq=False)
class Person:
    openid: str
    following: bool
    last_event_at: int = 0

    def next_time(self, now: float) -> int:
        """CreateTime of their next event."""
        self.last_event_at = max(int(now), self.last_event_at + 1)
        return self.last_event_at


@dataclass(eq=False)
class Visitor:
    """A browser, and the login that its session is of."""

    browser: Browser
    current: Login | None = None


@dataclass
class Figures:
    pushes: int = 0  # posts of WeChat's, repeats too
    answered: int = 0  # requests of all kinds
    unanswered: int = 0


@dataclass
class Crowd:
    history: History
    emulator: Emulator
    base_url: str
    rng: random.Random
    up: asyncio.Event = field(default_factory=asyncio.Event)  # the server serves
    over: asyncio.Event = field(default_factory=asyncio.Event)  # whoever has begun comes to an end
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=200)
        followers = self.emulator.platform.people.values()
        self._people = [Person(person.openid, person.following) for person in followers]
        self._visitors: list[Visitor] = []
        self._subjects: list[str] = []  # of the app's people

    def close(self) -> None:
        self._client.close()

    async def live(self) -> None:
        """One story after the other."""
        stories: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._by_wechat, 10),
            (self._by_app, 4),
            (self._contested, 1),
            (self._without_a_code, 2),
            (self._given_up, 1),
        ]
        while not self.over.is_set():
            (story,) = self.rng.choices(*zip(*stories, strict=True))
            await story()
            await asyncio.sleep(self.rng.uniform(0, 0.1))

    async def asks_again(self, stored: Stored, most: int) -> list[str]:
        """Whether the sessions' holders are told what is stored, of the newest; returns what is wrong."""
        wrong = []
        collected = [login for login in self.history.logins.values() if login.won]
        for login in collected[-most:]:
            (session,) = stored.sessions[login.id][:1]
            for token in {exchange.token for exchange in login.won}:
                alive = hash_secret(token) == session["token_hash"] and not session["revoked"]
                me = partial(self._browser().get, "/api/v1/me", Authorization=f"Bearer {token}")
                answer = await self._until_answered(me)
                if answer.code != (200 if alive else 401):
                    wrong.append(f"lost: the session of {login.id}: {answer.code}, stored is alive {alive}")
        return wrong

    # Stories.

    async def _by_wechat(self) -> None:
        """One or two browsers at once, and sometimes the person leaves meanwhile."""
        person = self._somebody()
        opened = [await self._opened(WECHAT) for _ in range(self.rng.choice([1, 1, 2]))]
        doing = [self._logged_in(person, *each) for each in opened]
        if self._happens(0.2):
            doing.append(self._leaves(person))
        await asyncio.gather(*doing)
        self._people.append(person)

    async def _logged_in(self, person: Person, visitor: Visitor, login: Login) -> None:
        await asyncio.sleep(self.rng.uniform(0, 0.1))
        await self._scanned(person, login)
        await self._collected(visitor, login)

    async def _by_app(self) -> None:
        visitor, login = await self._opened(APP)
        known = self._subjects and self._happens(0.7)
        subject = self.rng.choice(self._subjects) if known else f"u{len(self._subjects)}"
        self._subjects.append(subject)
        path, token = f"/api/v1/tickets/{login.id}", bearer(subject, jti=secrets.token_hex(8))
        phone = self._browser()
        login.scanners.add(subject)
        scanned = await self._until_answered(lambda: phone.post(f"{path}/scan", **token))
        if scanned.code != 200:
            self.history.complain(f"lost: the app's scan of {login.id}: {scanned.code}")
            return
        handle = {"handle": document(scanned)["handle"]}
        confirmed = await self._until_answered(lambda: phone.post(f"{path}/confirm", handle, **token))
        if confirmed.code != 200:
            self.history.complain(f"lost: the app's yes to {login.id}: {confirmed.code}")
            return
        self.history.confirmed(login, subject)
        await self._collected(visitor, login)

    async def _contested(self) -> None:
        """Two people scan one code."""
        people = self._somebody(), self._somebody()
        visitor, login = await self._opened(WECHAT)
        await asyncio.gather(*(self._scanned(person, login) for person in people))
        await self._collected(visitor, login)
        self._people.extend(people)

    async def _without_a_code(self) -> None:
        person = self._somebody()
        if not person.following:
            await self._pushed(person, FOLLOW, subscribe_fields())
        elif self._happens(0.5):
            await self._leaves(person)
        self._people.append(person)

    async def _given_up(self) -> None:
        visitor, login = await self._opened(WECHAT)
        login.ends_asked += 1
        answer = await self._until_answered(
            lambda: visitor.browser.post(f"/api/v1/tickets/{login.id}/abandon")
        )
        if answer.code == 200:
            login.abandoned = True
        self._visitors.append(visitor)

    # Steps.

    async def _opened(self, method: str) -> tuple[Visitor, Login]:
        visitor = self._visitors.pop() if self._visitors and self._happens(0.3) else Visitor(self._browser())
        while True:
            browser = visitor.browser
            answer = await self._until_answered(partial(browser.get, f"/login?method={method}&wait=1"))
            page = answer.body.decode()
            found = re.search(r'data-ticket="([^"]+)"', page)
            if found and found[1] not in self.history.logins:
                browser.xsrf = re.search(r'data-xsrf="([^"]+)"', page)[1]
                return visitor, self.history.issued(found[1], method)
            visitor = Visitor(self._browser())  # no code was there, or the same ticket was shown again
            await asyncio.sleep(0.05)

    async def _scanned(self, person: Person, login: Login) -> None:
        code = next(code for code in self.emulator.platform.codes.values() if code.scene == login.id)
        kind, fields = (SCAN, scan_fields(code)) if person.following else (FOLLOW, subscribe_fields(code))
        if "/not-me/" in await self._pushed(person, kind, fields, login):
            self.history.confirmed(login, person.openid)

    async def _leaves(self, person: Person) -> None:
        await asyncio.sleep(self.rng.uniform(0, 0.1))
        await self._pushed(person, UNFOLLOW, {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""})

    async def _pushed(self, person: Person, kind: str, fields: dict, login: Login | None = None) -> str:
        """Delivers as WeChat does; the answer in clear, "" where there was none."""
        platform = self.emulator.platform
        event = self.history.event(person.openid, kind, person.next_time(platform.now()), login)
        person.following = platform.people[person.openid].following = kind != UNFOLLOW
        push = self.emulator.courier.build(person.openid, fields, event.created_at)
        for _ in range(TRIES):
            answer = await self._posted(push, event)
            if answer is not None:
                if self._happens(0.1):  # WeChat delivers what was answered, too
                    again = await self._posted(push, event)
                    if again not in (None, answer):
                        self.history.complain(f"double: {kind} of {person.openid} has two answers: {again!r}")
                return answer
            await asyncio.sleep(self.rng.uniform(0, REDELIVERY_SECONDS))
            if self._happens(0.8):
                await self.up.wait()
        return ""

    async def _posted(self, push: Push, event: Event) -> str | None:
        self.figures.pushes += 1
        attempt = await self.emulator.courier.post(push)
        if attempt.fault:
            self.figures.unanswered += 1
            if attempt.status not in (0, 599, *AWAY):
                self.history.complain(f"lost: {event.kind} of {event.openid} was refused: {attempt.fault}")
            return None
        self.figures.answered += 1
        self.history.acknowledged(event)
        return attempt.clear_answer

    async def _collected(self, visitor: Visitor, login: Login) -> None:
        """The exchange, and what comes after it."""
        former, visitor.current = visitor.current, None
        if former is not None:
            former.ends_asked += 1
        if not await self._exchanged(visitor, login):
            return
        if former is not None:
            former.ended = True
        if self._happens(0.2):
            await asyncio.gather(*(self._exchanged(visitor, login) for _ in range(self.rng.choice([1, 3]))))
        if len(login.tokens) != 1:  # which of them the browser has kept, nobody knows
            return
        if self._happens(0.3):
            await self._asks_who(visitor, login)
        if self._happens(0.2):
            await self._logs_out(visitor, login)
        else:
            visitor.current = login
            self._visitors.append(visitor)

    async def _exchanged(self, visitor: Visitor, login: Login) -> bool:
        answer: HTTPResponse | None = None
        while answer is None:
            exchange = self.history.exchange(login, time.monotonic())
            answer = await self._asked(lambda: visitor.browser.exchange(login.id))
            if answer is None:
                self.history.exchanged(login, exchange)
        token, subject = "", ""
        if answer.code == 200:
            token = answer.headers["Set-Cookie"].partition(f"{SESSION}=")[2].partition(";")[0]
            provider = APP if login.method == APP else WECHAT
            identities = document(answer)["user"]["identities"]
            subject = next(each["subject"] for each in identities if each["provider"] == provider)
        now = time.monotonic()
        self.history.exchanged(login, exchange, answer.code, token=token, subject=subject, now=now)
        return answer.code == 200

    async def _asks_who(self, visitor: Visitor, login: Login) -> None:
        answer = await self._until_answered(lambda: visitor.browser.get("/api/v1/me"))
        if answer.code != 200 and not login.end_asked:
            self.history.complain(f"lost: the session of {login.id}: {answer.code}")

    async def _logs_out(self, visitor: Visitor, login: Login) -> None:
        login.ends_asked += 1
        before = self.figures.unanswered
        answer = await self._until_answered(lambda: visitor.browser.post("/api/v1/sessions/current/revoke"))
        if answer.code == 204:
            login.ended = True
            if self._happens(0.5):  # a page that is behind must not bring the login back
                await self._exchanged(visitor, login)
        elif answer.code != 401 or (login.ends_asked == 1 and self.figures.unanswered == before):
            self.history.complain(f"lost: the session of {login.id} before its logout: {answer.code}")

    # How to ask.

    async def _until_answered(self, send: Callable[[], Awaitable[HTTPResponse]]) -> HTTPResponse:
        async with asyncio.timeout(PATIENCE):
            while (answer := await self._asked(send)) is None:
                pass
        return answer

    async def _asked(self, send: Callable[[], Awaitable[HTTPResponse]]) -> HTTPResponse | None:
        """None where no answer came; waits then until there is a server again."""
        try:
            answer = await unhurried(send())
        except FAILURES:
            answer = None
        if answer is not None and answer.code not in AWAY:
            self.figures.answered += 1
            if answer.code == 500:
                self.history.complain(f"broken: {answer.effective_url} is answered with 500")
            return answer
        self.figures.unanswered += 1
        await self.up.wait()
        await asyncio.sleep(self.rng.uniform(0, 0.05))
        return None

    def _browser(self) -> Browser:
        browser = Browser(self.base_url, {})
        browser._client = self._client
        return browser

    def _somebody(self) -> Person:
        """Known or new, following or not; nobody else has them meanwhile."""
        if self._people and self._happens(0.7):
            return self._people.pop(self.rng.randrange(len(self._people)))
        following = self._happens(0.5)
        person = self.emulator.platform.add_person(secrets.token_hex(8), following=following)
        return Person(person.openid, following)

    def _happens(self, probability: float) -> bool:
        return self.rng.random() < probability
