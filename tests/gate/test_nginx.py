"""deploy/nginx-forward-auth.conf in front of a page, with the real nginx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import pytest

from handlers.authz import IDENTITY
from storage.records import User
from tests.cluster.processes import Nginx
from tests.cluster.site import SiteBrowser, client
from tests.gate.protected import BODY, ProtectedSite, ask, plain, spoofs
from tests.harness import Browser, Whole, running
from tests.ports import free_port


class GateNginx(Nginx):
    FILE = "nginx-forward-auth.conf"
    CERTIFICATES = "/etc/ssl/app/"

    def __init__(self, program: str, folder: Path, nodes: Sequence[int], site: int) -> None:
        self._site_port = site
        super().__init__(program, folder, nodes)

    def _changes(self, text: str, nodes: Sequence[int]) -> dict[str, str]:
        site = {"server 127.0.0.1:3000;": f"server 127.0.0.1:{self._site_port};"}
        return super()._changes(text, nodes) | site


@dataclass
class Gate:
    whole: Whole
    nginx: GateNginx
    site: ProtectedSite

    def browser(self, of: Browser | None = None) -> SiteBrowser:
        """At the protected site, with the cookies that `of` has of ours: they know no ports."""
        browser = SiteBrowser(self.nginx.base_url, client())
        if of is not None:
            browser.cookies = dict(of.cookies)
        return browser

    async def name(self, ours: Browser) -> User:
        """Somebody logged in gives themselves a name that fits into no header as it is."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await ours.post("/profile", urlencode({"name": "小明: a"}), **form)).code == 303
        user = await self.whole.user(self.whole.person())
        assert user is not None
        return user

    async def logged_in(self) -> tuple[Browser, SiteBrowser]:
        ours = self.whole.browser()
        await self.whole.log_in(ours, self.whole.person())
        return ours, self.browser(ours)


@asynccontextmanager
async def guarded(program: str, folder: Path) -> AsyncIterator[Gate]:
    port = free_port()
    async with ProtectedSite().running() as site:
        nginx = GateNginx(program, folder / "nginx", [port], site.port)
        settings = {"server": {"allowed_redirects": [nginx.base_url]}, "wechat": {"pool_size": 3}}
        async with running(folder, port=port, **settings) as whole:
            await nginx.start()
            try:
                yield Gate(whole, nginx, site)
            finally:
                await nginx.end()


@pytest.fixture
async def gate(nginx_program: str, tmp_path: Path) -> AsyncIterator[Gate]:
    async with guarded(nginx_program, tmp_path) as gate:
        yield gate


async def test_from_the_page_to_the_login_and_back_and_out(gate: Gate):
    address = f"{gate.nginx.base_url}/reports?year=2024&q=%E9%BE%8D"
    visitor = gate.browser()
    sent_away = await visitor.get("/reports?year=2024&q=%E9%BE%8D")
    assert sent_away.code == 302
    assert sent_away.headers["Location"] == f"{gate.whole.base_url}/login?next={quote(address, safe='')}"
    assert gate.site.requests == []

    ours, location = gate.whole.browser(), urlsplit(sent_away.headers["Location"])
    answer = await gate.whole.log_in(ours, gate.whole.person(), f"{location.path}?{location.query}")
    assert answer["next"] == address
    visitor, user = gate.browser(ours), await gate.name(ours)
    page = await visitor.get(address.removeprefix(gate.nginx.base_url))
    assert (page.code, page.body) == (200, BODY)
    assert gate.site.last["Remote-User"] == gate.site.last["X-Auth-Request-User"] == user.id
    assert unquote(gate.site.last["Remote-Name"]) == "小明: a"
    assert not {"Remote-Groups", "Remote-Email", "X-Auth-Request-Email"} & set(gate.site.last)
    assert gate.site.requests[-1].startswith("GET /reports?year=2024&q=%E9%BE%8D ")

    seen = len(gate.site.requests)
    await ours.post("/logout")
    assert (await visitor.get("/reports")).code == 302, "the very next request"
    assert len(gate.site.requests) == seen


async def test_names_that_a_client_makes_up_are_gone(gate: Gate):
    ours, _ = await gate.logged_in()
    cookie = f"Cookie: saoma-session={ours.cookies['saoma-session']}"
    user = await gate.name(ours)
    expected = {
        "Remote-User": [user.id],
        "Remote-Name": [quote(user.name, safe="")],
        "X-Auth-Request-User": [user.id],
        "X-Auth-Request-Preferred-Username": [quote(user.name, safe="")],
    }
    for spoofed in spoofs():
        assert (await ask(gate.nginx.port, cookie, *spoofed)).status == 200
        assert gate.site.told() == expected, spoofed
    left_out = "Connection: close, Remote-User, x-auth-request-user,remote-Name"
    assert (await ask(gate.nginx.port, cookie, left_out)).status == 200
    assert gate.site.told() == expected
    before = len(gate.site.requests)
    assert (await ask(gate.nginx.port, *spoofed)).status == 302
    assert len(gate.site.requests) == before


async def test_the_tests_would_see_a_spoofed_name(gate: Gate):
    """Past nginx they arrive."""
    for name in IDENTITY:
        await ask(gate.site.port, f"{plain(name).lower()}: admin", tls=False)
        assert gate.site.told() == {name: ["admin"]}


async def test_the_site_does_not_get_our_cookie(gate: Gate):
    ours, _ = await gate.logged_in()
    token = ours.cookies["saoma-session"]
    for given, left in {
        f"saoma-session={token}": "",
        f"a=1; saoma-session={token}": "a=1; ",
        f"saoma-session={token}; b=2": "b=2",
        f"a=1; saoma-session={token}; b=2; c=3": "a=1; b=2; c=3",
        f"a=1;saoma-session={token};b=2": "a=1;b=2",
        f"saoma-session=planted; a=1; saoma-session={token}": "",
        f"saoma-session={token}; a=1; saoma-session=planted": "",
        f"my-saoma-session=1; saoma-session={token}": "",
    }.items():
        assert (await ask(gate.nginx.port, f"Cookie: {given}")).status == 200, given
        assert gate.site.last.get("Cookie", "").strip() == left.strip(), given
        assert token not in gate.site.requests[-1]
    program = (
        f"Authorization: Bearer {token}",
        "Cookie: __Secure-saoma-session=x; a=1; __Host-saoma-language=en",
    )
    assert (await ask(gate.nginx.port, *program)).status == 200
    assert gate.site.last["Cookie"] == "a=1; __Host-saoma-language=en"


async def test_while_our_store_is_away_nobody_passes(gate: Gate):
    _, visitor = await gate.logged_in()
    gate.whole.store_goes_away()
    answer = await visitor.get("/")
    assert (answer.code, gate.site.requests) == (302, [])


async def test_while_we_are_away_nobody_passes(gate: Gate):
    _, visitor = await gate.logged_in()
    assert (await visitor.get("/")).code == 200
    await gate.whole.server.stop()
    gate.site.requests.clear()
    assert (await visitor.get("/")).code == 500
    assert gate.site.requests == []
    assert "?" not in gate.nginx.logged


async def test_scripts_are_told_and_pages_are_led(gate: Gate):
    visitor = gate.browser()
    for mode, code in {"navigate": 302, "": 302, "cors": 401, "no-cors": 401, "websocket": 401}.items():
        answer = await visitor.post("/save?a=b", **{"Sec-Fetch-Mode": mode})
        assert answer.code == code, mode
    evil = await visitor.get("/", Host="evil.example")
    assert (evil.code, evil.headers["Location"]) == (302, f"{gate.whole.base_url}/login")
    assert "next" not in parse_qs(urlsplit(evil.headers["Location"]).query)
    assert gate.site.requests == []


async def test_what_the_site_answers_is_its_own_matter(gate: Gate):
    _, visitor = await gate.logged_in()
    assert (await visitor.get("/status/401")).code == 401
    assert "Location" not in (await visitor.get("/status/403")).headers
    assert (await visitor.request("PATCH", "/", body="{}")).code == 200
    assert gate.site.requests[-1].startswith("PATCH / ")
    await visitor.get("/", Upgrade="websocket", Connection="Upgrade")
    assert (gate.site.last["Upgrade"], gate.site.last["Connection"]) == ("websocket", "upgrade")


async def test_plain_http_leads_to_https(gate: Gate):
    answer = await SiteBrowser(f"http://127.0.0.1:{gate.nginx.plain_port}", client()).get("/a?b")
    assert (answer.code, answer.headers["Location"]) == (301, "https://127.0.0.1/a?b")
