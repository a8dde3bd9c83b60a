"""Each secret is changed while people log in: no login fails, whoever is logged in stays so, pages go on.

The server starts three times: with the old value; with the new one and the old as `previous_…`, after which
the other side changes too; with the new one alone. Meanwhile people try again as pages, apps and WeChat do.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey
from tornado.httpclient import HTTPClientError

from emulator import Emulator
from tests.handlers.relying_party import SITE, RelyingParty
from tests.harness import Browser, Whole, document, new_account, running
from tests.ports import free_port
from tests.receiver import LOOPBACK, Receiver, receiving

PATIENCE = 20.0
ROUNDS = 1  # of each kind of login, in each of the three times
ISSUER = "https://app.example.com"

Result = TypeVar("Result")
Settings = dict[str, dict[str, Any]]


def webhook_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@dataclass
class Others:
    """Who shares a secret with the server: WeChat's console, the app's backend, a site."""

    emulator: Emulator
    receiver: Receiver
    app_key: Key = field(default_factory=lambda: OctKey.import_key(secrets.token_hex(32)))
    site_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    webhook_secret: str = field(default_factory=webhook_secret)

    @property
    def settings(self) -> Settings:
        account = self.emulator.platform.account
        return {
            "app": {"key": setting_of(self.app_key)},
            "wechat": {"secret": account.secret, "token": account.token},
            "site": {"secret": self.site_secret, "webhook_secret": self.webhook_secret},
            "server": {},
        }

    def in_console(self, **values: str) -> None:
        self.emulator.platform.account = replace(self.emulator.platform.account, **values)

    def bearer(self, subject: str) -> dict[str, str]:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "saoma", "sub": subject, "iat": now, "exp": now + 60}
        header = {"alg": "HS256" if isinstance(self.app_key, OctKey) else "ES256"}
        token = jwt.encode(header, {**claims, "jti": secrets.token_hex(8)}, self.app_key)
        return {"Authorization": f"Bearer {token}"}

    def verify_webhooks(self) -> int:
        """Takes what has come: all of it is signed with the secret that they know now."""
        received, self.receiver.received[:] = list(self.receiver.received), []
        for message in received:
            message.verified(self.webhook_secret)
        return len(received)


def setting_of(key: Key) -> str:
    if isinstance(key, OctKey):
        return key.raw_value.decode()
    return key.as_pem(private=False).decode()


class Rotation:
    """How one secret changes: settings over those of before, and what the others do in between."""

    def old(self, others: Others) -> Settings:
        return {}

    def overlap(self, others: Others) -> Settings:
        raise NotImplementedError

    def new(self, others: Others) -> Settings:
        raise NotImplementedError

    def others_change(self, others: Others) -> None:
        """The console, the backend or the site uses the new value from now on."""


class SecretKey(Rotation):
    former, fresh = secrets.token_hex(32), secrets.token_hex(32)

    def old(self, others):
        return {"server": {"secret_key": self.former}}

    def overlap(self, others):
        return {"server": {"secret_key": self.fresh, "previous_secret_key": self.former}}

    def new(self, others):
        return {"server": {"secret_key": self.fresh}}


class KeptSecretKey(Rotation):
    """The one that saoma made itself."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "data" / "secret.key"

    def overlap(self, others):
        former = self.place.read_text()
        self.place.unlink()
        return {"server": {"previous_secret_key": former}}

    def new(self, others):
        return {}


class AppKey(Rotation):
    def __init__(self, fresh: Key) -> None:
        self.fresh = fresh

    def overlap(self, others):
        return {"app": {"key": setting_of(self.fresh), "previous_key": setting_of(others.app_key)}}

    def new(self, others):
        return {"app": {"key": setting_of(self.fresh)}}

    def others_change(self, others):
        others.app_key = self.fresh


class InConsole(Rotation):
    def __init__(self, name: str, fresh: str) -> None:
        self.name, self.fresh = name, fresh

    def overlap(self, others):
        former = getattr(others.emulator.platform.account, self.name)
        return {"wechat": {self.name: self.fresh, f"previous_{self.name}": former}}

    def new(self, others):
        return {"wechat": {self.name: self.fresh}}

    def others_change(self, others):
        others.in_console(**{self.name: self.fresh})


class AppSecret(Rotation):
    """WeChat forgets the former one at once, and lets its access token live on."""

    fresh = secrets.token_hex(16)

    def overlap(self, others):
        others.in_console(secret=self.fresh)
        return self.new(others)

    def new(self, others):
        return {"wechat": {"secret": self.fresh}}


class OfSite(Rotation):
    def __init__(self, name: str, theirs: str, fresh: str) -> None:
        """`theirs` is what the site itself calls it."""
        self.name, self.theirs, self.fresh = name, theirs, fresh

    def overlap(self, others):
        return {"site": {self.name: self.fresh, f"previous_{self.name}": getattr(others, self.theirs)}}

    def new(self, others):
        return {"site": {self.name: self.fresh}}

    def others_change(self, others):
        assert others.verify_webhooks() > 0
        setattr(others, self.theirs, self.fresh)


class People:
    """They log in, in every way, and try again where the server is just not there."""

    def __init__(self, others: Others, port: int) -> None:
        self.others = others
        self.whole: Whole | None = None  # None: between two starts
        self.base_url = f"http://127.0.0.1:{port}"
        self.logged_in: list[Browser] = []
        self.rounds = {self.with_app.__name__: 0, self.with_wechat.__name__: 0}
        self._over = False
        self._loops: list[asyncio.Task[None]] = []

    def browser(self) -> Browser:
        return Browser(self.base_url, {})

    async def persist(self, send: Callable[[], Awaitable[Result]]) -> Result:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await send()
            except (OSError, HTTPClientError):  # no answer; every other answer must be the right one
                assert time.monotonic() < deadline, "the server does not come back"
                await asyncio.sleep(0.02)

    async def up(self) -> Whole:
        while self.whole is None:
            await asyncio.sleep(0.005)
        return self.whole

    async def app(self, what: str, ticket: str, subject: str, **body: str) -> dict[str, Any]:
        path = f"/api/v1/tickets/{ticket}/{what}"
        answer = await self.persist(lambda: self.browser().post(path, body, **self.others.bearer(subject)))
        assert answer.code == 200, (what, answer.body)
        return document(answer)

    async def collect(self, browser: Browser, ticket: str) -> None:
        collected = await self.persist(lambda: browser.exchange(ticket))
        assert collected.code == 200, collected.body
        self.logged_in.append(browser)

    async def scan(self, ticket: str, person: str) -> None:
        """Until WeChat is content: it delivers again, and then the person scans again."""
        deadline = time.monotonic() + PATIENCE
        code = await self.code_of(ticket)
        while not (outcome := await self.others.emulator.phone.scan(person, code)).accepted:
            refused = [attempt.status for attempt in outcome.attempts if attempt.status not in (0, 503)]
            assert not refused, "WeChat was turned away"
            assert time.monotonic() < deadline, "WeChat is never answered"
            await asyncio.sleep(0.02)

    async def code_of(self, ticket: str) -> str:
        codes = self.others.emulator.platform.codes.values()
        return next(code.url for code in codes if code.scene == ticket)

    async def with_app(self, number: int) -> None:
        subject, browser = f"person {number} of the app", self.browser()
        ticket = await self.persist(lambda: browser.open_login("/login?method=app"))
        handle = (await self.app("scan", ticket, subject))["handle"]
        await self.app("confirm", ticket, subject, handle=handle)
        await self.collect(browser, ticket)

    async def with_wechat(self, number: int) -> None:
        browser = self.browser()
        ticket = await self.persist(browser.open_login)
        people = list(self.others.emulator.platform.people)
        await self.scan(ticket, people[number % len(people)])
        await self.collect(browser, ticket)
        await self.at_the_site(browser)

    async def at_the_site(self, browser: Browser) -> None:
        """The site gets its tokens for whoever is logged in."""
        whole = await self.up()
        site = {**SITE, "secret": self.others.site_secret}
        tokens = await self.persist(lambda: RelyingParty(whole, site).given(browser))
        assert tokens["id_token"]

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """They log in again and again, until `stop`."""
        async with asyncio.TaskGroup() as loops:
            for log_in in (self.with_app, self.with_wechat):
                self._loops.append(loops.create_task(self._again_and_again(log_in)))
            yield

    async def stop(self) -> None:
        """Returns when each has ended its last login."""
        self._over = True
        await asyncio.wait(self._loops)

    async def _again_and_again(self, log_in: Callable[[int], Awaitable[None]]) -> None:
        number = 0
        while not self._over:
            await log_in(number)
            number += 1
            self.rounds[log_in.__name__] += 1

    async def more_rounds(self) -> None:
        """Of each kind, begun and ended from now on: the one that is going on does not count."""
        before = dict(self.rounds)
        async with asyncio.timeout(PATIENCE):
            while any(self.rounds[kind] < before[kind] + ROUNDS + 1 for kind in before):
                await asyncio.sleep(0.005)


class Open:
    """What stands open while the server starts anew."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def begin(self) -> None:
        people = self._people
        self.member = people.browser()
        self.member_ticket = await people.persist(lambda: self.member.open_login("/login?method=app"))
        self.handle = (await people.app("scan", self.member_ticket, "waits"))["handle"]
        self.visitor = people.browser()
        self.visitor_ticket = await people.persist(self.visitor.open_login)
        self.returning = people.logged_in[0]
        self.site = RelyingParty(await people.up(), {**SITE, "secret": people.others.site_secret})
        path = self.site.authorize_path(prompt="login")
        asked = await people.persist(lambda: self.returning.get(path))
        self.login_page = asked.headers["Location"]
        self.tokens = await people.persist(
            lambda: RelyingParty(self.site.whole, self.site.site).given(self.returning)
        )

    async def go_on(self) -> None:
        people = self._people
        await people.app("confirm", self.member_ticket, "waits", handle=self.handle)
        await people.collect(self.member, self.member_ticket)
        await people.scan(self.visitor_ticket, list(people.others.emulator.platform.people)[1])
        await people.collect(self.visitor, self.visitor_ticket)
        # Who was sent to log in anew comes back to the site with that: the note in the address still holds.
        ticket = await people.persist(lambda: self.returning.open_login(self.login_page))
        await people.scan(ticket, list(people.others.emulator.platform.people)[2])
        collected = await people.persist(lambda: self.returning.exchange(ticket))
        back = await people.persist(lambda: self.returning.get(document(collected)["next"]))
        assert "code" in self.site.brought(back)
        keys = KeySet.import_key_set(
            document(await people.persist(lambda: people.browser().get("/oauth2/jwks")))
        )
        jwt.decode(self.tokens["id_token"], keys, algorithms=["RS256"])


def rotations(folder: Path) -> dict[str, Rotation]:
    return {
        "server.secret_key": SecretKey(),
        "server.secret_key of our own": KeptSecretKey(folder),
        "app.key": AppKey(OctKey.import_key(secrets.token_hex(32))),
        "app.key, which becomes a public one": AppKey(ECKey.generate_key("P-256")),
        "wechat.token": InConsole("token", secrets.token_hex(8)),
        "wechat.encoding_aes_key": InConsole("encoding_aes_key", secrets.token_hex(22)[:43]),
        "wechat.secret": AppSecret(),
        "sites.secret": OfSite("secret", "site_secret", secrets.token_hex(32)),
        "sites.webhook_secret": OfSite("webhook_secret", "webhook_secret", webhook_secret()),
    }


@pytest.mark.parametrize("name", rotations(Path()))
async def test_a_secret_changes_while_people_log_in(tmp_path, name):
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        emulator = Emulator.start(new_account(), timeout=4.0)
        stack.push_async_callback(emulator.stop)
        others, rotation, port = Others(emulator, receiver), rotations(tmp_path)[name], free_port()
        people = People(others, port)

        @asynccontextmanager
        async def started(change: Settings) -> AsyncIterator[None]:
            given = {section: {**values, **change.get(section, {})} for section, values in agreed.items()}
            site = {**SITE, "webhook_url": receiver.url, **given["site"]}
            app = {"issuer": ISSUER, **given["app"]}
            async with running(
                tmp_path,
                emulator=emulator,
                port=port,
                app=app,
                wechat={**given["wechat"], "pool_size": 3},
                server={**LOOPBACK, **given["server"]},
                sites=[site],
                limits={"enabled": False},
            ) as whole:
                people.whole = whole
                try:
                    yield
                finally:
                    people.whole = None

        agreed = others.settings
        opened = Open(people)
        async with people.busy():
            async with started(rotation.old(others)):
                await people.more_rounds()
                await opened.begin()
            async with started(rotation.overlap(others)):
                await people.more_rounds()
                rotation.others_change(others)
                await people.more_rounds()
                await opened.go_on()
                await opened.begin()
            async with started(rotation.new(others)):
                await people.more_rounds()
                await opened.go_on()
                for browser in people.logged_in:
                    answer = await people.persist(partial(browser.get, "/api/v1/me"))
                    assert answer.code == 200, "a session that did not survive"
                await people.stop()
        assert others.verify_webhooks() > 0
