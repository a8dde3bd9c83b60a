"""`wechat.confirm`: the scan, the message with the link, the page that asks, what a known browser saves."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlencode

import pytest

from flows import admin
from tests.handlers.relying_party import SITE, RelyingParty
from tests.harness import Browser, Whole, document, running
from tickets import hash_secret
from wechat.callback import Mode


async def link_of(whole: Whole, person: str, path: str = "/confirm/") -> str:
    """The path of the newest link of that kind in the person's chat, once it has come."""
    async with asyncio.timeout(5):
        while True:
            texts = [entry.text for entry in whole.emulator.platform.people[person].chat]
            links = re.findall(rf"{re.escape(whole.base_url)}({path}\S+)", "\n".join(texts))
            if links:
                return links[-1]
            await asyncio.sleep(0.01)


async def say(whole: Whole, link: str, answer: str):
    """The phone's browser presses a button; it has no cookie of ours, and no script."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "X-XSRFToken": ""}
    return await whole.browser(**{"Accept-Language": "en"}).post(link, urlencode({"answer": answer}), **form)


async def log_in_with_a_yes(whole: Whole, browser: Browser, person: str) -> None:
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    assert await browser.state(ticket_id) == "SCANNED"
    assert (await say(whole, await link_of(whole, person), "yes")).code == 200
    assert (await browser.exchange(ticket_id)).code == 200


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, wechat={"confirm": "always"}) as whole:
        yield whole


async def test_a_yes(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    seen = document(await browser.get(f"/api/v1/tickets/{ticket_id}"))
    assert (seen["state"], bool(seen["user"]["name"])) == ("SCANNED", True)
    assert (await browser.exchange(ticket_id)).code == 409
    link = await link_of(whole, person)
    page = (await whole.browser(**{"Accept-Language": "en"}).get(link)).body.decode()
    for told in ("Log in to saoma?", "Chrome", "Windows", "127.0.0.1", "Confirm the login", "not me, cancel"):
        assert told in page
    assert await browser.state(ticket_id) == "SCANNED"  # looking changes nothing
    answered = await say(whole, link, "yes")
    assert (answered.code, "Confirmed" in answered.body.decode()) == (200, True)
    assert await browser.state(ticket_id) == "CONFIRMED"
    assert (await browser.exchange(ticket_id)).code == 200
    assert (await browser.get("/api/v1/me")).code == 200
    assert (await say(whole, link, "yes")).code == 404  # once


async def test_a_no(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    link = await link_of(whole, person)
    answered = await say(whole, link, "no")
    assert (answered.code, "Cancelled" in answered.body.decode()) == (200, True)
    assert await browser.state(ticket_id) == "CANCELLED"
    assert (await say(whole, link, "yes")).code == 404
    assert (await browser.exchange(ticket_id)).code == 409


async def test_the_way_back_after_a_yes(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    page = (await say(whole, await link_of(whole, person), "yes")).body.decode()
    assert (await browser.exchange(ticket_id)).code == 200
    not_me = re.search(rf'href="{re.escape(whole.base_url)}(/not-me/[^"]+)"', page)[1]
    assert (await say(whole, not_me, "")).code == 200
    assert (await browser.get("/api/v1/me")).code == 401


async def test_nothing_that_confirms_is_in_the_passive_reply(whole):
    browser, person = whole.browser(), whole.person()
    outcome = await whole.scan(await browser.open_login(), person)
    assert outcome.accepted
    link = await link_of(whole, person)
    assert link.removeprefix("/confirm/") not in repr(outcome)


async def test_a_second_scan_sends_another_link(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    first = await link_of(whole, person)
    await whole.scan(ticket_id, person)
    async with asyncio.timeout(5):
        while (second := await link_of(whole, person)) == first:
            await asyncio.sleep(0.01)
    assert (await say(whole, second, "yes")).code == 200
    assert (await say(whole, first, "no")).code == 409
    assert await browser.state(ticket_id) == "CONFIRMED"


async def test_too_late(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    link = await link_of(whole, person)
    whole.clock.pass_(400)
    assert (await whole.browser().get(link)).code == 404
    assert (await say(whole, link, "yes")).code == 404


async def test_blocked_meanwhile(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    link, user = await link_of(whole, person), await whole.user(person)
    await whole.storage.transact(lambda transaction: transaction.users.set_blocked(user.id, True))
    assert (await say(whole, link, "yes")).code == 403
    assert await browser.state(ticket_id) == "SCANNED"


async def test_the_tokens_say_that_the_person_agreed(tmp_path):
    async with running(tmp_path, wechat={"confirm": "always"}, sites=[SITE]) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        await log_in_with_a_yes(whole, browser, whole.person())
        tokens = await shop.tokens((await shop.authorize(browser))["code"])
        claims = await shop.verified(tokens["id_token"])
        assert (claims["amr"], claims["acr"]) == (["wechat", "user"], "urn:saoma:confirmed")


async def test_a_browser_that_the_person_used_before(tmp_path):
    async with running(tmp_path, wechat={"confirm": "new_browser"}) as whole:
        browser, person = whole.browser(), whole.person()
        await log_in_with_a_yes(whole, browser, person)
        device = browser.cookies["saoma-browser"]
        await whole.log_in(browser, person)  # no question this time
        assert browser.cookies["saoma-browser"] == device
        # Nor is it known for anybody else, nor any other browser for this person.
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, whole.person(1))
        assert await browser.state(ticket_id) == "SCANNED"
        other = whole.browser()
        ticket_id = await other.open_login()
        await whole.scan(ticket_id, person)
        assert await other.state(ticket_id) == "SCANNED"


async def test_after_a_not_me_no_browser_is_known(tmp_path):
    """Whoever was talked into a yes for an attacker's browser must not be in for more."""
    async with running(tmp_path, wechat={"confirm": "new_browser"}) as whole:
        attacker, person = whole.browser(), whole.person()
        ticket_id = await attacker.open_login()
        await whole.scan(ticket_id, person)
        page = (await say(whole, await link_of(whole, person), "yes")).body.decode()
        assert (await attacker.exchange(ticket_id)).code == 200
        not_me = re.search(rf'href="{re.escape(whole.base_url)}(/not-me/[^"]+)"', page)[1]
        assert (await say(whole, not_me, "")).code == 200
        ticket_id = await attacker.open_login()
        await whole.scan(ticket_id, person)
        assert await attacker.state(ticket_id) == "SCANNED"


@pytest.mark.parametrize("mode", [Mode.SAFE, Mode.PLAIN])
async def test_the_link_is_for_this_question_alone(tmp_path, mode):
    """128 bits, hashed, one purpose, over with its ticket, no referrer (security rule 5)."""
    async with running(tmp_path, mode=mode, wechat={"confirm": "always"}) as whole:
        browser, person = whole.browser(), whole.person()
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, person)
        link = await link_of(whole, person)
        token = link.removeprefix("/confirm/")
        assert len(token) * 6 >= 128
        for other in (f"/not-me/{token}", f"{admin.PATH}{token}"):
            assert (await whole.browser().get(other)).code == 404
        assert (await whole.browser().get(link)).headers["Referrer-Policy"] == "no-referrer"

        async def stored(transaction):
            plain = await transaction.links.get(token.encode(), now=0)
            return plain, await transaction.links.get(hash_secret(token), now=whole.clock())

        plain, known = await whole.storage.transact(stored)
        assert plain is None
        assert (known.purpose, known.ticket_id) == ("confirm", ticket_id)
        assert known.expires_at == (await whole.ticket(ticket_id)).expires_at


async def test_a_planted_device_cookie_does_not_become_the_victims(tmp_path):
    async with running(tmp_path, wechat={"confirm": "new_browser"}) as whole:
        victim, attacker = whole.browser(), whole.browser()
        victim.cookies["saoma-browser"] = attacker.cookies["saoma-browser"] = "known to the attacker"
        await log_in_with_a_yes(whole, victim, whole.person())
        assert victim.cookies["saoma-browser"] != attacker.cookies["saoma-browser"]
        ticket_id = await attacker.open_login()
        await whole.scan(ticket_id, whole.person())
        assert await attacker.state(ticket_id) == "SCANNED"


async def test_logins_that_nobody_was_asked_for_make_no_browser_known(tmp_path):
    async with running(tmp_path / "before") as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        assert "saoma-browser" not in browser.cookies


async def test_in_plain_mode_too(tmp_path):
    async with running(tmp_path, mode=Mode.PLAIN, wechat={"confirm": "always"}) as whole:
        await log_in_with_a_yes(whole, whole.browser(), whole.person())


async def test_a_refusal_is_in_the_login_log(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, person)
    link, user = await link_of(whole, person), await whole.user(person)
    await whole.storage.transact(lambda transaction: transaction.users.set_blocked(user.id, True))
    for _ in range(2):
        assert (await say(whole, link, "yes")).code == 403
    lines = await whole.storage.transact(lambda transaction: transaction.logins.newest())
    assert [(line.result, line.user_id) for line in lines] == [("login_refused", user.id)]
