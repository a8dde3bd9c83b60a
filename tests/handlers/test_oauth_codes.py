"""Rule 24: a code is bound, short-lived and good once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from oidc.grant import challenge_of
from tests.handlers.relying_party import (
    INVALID_GRANT,
    INVALID_REQUEST,
    OTHER,
    PUBLIC,
    SITE,
    SITES,
    RelyingParty,
    session_of,
    told,
)
from tests.harness import document, running


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=SITES, wechat={"pool_size": 0}) as whole:
        yield whole


async def test_rule_24_a_code_is_bound_to_site_address_and_verifier(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    forum, page = RelyingParty(whole, OTHER), RelyingParty(whole, PUBLIC)
    brought = await shop.log_in(browser, whole.person())
    code = brought["code"]
    other_verifier = forum.verifier
    for changes in (
        {"code": code[:-1]},
        {"code": code + "x"},
        {"code": code.swapcase()},
        {"code": code.partition(".")[2]},
        {"code": code.partition(".")[0] + "."},
        {"code": "x" * 5000},
        {"code": "\0"},
        {"code": "状态.码"},
        {"redirect_uri": SITE["redirect_uris"][1]},
        {"redirect_uri": shop.redirect_uri + "/"},
        {"redirect_uri": "https://evil.example/"},
        {"code_verifier": other_verifier},
        {"code_verifier": challenge_of(shop.verifier)},
        {"code_verifier": shop.verifier[:-1]},
        {"code_verifier": "short"},
        {"code_verifier": "v" * 129},
        {"code_verifier": "é" * 43},
    ):
        assert await shop.redeemed(code, **changes) == INVALID_GRANT, changes
    for rival in (forum, page):
        form = shop.code_form(code)
        assert told(await rival.token(form)) == INVALID_GRANT
    for name in ("code", "redirect_uri", "code_verifier", "grant_type"):
        form = shop.code_form(code)
        assert told(await shop.token({**form, name: ""})) == INVALID_REQUEST
        del form[name]
        assert told(await shop.token(form)) == INVALID_REQUEST
    assert await shop.redeemed(code) == (200, ""), "all that has cost the code nothing"


async def test_rule_24_a_code_is_good_for_60_seconds(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    late, soon = [(await shop.authorize(browser))["code"] for _ in range(2)]
    whole.clock.pass_(55)
    assert await shop.redeemed(soon) == (200, "")
    whole.clock.pass_(6)
    assert await shop.redeemed(late) == INVALID_GRANT


async def test_a_code_that_nobody_redeems_leaves_nothing_behind(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    used, _unused = [(await shop.authorize(browser))["code"] for _ in range(2)]
    assert await shop.redeemed(used) == (200, "")
    session = await session_of(whole, browser)
    whole.clock.pass_(61)

    async def work(transaction):
        return await transaction.grants.of_session(session.id, now=whole.clock())

    (kept,) = await whole.storage.transact(work)
    assert kept.redeemed
    assert kept.expires_at == session.expires_at


async def test_rule_24_a_code_is_bound_to_its_session(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    code = (await shop.authorize(browser))["code"]
    await browser.get("/")
    browser.xsrf = browser.xsrf or ""
    assert (await browser.post("/api/v1/sessions/current/revoke")).code == 204
    assert await shop.redeemed(code) == INVALID_GRANT


async def test_rules_24_and_25_codes_and_tokens_are_opaque_and_kept_hashed(whole, tmp_path):
    browser, shop = whole.browser(), RelyingParty(whole)
    code = (await shop.log_in(browser, whole.person()))["code"]
    tokens = await shop.tokens(code)
    renewed = document(await shop.refreshed(tokens["refresh_token"]))
    await whole.storage.ping()
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir() if "saoma.db" in file.name)
    assert len(kept) > 10_000
    for token in (
        code,
        *(given[kind] for given in (tokens, renewed) for kind in ("access_token", "refresh_token")),
    ):
        grant_id, *parts = token.split(".")
        assert grant_id.encode() in kept
        for part in parts:
            assert part.encode() not in kept


async def test_rule_24_reuse_of_a_code_revokes_what_it_gave(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    code = (await shop.authorize(browser))["code"]
    tokens, another = await shop.tokens(code), await shop.given(browser)
    assert await shop.redeemed(code, code_verifier="v" * 43) == INVALID_GRANT
    assert told(await RelyingParty(whole, OTHER).token(shop.code_form(code))) == INVALID_GRANT
    assert await shop.active(tokens["access_token"]), "who cannot show what belongs to it ends nothing"
    whole.clock.pass_(300)
    assert await shop.redeemed(code) == INVALID_GRANT
    assert await shop.all_over(tokens)
    assert await shop.active(another["access_token"]), "another code of the same login gave that one"


async def test_rule_24_one_winner_among_fifty(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    code = (await shop.log_in(browser, whole.person()))["code"]
    answers = await asyncio.gather(*(shop.token(shop.code_form(code)) for _ in range(50)))
    assert Counter(map(told, answers)) == {(200, ""): 1, INVALID_GRANT: 49}
    (won,) = [document(answer) for answer in answers if answer.code == 200]
    assert await shop.all_over(won), "somebody has used it a second time"
