"""The provider on three nodes: a code is good once wherever it is shown, and what ends on one ends on all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, cast
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.cluster.conftest import NewDatabase
from tests.cluster.processes import Node
from tests.cluster.site import Site, SiteBrowser, serving
from tests.handlers.relying_party import OTHER, SITE, RelyingParty, told
from tests.harness import Whole, document

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_GRANT = (400, "invalid_grant")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    nginx_program: str,
    new_database: NewDatabase,
    redis_address: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings: dict[str, Any] = {
        "storage": {"url": new_database()},
        "redis": {"url": redis_address},
        "sites": [SITE, OTHER],
    }
    async with serving(folder, nginx_program, 3, **settings) as site:
        yield site


@dataclass
class Part:
    """The site as it is met at one node, in the place of the harness's whole."""

    site: Site
    node: Node

    @property
    def base_url(self) -> str:
        return self.site.nginx.base_url

    def browser(self) -> SiteBrowser:
        return self.site.browser().at(self.node)


def at_each_node(site: Site) -> list[RelyingParty]:
    """One site of ours, whose requests go to one node each."""
    first = RelyingParty(Part(site, site.nodes[0]))
    parts = [copy(first) for _ in site.nodes]
    for part, node in zip(parts, site.nodes, strict=True):
        part.whole = cast(Whole, Part(site, node))
    return parts


async def logged_in(site: Site, person: str) -> SiteBrowser:
    browser = site.browser()
    await site.log_in(browser, person)
    return browser


async def over_everywhere(shops: Sequence[RelyingParty], tokens: dict[str, Any]) -> bool:
    return all(await asyncio.gather(*(shop.all_over(tokens) for shop in shops)))


async def good_everywhere(shops: Sequence[RelyingParty], token: str) -> bool:
    seen = await asyncio.gather(*(shop.active(token) for shop in shops))
    known = await asyncio.gather(*(shop.userinfo(token) for shop in shops))
    return all(seen) and {answer.code for answer in known} == {200}


async def test_keys_that_three_nodes_make_at_once_are_one_set(site):
    """The first that anybody asks of them."""
    browsers = [site.browser().at(node) for node in site.nodes for _ in range(4)]
    answers = await asyncio.gather(*(browser.get("/oauth2/jwks") for browser in browsers))
    assert {answer.code for answer in answers} == {200}
    sets = [sorted(key["kid"] for key in document(answer)["keys"]) for answer in answers]
    assert len(sets[0]) == 2
    assert all(found == sets[0] for found in sets)


async def test_fifty_at_three_nodes_for_one_code_have_one_winner(site):
    shops = at_each_node(site)
    browser = await logged_in(site, "racer")
    code = (await shops[0].authorize(browser))["code"]
    answers = await asyncio.gather(*(shop.token(shop.code_form(code)) for shop in islice(cycle(shops), 50)))
    assert Counter(map(told, answers)) == {(200, ""): 1, INVALID_GRANT: 49}
    (won,) = [document(answer) for answer in answers if answer.code == 200]
    assert await over_everywhere(shops, won), "somebody has used it a second time"
    assert "code" in await shops[1].authorize(browser), "the login is none the worse"


async def test_of_fifty_refreshes_at_three_nodes_one_wins_and_the_family_ends(site):
    shops = at_each_node(site)
    tokens = await shops[0].given(await logged_in(site, "refresher"))
    answers = await asyncio.gather(
        *(shop.refreshed(tokens["refresh_token"]) for shop in islice(cycle(shops), 50))
    )
    assert Counter(map(told, answers)) == {(200, ""): 1, INVALID_GRANT: 49}
    (won,) = [document(answer) for answer in answers if answer.code == 200]
    assert await over_everywhere(shops, won)
    assert await over_everywhere(shops, tokens)


async def test_what_one_node_gives_is_good_at_the_others(site):
    first, second, third = shops = at_each_node(site)
    browser = await logged_in(site, "wanderer")
    code = (await first.authorize(browser.at(site.nodes[0])))["code"]
    tokens = await second.tokens(code)
    assert await good_everywhere(shops, tokens["access_token"])
    for shop in shops:
        assert (await shop.verified(tokens["id_token"]))["nonce"] == shop.nonce
    renewed = third.tokens_of(await third.refreshed(tokens["refresh_token"]))
    assert await good_everywhere(shops, renewed["access_token"])
    silent = {"prompt": "none", "id_token_hint": renewed["id_token"]}
    for node, shop in zip(site.nodes, shops, strict=True):
        assert "code" in await shop.authorize(browser.at(node), **silent)
    assert (await second.post("revoke", {"token": renewed["refresh_token"]})).code == 200
    assert await over_everywhere(shops, renewed)


async def test_a_login_that_one_node_asked_for_is_known_at_another(site):
    """The note of `prompt=login` is a MAC, so it goes with the browser."""
    first, second, _ = at_each_node(site)
    browser = await logged_in(site, "returner")
    page = (await browser.at(site.nodes[0]).get(first.authorize_path(prompt="login"))).headers["Location"]
    ticket_id = await browser.open_login(f"{page}&method=app")
    await site.scan_and_confirm(ticket_id, "returner")
    back = document(await browser.exchange(ticket_id))["next"]
    assert "code" in second.brought(await browser.at(site.nodes[1]).get(back))


@pytest.mark.parametrize("how", ["sign out", "logout by the site"])
async def test_a_sign_out_at_one_node_counts_at_the_others_at_once(site, how):
    shops = at_each_node(site)
    browser = await logged_in(site, "leaver")
    tokens = await shops[0].given(browser)
    code = (await shops[1].authorize(browser))["code"]
    assert await good_everywhere(shops, tokens["access_token"])
    place = browser.at(site.nodes[2])
    if how == "sign out":
        assert (await place.post("/api/v1/sessions/current/revoke")).code == 204
    else:
        hint = urlencode({"id_token_hint": tokens["id_token"]})
        assert (await place.get(f"/oauth2/logout?{hint}")).code == 302
    assert await over_everywhere(shops, tokens)
    assert await shops[0].redeemed(code) == INVALID_GRANT
    for node, shop in zip(site.nodes, shops, strict=True):
        refused = await shop.authorize(browser.at(node), prompt="none")
        assert refused["error"] == "login_required"
