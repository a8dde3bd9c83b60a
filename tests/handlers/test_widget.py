"""Our frame on a site's own page, over HTTP: who may show it, and what its ticket is good for."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from tornado.httpclient import HTTPResponse

from oidc.grant import challenge_of
from tests.handlers.relying_party import OTHER, SITE, RelyingParty
from tests.handlers.test_confirm import link_of, say
from tests.harness import Browser, Whole, document, running

SHOP = {**SITE, "backchannel_logout_uri": "https://shop.example.com/ended"}
ORIGIN = "https://shop.example.com"
ELSEWHERE = {**OTHER, "origins": ["https://www.forum.example.com", "https://m.forum.example.com:8443"]}


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    async with running(tmp_path, sites=[SHOP, ELSEWHERE], wechat={"pool_size": 3}) as whole:
        yield whole


class Frame:
    """What saoma.js and our script in the frame do."""

    def __init__(self, whole: Whole, site: dict[str, Any] = SHOP, origin: str = ORIGIN) -> None:
        self.whole = whole
        self.browser = whole.browser()
        self.shop = RelyingParty(whole, site)
        self.origin = origin
        self.id = self.secret = ""

    def query(self, **changes: Any) -> str:
        """A parameter that is None is left out, one that is a list is given more than once."""
        parameters = {
            "client_id": self.shop.site["id"],
            "redirect_uri": self.shop.redirect_uri,
            "scope": "openid profile",
            "state": self.shop.state,
            "nonce": self.shop.nonce,
            "code_challenge": challenge_of(self.shop.verifier),
            "code_challenge_method": "S256",
            "origin": self.origin,
            **changes,
        }
        return urlencode({name: value for name, value in parameters.items() if value is not None}, doseq=True)

    async def page(self, **changes: Any) -> HTTPResponse:
        return await self.browser.get(f"/widget?{self.query(**changes)}")

    async def fetch(self, **changes: Any) -> HTTPResponse:
        """Asks for a ticket."""
        answer = await self.browser.post(f"/widget/tickets?{self.query(**changes)}", **{"X-XSRFToken": ""})
        if answer.code == 201:
            self.id, self.secret = document(answer)["id"], document(answer)["secret"]
        return answer

    async def show(self, **changes: Any) -> Frame:
        answer = await self.fetch(**changes)
        assert answer.code == 201, answer.body
        return self

    async def call(self, method: str, path: str = "", **headers: str) -> HTTPResponse:
        headers = {"Authorization": f"Ticket {self.secret}", "X-XSRFToken": "", **headers}
        return await self.browser.request(method, f"/api/v1/tickets/{self.id}{path}", headers=headers)

    async def exchange(self) -> HTTPResponse:
        return await self.call("POST", "/exchange")

    async def confirmed(self) -> Frame:
        await self.show()
        assert (await self.whole.scan(self.id, self.whole.person())).accepted
        return self

    async def authorization(self) -> dict[str, str]:
        answer = await self.exchange()
        assert answer.code == 200, answer.body
        return document(answer)["authorization"]

    async def tokens(self) -> dict[str, Any]:
        """Those of a login from its beginning."""
        return await self.shop.tokens((await (await self.confirmed()).authorization())["code"])


def framed_by(answer: HTTPResponse) -> str:
    """Who may show the page in a frame, by its policy and by the older header alike."""
    policy = answer.headers["Content-Security-Policy"]
    [ancestors] = [part for part in policy.split("; ") if part.startswith("frame-ancestors")]
    allowed = ancestors.removeprefix("frame-ancestors ")
    assert answer.headers.get("X-Frame-Options") == ("DENY" if allowed == "'none'" else None)
    return allowed


# ---- The frame


async def test_one_origin_may_show_it_and_it_sets_no_cookie(whole):
    frame = Frame(whole)
    answer = await frame.page(lang="en", color_scheme="dark")
    assert answer.code == 200
    assert framed_by(answer) == ORIGIN
    assert answer.headers.get_list("Set-Cookie") == []
    page = answer.body.decode()
    assert f'data-origin="{ORIGIN}"' in page
    assert '<html lang="en">' in page
    assert 'content="dark"' in page
    assert whole.server.context.settings.sites[0].secrets[0] not in page


async def test_a_page_that_only_loads_the_frame_costs_no_code(whole):
    ready = await whole.server.codes.ready()
    page = (await Frame(whole).page()).body.decode()
    assert 'data-ticket=""' in page
    assert await whole.server.codes.ready() == ready


@pytest.mark.parametrize(
    ("scheme", "declared", "dark"),
    [
        ("light", "light", []),
        ("dark", "dark", [""]),
        ("auto", "light dark", [' media="(prefers-color-scheme: dark)"']),
        ('"><script>', "light dark", [' media="(prefers-color-scheme: dark)"']),
    ],
)
async def test_colours(whole, scheme, declared, dark):
    page = (await Frame(whole).page(color_scheme=scheme)).body.decode()
    assert f'<meta name="color-scheme" content="{declared}">' in page
    sheets = [line for line in page.splitlines() if "dark.css" in line]
    assert [line.partition('"')[2].rpartition('"')[2] for line in sheets if "media" not in line] == [
        ">" for media in dark if not media
    ]
    assert [media in sheets[0] for media in dark if media] == [True for media in dark if media]
    assert "><script>" not in page


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": None},
        {"origin": ""},
        {"origin": "null"},
        {"origin": "*"},
        {"origin": "'self'"},
        {"origin": "https://evil.example"},
        {"origin": "http://shop.example.com"},
        {"origin": "https://shop.example.com:8443"},
        {"origin": "https://shop.example.com/"},
        {"origin": "https://shop.example.com.evil.example"},
        {"origin": "https://a.shop.example.com"},
        {"origin": "https://SHOP.example.com"},
        {"origin": "https://shop.example.com https://evil.example"},
        {"origin": "https://shop.example.com; script-src *"},
        {"origin": "https://www.forum.example.com"},
        {"origin": [ORIGIN, ORIGIN]},
        {"origin": [ORIGIN, "https://evil.example"]},
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "forum"},
        {"client_id": ["shop", "shop"]},
        {"client_id": ["shop", "forum"]},
    ],
    ids=str,
)
async def test_no_page_may_show_it_for_a_stranger(whole, changes):
    frame = Frame(whole)
    page, ticket = await frame.page(**changes), await frame.fetch(**changes)
    assert (page.code, ticket.code) == (400, 400)
    assert framed_by(page) == "'none'"
    assert document(ticket)["code"] == "bad_request"
    assert page.headers.get_list("Set-Cookie") + ticket.headers.get_list("Set-Cookie") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": None},
        {"redirect_uri": "https://shop.example.com/callback/"},
        {"redirect_uri": "https://forum.example.com/callback"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": ["https://shop.example.com/callback"] * 2},
        {"state": None},
        {"state": ""},
        {"state": "a" * 1025},
        {"state": ["a", "b"]},
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": ["S256", "plain"]},
        {"nonce": "a" * 513},
        {"scope": ["openid", "profile"]},
    ],
    ids=str,
)
async def test_a_wrong_request_is_shown_to_the_sites_own_page_alone(whole, changes):
    frame = Frame(whole)
    page, ticket = await frame.page(**changes), await frame.fetch(**changes)
    assert (page.code, ticket.code) == (400, 400)
    assert framed_by(page) == ORIGIN
    assert document(ticket)["code"] == "invalid_request"
    assert "data-origin" not in page.body.decode(), "that is the frame itself"


async def test_what_is_no_query(whole):
    for query in (b"client_id=%ff", b"&" * 20 + b"a=b" * 2000):
        for path in ("/widget", "/widget/tickets"):
            method = "GET" if path == "/widget" else "POST"
            answer = await whole.browser().request(method, f"{path}?{query.decode()}")
            assert answer.code == 400


async def test_a_site_with_origins_of_its_own(whole):
    for origin in ELSEWHERE["origins"]:
        frame = Frame(whole, ELSEWHERE, origin)
        assert framed_by(await frame.page()) == origin
        assert (await frame.fetch()).code == 201
    of_redirect = Frame(whole, ELSEWHERE, "https://forum.example.com")
    assert (await of_redirect.page()).code == 400


async def test_all_other_pages_stay_out_of_frames(whole):
    browser = whole.browser()
    for path in ("/", "/login", "/oauth2/logout?a", "/nowhere", "/static/saoma.js"):
        answer = await browser.get(f"{path}?{Frame(whole).query()}")
        assert framed_by(answer) == "'none'", path


async def test_the_script_is_looked_for_anew_each_time(whole):
    answer = await whole.browser().get("/static/saoma.js")
    assert answer.headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Etag"]


# ---- The ticket


async def test_from_the_code_to_the_tokens_without_a_cookie(whole):
    frame = Frame(whole)
    made = await frame.fetch(lang="en")
    shown = document(made)
    assert shown.keys() == {"id", "state", "expires_in", "interval", "secret", "picture", "app_link"}
    assert (shown["state"], shown["expires_in"]) == ("WAITING", 300)
    drawn = base64.b64decode(shown["picture"].removeprefix("data:image/svg+xml;base64,"))
    assert drawn.startswith(b"<svg")
    ticket = await whole.ticket(frame.id)
    assert (ticket.client, ticket.site, ticket.language) == ("widget", "shop", "en")
    assert (await whole.scan(frame.id, whole.person())).accepted
    seen = document(await frame.call("GET", "?wait=5&state=WAITING"))
    assert seen["state"] == "CONFIRMED"
    assert seen["user"]["name"], "the frame itself names who it is"

    collected = await frame.exchange()
    assert document(collected).keys() == {"state", "authorization"}
    answer = document(collected)["authorization"]
    assert answer.keys() == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == (frame.shop.state, whole.base_url)
    assert frame.browser.cookies == {}
    for response in (made, collected):
        assert response.headers.get_list("Set-Cookie") == []

    tokens = await frame.shop.tokens(answer["code"])
    claims = await frame.shop.verified(tokens["id_token"])
    assert claims["sub"] == (await whole.user(whole.person())).id
    assert claims["nonce"] == frame.shop.nonce
    session = await stored_session(whole, claims["sid"])
    assert (session.client, session.site) == ("widget", "shop")
    assert await frame.shop.active(tokens["access_token"])
    assert (await frame.shop.refreshed(tokens["refresh_token"])).code == 200


async def stored_session(whole: Whole, session_id: str) -> Any:
    return await whole.storage.transact(lambda transaction: transaction.sessions.by_id(session_id))


async def test_another_verifier_gets_nothing(whole):
    frame = Frame(whole)
    answer = await (await frame.confirmed()).authorization()
    frame.shop.verifier = "x" * 43
    assert (await frame.shop.token(frame.shop.code_form(answer["code"]))).code == 400


async def test_nobody_collects_without_the_secret(whole):
    frame = await Frame(whole).confirmed()
    for secret in ("", "guess", frame.id):
        stranger = Frame(whole)
        stranger.id, stranger.secret = frame.id, secret
        assert (await stranger.exchange()).code in (403, 404)
        assert (await stranger.call("GET")).code == 404
    assert await frame.authorization()


async def test_a_lost_answer_is_repeated_with_another_code(whole):
    frame = await Frame(whole).confirmed()
    lost, answer = await frame.authorization(), await frame.authorization()
    assert lost["code"] != answer["code"]
    assert (await frame.shop.token(frame.shop.code_form(lost["code"]))).code == 400
    tokens = await frame.shop.tokens(answer["code"])
    whole.clock.pass_(61)
    assert (await frame.exchange()).code in (404, 409)
    assert await frame.shop.active(tokens["refresh_token"])


async def test_a_request_that_is_wrong_by_now(whole):
    frame = await Frame(whole).confirmed()

    def change(ticket):
        return replace(ticket, next="/oauth2/authorize?response_type=code&client_id=gone&redirect_uri=x")

    await whole.storage.transact(
        lambda transaction: transaction.tickets.update(frame.id, change, now=whole.clock())
    )
    answer = await frame.exchange()
    assert (answer.code, document(answer)["code"]) == (400, "invalid_request")


async def test_blocked_after_the_scan(whole):
    frame = await Frame(whole).confirmed()
    user = await whole.user(whole.person())
    await whole.storage.transact(lambda transaction: transaction.users.set_blocked(user.id, True))
    answer = await frame.exchange()
    assert (answer.code, document(answer)["code"]) == (403, "login_refused")


async def test_given_up_and_shown_anew(whole):
    frame = await Frame(whole).confirmed()
    former, secret = frame.id, frame.secret
    given_up = await frame.call("POST", "/abandon")
    assert document(given_up)["state"] == "CANCELLED"
    assert given_up.headers.get_list("Set-Cookie") == []
    await frame.confirmed()
    assert frame.id != former
    assert frame.secret != secret
    assert await frame.authorization()


async def test_too_many_codes(tmp_path):
    limits = {"tickets_per_address": 1}
    async with running(tmp_path, sites=[SHOP], limits=limits, wechat={"pool_size": 3}) as whole:
        await Frame(whole).show()
        answer = await Frame(whole).fetch()
        assert (answer.code, document(answer)["code"]) == (429, "too_many_requests")
        assert int(answer.headers["Retry-After"]) > 0


async def test_phones_get_a_picture_to_press_or_save(whole):
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148"
    for browser, saves in ((f"{phone} Safari/604.1", True), (f"{phone} MicroMessenger/8.0.50", False)):
        frame = Frame(whole)
        frame.browser.headers = {"User-Agent": browser, "Accept-Language": "en"}
        page = (await frame.page()).body.decode()
        assert ('id="save"' in page, "Press the code and hold it" in page) == (saves, not saves)
        drawn = document(await frame.fetch())["picture"].removeprefix("data:image/png;base64,")
        assert base64.b64decode(drawn).startswith(b"\x89PNG")


async def test_the_app_and_what_opens_it(tmp_path):
    app = {"issuer": "https://app.example", "key": "k" * 32, "link": "myteam://login?code={id}"}
    async with running(tmp_path, sites=[SHOP], app=app, wechat={"pool_size": 3}) as whole:
        page = (await Frame(whole).page(method="app")).body.decode()
        assert "method=wechat" in page
        frame = Frame(whole)
        assert document(await frame.fetch(method="app"))["app_link"] == ""
        assert (await whole.ticket(frame.id)).method == "app"
        frame.browser.headers["User-Agent"] = "Mozilla/5.0 (Linux; Android 14) Chrome/140.0"
        opens = document(await frame.fetch(method="app"))["app_link"]
        assert opens == f"myteam://login?code={frame.id}"
        answer = await frame.fetch(method="pigeon")
        assert (answer.code, document(answer)["code"]) == (503, "method_unavailable")


# ---- What the ticket is not good for


async def test_only_our_own_page_asks_for_a_ticket(whole):
    for origin in ("", "null", ORIGIN, "https://evil.example"):
        path = f"/widget/tickets?{Frame(whole).query()}"
        assert (await whole.browser().post(path, Origin=origin)).code == 403


async def test_it_logs_no_browser_in_here(whole):
    frame = await Frame(whole).confirmed()
    browser = whole.browser()
    await browser.open_login()
    xsrf = browser.cookies["saoma-xsrf"]

    async def try_with_cookie(path: str, **fields: str) -> HTTPResponse:
        browser.cookies = {"saoma-xsrf": xsrf, f"saoma-ticket-{frame.id}": frame.secret}
        form = urlencode({"_xsrf": browser.xsrf, **fields})
        return await browser.post(path, form, **{"Content-Type": "application/x-www-form-urlencoded"})

    by_hand = await try_with_cookie("/login", ticket=frame.id, method="wechat", next="/")
    assert by_hand.code == 404
    assert "saoma-session" not in browser.cookies
    collected = await try_with_cookie(f"/api/v1/tickets/{frame.id}/exchange")
    assert document(collected).keys() == {"state", "authorization"}
    assert "saoma-session" not in browser.cookies
    for cookie in collected.headers.get_list("Set-Cookie"):
        assert "session" not in cookie


async def test_a_browsers_ticket_gives_no_code(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    started = await browser.get(shop.authorize_path())
    ticket = await browser.open_login(started.headers["Location"])
    assert (await whole.scan(ticket, whole.person())).accepted
    frame = Frame(whole)
    frame.id, frame.secret = ticket, browser.cookies[f"saoma-ticket-{ticket}"]
    answer = document(await frame.exchange())
    assert answer.keys() == {"state", "user", "next"}


async def test_nobody_orders_one_by_the_other_way(whole):
    answer = await whole.browser().post("/api/v1/tickets", {"client": "widget"})
    assert answer.code == 400


async def test_the_browsers_own_login_is_let_be(whole):
    frame = Frame(whole)
    await whole.log_in(frame.browser, whole.person(1))
    cookies = dict(frame.browser.cookies)
    await frame.tokens()
    assert frame.browser.cookies == cookies
    assert (await frame.browser.get("/api/v1/me")).code == 200


async def test_it_is_no_login_for_other_sites(whole):
    frame = Frame(whole)
    await frame.tokens()
    started = await frame.browser.get(RelyingParty(whole, ELSEWHERE).authorize_path())
    assert started.headers["Location"].startswith("/login?"), "each has to log in there"


async def test_no_frame_is_a_known_browser(tmp_path, monkeypatch):
    confirm = {"confirm": "new_browser", "pool_size": 3}
    async with running(tmp_path, sites=[SHOP], wechat=confirm) as whole:
        remembered: list[Any] = []

        async def remember(*_: Any, **__: Any) -> None:
            remembered.append(_)

        async def known(transaction: Any) -> Any:
            return type(transaction.known_browsers)

        monkeypatch.setattr(await whole.storage.transact(known), "remember", remember)
        person, former = whole.person(), ""
        for _ in range(2):
            frame = await Frame(whole).show()
            await whole.scan(frame.id, person)
            assert (await frame.exchange()).code == 409
            while (link := await link_of(whole, person)) == former:
                await asyncio.sleep(0.01)
            assert (await say(whole, link, "yes")).code == 200
            former = link
            tokens = await frame.shop.tokens((await frame.authorization())["code"])
            assert (await frame.shop.verified(tokens["id_token"]))["acr"] == "urn:saoma:confirmed"
            assert frame.browser.cookies == {}
        assert remembered == [], "nobody could show it again"


# ---- Its end


async def sign_out(browser: Browser, shop: RelyingParty, id_token: str) -> HTTPResponse:
    query = {"id_token_hint": id_token, "post_logout_redirect_uri": "https://shop.example.com/bye"}
    return await browser.get(f"/oauth2/logout?{urlencode(query)}")


async def notices(whole: Whole) -> list[dict[str, Any]]:
    stored = await whole.storage.transact(lambda transaction: transaction.outbox.newest())
    return [json.loads(notice.payload) for notice in stored if notice.endpoint == "logout:shop"]


async def test_the_site_signs_out(whole):
    frame = Frame(whole)
    tokens = await frame.tokens()
    await whole.log_in(frame.browser, whole.person(1))  # another login, of this browser
    left = await sign_out(frame.browser, frame.shop, tokens["id_token"])
    assert (left.code, left.headers["Location"]) == (302, "https://shop.example.com/bye")
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert not await frame.shop.active(token)
    claims = await frame.shop.verified(tokens["id_token"])
    assert [notice["sid"] for notice in await notices(whole)] == [claims["sid"]]
    assert (await frame.browser.get("/api/v1/me")).code == 200


async def test_what_a_browser_holds_is_not_ended_without_its_cookie(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
    await sign_out(whole.browser(), shop, tokens["id_token"])
    assert await shop.active(tokens["access_token"])


async def test_another_sites_token_signs_nobody_out(whole):
    frame, forum = Frame(whole), Frame(whole, ELSEWHERE, ELSEWHERE["origins"][0])
    tokens, others = await frame.tokens(), await forum.tokens()
    await sign_out(frame.browser, forum.shop, others["id_token"][:-5] + "AAAAA")
    assert await forum.shop.active(others["access_token"])
    await frame.browser.get(f"/oauth2/logout?{urlencode({'id_token_hint': others['id_token']})}")
    assert not await forum.shop.active(others["access_token"])
    assert await frame.shop.active(tokens["access_token"])


async def test_unfollowing_ends_it(whole):
    frame = Frame(whole)
    tokens = await frame.tokens()
    assert (await whole.emulator.phone.unfollow(whole.person())).accepted
    assert not await frame.shop.active(tokens["access_token"])
