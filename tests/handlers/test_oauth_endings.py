"""Rule 25: sign-out, "not me", block and unfollow turn `active` false at once; so does any other end."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from flows import people
from tests.handlers.relying_party import OTHER, PUBLIC, SITE, SITES, RelyingParty, told
from tests.harness import Browser, Whole, running

Ending = Callable[[Whole, Browser, str], Awaitable[None]]


async def sign_out(whole: Whole, browser: Browser, link: str) -> None:
    page = (await browser.get("/")).body.decode()
    browser.xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]
    assert (await browser.post("/logout", "")).code == 303


async def revoke_by_interface(whole: Whole, browser: Browser, link: str) -> None:
    assert (await browser.post("/api/v1/sessions/current/revoke")).code == 204


async def not_me(whole: Whole, browser: Browser, link: str) -> None:
    phone = whole.browser()
    assert (await phone.get(link)).code == 200
    assert (await phone.post(link, "")).code == 200


async def unfollow(whole: Whole, browser: Browser, link: str) -> None:
    whole.clock.pass_(2)
    outcome = await whole.emulator.phone.unfollow(whole.person())
    assert outcome is not None
    assert outcome.accepted


async def mark_blocked(whole: Whole, browser: Browser, link: str) -> None:
    """The mark alone, as on another node a moment before the sessions end."""
    user = await whole.user(whole.person())

    async def work(transaction):
        await transaction.users.set_blocked(user.id, True)

    await whole.storage.transact(work)


async def block(whole: Whole, browser: Browser, link: str) -> None:
    await people.set_blocked(whole.server.context, (await whole.user(whole.person())).id, True)


async def block_and_unblock(whole: Whole, browser: Browser, link: str) -> None:
    """What was ended stays ended."""
    await block(whole, browser, link)
    await people.set_blocked(whole.server.context, (await whole.user(whole.person())).id, False)


async def forget(whole: Whole, browser: Browser, link: str) -> None:
    await people.forget(whole.server.context, (await whole.user(whole.person())).id)


async def log_in_again(whole: Whole, browser: Browser, link: str) -> None:
    """In the same browser: its former session ends (rule 11)."""
    await whole.log_in(browser, whole.person())


async def log_in_as_another(whole: Whole, browser: Browser, link: str) -> None:
    await whole.log_in(browser, whole.person(1))


async def do_nothing_for_a_week(whole: Whole, browser: Browser, link: str) -> None:
    whole.clock.pass_(604_800)


async def come_to_the_absolute_end(whole: Whole, browser: Browser, link: str) -> None:
    for _ in range(5):
        whole.clock.pass_(6 * 86400)
        await browser.get("/api/v1/me")


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=SITES, wechat={"pool_size": 0}) as whole:
        yield whole


async def log_in(whole: Whole, browser: Browser) -> str:
    """Returns the path of the "not me" link in the phone's message."""
    ticket_id = await browser.open_login()
    outcome = await whole.scan(ticket_id, whole.person())
    assert (await browser.exchange(ticket_id)).code == 200
    return urlsplit(re.search(r"http\S+/not-me/\S+", outcome.reply_text)[0]).path


@pytest.mark.parametrize(
    "ending",
    [
        sign_out,
        revoke_by_interface,
        not_me,
        unfollow,
        mark_blocked,
        block,
        block_and_unblock,
        forget,
        log_in_again,
        log_in_as_another,
        do_nothing_for_a_week,
        come_to_the_absolute_end,
    ],
    ids=lambda ending: ending.__name__,
)
async def test_rule_25_with_the_login_all_that_it_gave_is_over_at_once(whole, ending: Ending):
    browser = whole.browser()
    link = await log_in(whole, browser)
    sites = [RelyingParty(whole, site) for site in (SITE, OTHER, PUBLIC)]
    given = [await site.given(browser) for site in sites]
    code = (await sites[0].authorize(browser))["code"]
    # The public one alone is not asked by refresh: that would be a use of the login.
    assert all(
        [
            await site.active(tokens["refresh_token"])
            for site, tokens in zip(sites[:2], given[:2], strict=True)
        ]
    )
    await ending(whole, browser, link)
    for site, tokens in zip(sites, given, strict=True):
        assert await site.all_over(tokens)
    assert await sites[0].redeemed(code) == (400, "invalid_grant")


async def test_another_browsers_login_goes_on(whole):
    first, second, shop = whole.browser(), whole.browser(), RelyingParty(whole)
    link = await log_in(whole, first)
    await log_in(whole, second)
    tokens, others = await shop.given(first), await shop.given(second)
    await not_me(whole, first, link)
    assert await shop.all_over(tokens)
    assert await shop.active(others["access_token"])


async def test_after_an_unfollow_the_login_goes_on_where_the_settings_keep_it(tmp_path):
    wechat = {"unfollow": "keep_sessions", "pool_size": 0}
    async with running(tmp_path, sites=SITES, wechat=wechat) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        link = await log_in(whole, browser)
        tokens = await shop.given(browser)
        await unfollow(whole, browser, link)
        assert await shop.active(tokens["access_token"])


async def test_who_uses_the_tokens_keeps_the_login_alive_and_no_longer_than_its_end(whole):
    """A site's program that refreshes is a use of the login, as a page view would be."""
    browser, shop = whole.browser(), RelyingParty(whole)
    await log_in(whole, browser)
    tokens = await shop.given(browser)
    for _ in range(4):
        whole.clock.pass_(6 * 86400)
        tokens = shop.tokens_of(await shop.refreshed(tokens["refresh_token"]))
    assert (await browser.get("/api/v1/me")).code == 200
    whole.clock.pass_(6 * 86400)
    assert await shop.all_over(tokens)


async def test_a_site_that_was_taken_out_of_the_settings_learns_no_more(tmp_path):
    async with running(tmp_path, sites=SITES, wechat={"pool_size": 0}) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        await log_in(whole, browser)
        tokens = await shop.given(browser)
        assert (await shop.userinfo(tokens["access_token"])).code == 200
    async with running(tmp_path, sites=[OTHER], wechat={"pool_size": 0}) as whole:
        shop = RelyingParty(whole)
        assert (await shop.userinfo(tokens["access_token"])).code == 401
        assert told(await shop.refreshed(tokens["refresh_token"])) == (401, "invalid_client")
