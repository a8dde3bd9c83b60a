"""A login followed to everywhere it leads, and "not me" on the phone, which ends all of it (rules 3, 25)."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.handlers.relying_party import OTHER, SITE, RelyingParty
from tests.harness import Browser, Whole, document, running
from tests.receiver import LOOPBACK, SECRET, Receiver, receiving
from tests.whole.test_nodes import cluster

CHECKS = ("/api/authz/auth-request", "/api/authz/forward-auth", "/oauth2/auth")
TICKET = "saoma-ticket-"


def listening(receiver: Receiver) -> dict[str, Any]:
    return {
        **SITE,
        "backchannel_logout_uri": f"{receiver.url}/logout",
        "webhook_url": receiver.url,
        "webhook_secret": SECRET,
        "webhook_events": ["session.ended"],
    }


async def press(whole: Whole) -> None:
    """The person opens the newest link in their chat and presses its one button."""
    chat = whole.emulator.platform.people[whole.person()].chat
    link = re.findall(r"/not-me/[\w-]+", "\n".join(entry.text for entry in chat))[-1]
    phone = whole.browser(**{"User-Agent": "MicroMessenger/8.0", "Accept-Language": "en"})
    page = (await phone.get(link)).body.decode()
    assert re.search(r'<form action="" method="post">.*It was not me', page, re.DOTALL)
    ended = await phone.request("POST", link, body="", headers={"Origin": "null", "X-XSRFToken": ""})
    assert (ended.code, "ended everywhere" in ended.body.decode()) == (200, True)


async def let_in(whole: Whole, browser: Browser) -> set[int]:
    """What the page of ours, a program and each kind of proxy are answered."""
    token = browser.cookies["saoma-session"]
    answers = [await browser.get("/api/v1/me")]
    answers += [await browser.get(path) for path in CHECKS]
    answers.append(await whole.browser().get("/api/v1/me", Authorization=f"Bearer {token}"))
    return {answer.code // 100 for answer in answers}


async def test_not_me_ends_one_login_everywhere(tmp_path):
    async with (
        receiving() as receiver,
        running(tmp_path, sites=[listening(receiver), OTHER], server=LOOPBACK) as whole,
    ):
        browser, shop, forum = whole.browser(), RelyingParty(whole, SITE), RelyingParty(whole, OTHER)
        tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
        told = await shop.verified(tokens["id_token"])
        others = await forum.given(browser)
        code = (await forum.authorize(browser))["code"]  # on its way
        (ticket_id,) = (name.removeprefix(TICKET) for name in browser.cookies if name.startswith(TICKET))
        assert await let_in(whole, browser) == {2}
        assert (await shop.userinfo(tokens["access_token"])).code == 200

        await press(whole)
        # At once, whoever asks: we ourselves, proxies, sites by token, by refresh, by code.
        assert await let_in(whole, browser) == {4}
        assert await shop.all_over(tokens)
        assert await forum.all_over(others)
        assert await forum.redeemed(code) == (400, "invalid_grant")
        asked_again = await browser.get(shop.authorize_path())
        assert asked_again.headers["Location"].startswith("/login?next=")
        assert (await browser.exchange(ticket_id)).code in (403, 404, 409)
        # And the site is told, for what it has made of the login by itself.
        notice, logout = sorted(await receiver.has(2, seconds=30), key=lambda message: message.path)
        claims = await shop.verified(logout.form["logout_token"])
        assert (claims["sub"], claims["sid"]) == (told["sub"], told["sid"])
        assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
        data = notice.verified()["data"]
        assert (data["reason"], data["session_id"]) == ("not_me", told["sid"])


async def test_not_me_on_one_node_ends_it_on_all(tmp_path, redis_url, mongodb_url):
    async with cluster(tmp_path, 2, redis_url, mongodb_url, sites=[SITE]) as (near, far):
        here, there, shop = near.browser(), far.browser(), RelyingParty(far)
        await near.log_in(here, near.person(), "/login?method=wechat")
        there.cookies = dict(here.cookies)
        tokens = await shop.given(there)
        assert await let_in(far, there) == {2}
        await press(near)
        assert await let_in(far, there) == {4}
        assert await shop.all_over(tokens)


async def test_not_me_before_the_page_collects(tmp_path):
    """The phone is quicker than the page: there is nothing to collect any more, and the page is told."""
    async with running(tmp_path, sites=[SITE]) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        started = await browser.get(shop.authorize_path())
        ticket_id = await browser.open_login(started.headers["Location"])
        await whole.scan(ticket_id, whole.person())
        async with browser.socket(ticket_id) as socket:
            assert json.loads(await socket.read_message())["state"] == "CONFIRMED"
            await press(whole)
            assert json.loads(await socket.read_message())["state"] == "CANCELLED"
        assert document(await browser.exchange(ticket_id))["code"] == "transition_refused"
        assert "saoma-session" not in browser.cookies
        assert (await browser.get(shop.authorize_path())).headers["Location"].startswith("/login?next=")
