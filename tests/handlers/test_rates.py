"""What one person, one address may ask for in a minute, on all nodes together (rule 21)."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.handlers.relying_party import SITES, RelyingParty
from tests.handlers.test_app import APP, bearer
from tests.harness import document, running

UNKNOWN = "/api/v1/tickets/unknown"


async def test_calls_of_one_persons_app(tmp_path):
    async with running(tmp_path, app=APP, limits={"app_calls_per_person": 3}) as whole:
        phone, used = whole.browser(), whole.transactions()
        for call in ("scan", "confirm", "cancel"):
            answer = await phone.post(f"{UNKNOWN}/{call}", {"handle": "x"}, **bearer("one"))
            assert answer.code == 404
        asked = len(used)
        for call in ("scan", "confirm", "cancel"):
            answer = await phone.post(f"{UNKNOWN}/{call}", {"handle": "x"}, **bearer("one"))
            assert (answer.code, document(answer)["code"]) == (429, "too_many_requests")
            assert 1 <= int(answer.headers["Retry-After"]) <= 20
        assert len(used) == asked
        assert (await phone.post(f"{UNKNOWN}/scan", **bearer("two"))).code == 404
        whole.clock.pass_(20)
        assert (await phone.post(f"{UNKNOWN}/scan", **bearer("one"))).code == 404


async def test_codes_for_sites(tmp_path):
    async with running(tmp_path, sites=SITES, limits={"site_codes_per_person": 2}) as whole:
        browser, other, shop = whole.browser(), whole.browser(), RelyingParty(whole)
        await whole.log_in(browser, whole.person())
        await whole.log_in(other, whole.person(1))
        for _ in range(2):
            assert "code" in await shop.authorize(browser)
        refused = await browser.get(shop.authorize_path())
        assert refused.code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert "Location" not in refused.headers
        assert "code" in await shop.authorize(other)
        assert (await whole.browser().get(shop.authorize_path())).code == 302  # to the login page, as ever


async def test_rates_are_shared_between_nodes(tmp_path, redis_url):
    common = {
        "redis": {"url": redis_url},
        "server": {"secret_key": "k" * 40, "trusted_proxies": ["127.0.0.1"]},
        "limits": {"tickets_per_address": 4},
        "app": APP,
    }
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running(tmp_path / name, **common)) for name in ("one", "two")
        ]
        codes = []
        for _ in range(4):
            for node in nodes:
                browser = node.browser(**{"X-Forwarded-For": "203.0.113.5"})
                codes.append((await browser.post("/api/v1/tickets", {"method": "app"})).code)
        assert codes == [201] * 4 + [429] * 4
        for node in nodes:
            browser = node.browser(**{"X-Forwarded-For": "203.0.113.6"})
            assert (await browser.post("/api/v1/tickets", {"method": "app"})).code == 201
