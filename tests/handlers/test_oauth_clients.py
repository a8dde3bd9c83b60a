"""How a site shows that it is itself, in every right way and in wrong ones."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote, urlencode

from tests.handlers.relying_party import (
    INVALID_CLIENT,
    INVALID_REQUEST,
    OTHER,
    PUBLIC,
    SITE,
    RelyingParty,
    told,
)
from tests.harness import running

ODD: dict[str, Any] = {
    **SITE,
    "id": "odd_site-1",
    "secret": "a+b%20c:d&e=f/g~é字 " + "s" * 20,
    "previous_secret": "old" * 12,
}


def basic_header(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def eager(text: str) -> str:
    """Percent-encoded with every letter that is no letter, as some libraries do."""
    return "".join(
        letter if letter.isalnum() and letter.isascii() else quote(letter, safe="") for letter in text
    )


def all_encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


async def test_a_secret_may_be_sent_in_every_right_way(tmp_path):
    async with running(tmp_path, sites=[ODD, PUBLIC], wechat={"pool_size": 0}) as whole:
        browser, odd = whole.browser(), RelyingParty(whole, ODD)
        await whole.log_in(browser, whole.person())
        name, secret, former = ODD["id"], ODD["secret"], ODD["previous_secret"]
        none = {"Authorization": ""}
        ways = [
            (basic_header(urlencode({name: ""})[:-1], urlencode({secret: ""})[:-1]), {}),
            (basic_header(name, quote(secret, safe="")), {"client_id": name}),
            (basic_header(name, eager(secret)), {}),
            (basic_header(all_encoded(name), all_encoded(secret)), {"client_id": name}),
            (basic_header(name, secret), {}),  # as curl does it
            (basic_header(name, former), {}),
            ({"Authorization": basic_header(name, former)["Authorization"].replace("Basic", "bAsIc")}, {}),
            (none, {"client_id": name, "client_secret": secret}),
            (none, {"client_id": name, "client_secret": former}),
            (basic_header(name, former), {"client_secret": ""}),
        ]
        for headers, more in ways:
            code = (await odd.authorize(browser))["code"]
            answer = await odd.token(odd.code_form(code, **more), **headers)
            assert told(answer) == (200, ""), (headers, more)
        page = RelyingParty(whole, PUBLIC)
        for headers, more in ((basic_header("page", ""), {}), (none, {"client_secret": ""})):
            code = (await page.authorize(browser))["code"]
            assert told(await page.token(page.code_form(code, **more), **headers)) == (200, "")


async def test_who_shows_it_wrongly_is_refused(tmp_path):
    async with running(tmp_path, sites=[ODD, OTHER, PUBLIC], wechat={"pool_size": 0}) as whole:
        browser, odd = whole.browser(), RelyingParty(whole, ODD)
        await whole.log_in(browser, whole.person())
        code = (await odd.authorize(browser))["code"]
        name, secret = ODD["id"], ODD["secret"]
        none = {"Authorization": ""}
        wrong = [
            (none, {}),
            (none, {"client_id": name}),
            (none, {"client_id": name, "client_secret": ""}),
            (none, {"client_id": name, "client_secret": "x" * 32}),
            (none, {"client_id": name, "client_secret": urlencode({secret: ""})[:-1]}),
            (none, {"client_id": name, "client_secret": OTHER["secret"]}),
            (none, {"client_id": "nobody", "client_secret": secret}),
            (none, {"client_id": "forum", "client_secret": secret}),
            (none, {"client_id": "page", "client_secret": secret}),
            (none, {"client_id": "", "client_secret": secret}),
            (basic_header(name, ""), {}),
            (basic_header(name, "x" * 32), {}),
            (basic_header(name.upper(), secret), {}),
            (basic_header("forum", secret), {}),
            (basic_header("page", secret), {}),
            (basic_header("page", "x"), {}),
            (basic_header("", ""), {}),
            (basic_header("", secret), {"client_id": name}),
            ({"Authorization": "Basic !!!"}, {"client_id": name}),
            ({"Authorization": "Basic " + base64.b64encode(name.encode()).decode()}, {}),
            ({"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, {}),
            ({"Authorization": f"Bearer {secret[-20:]}"}, {}),
        ]
        for headers, more in wrong:
            answer = await odd.token(odd.code_form(code, **more), **headers)
            assert told(answer) == INVALID_CLIENT, (headers, more)
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="saoma"'
        twice = [
            (basic_header(name, secret), {"client_id": name, "client_secret": secret}),
            (basic_header(name, secret), {"client_secret": "x"}),
            (basic_header(name, secret), {"client_id": "forum"}),
        ]
        for headers, more in twice:
            assert told(await odd.token(odd.code_form(code, **more), **headers)) == INVALID_REQUEST
        in_the_address = urlencode({"client_id": name, "client_secret": secret, **odd.code_form(code)})
        answer = await odd.post(f"token?{in_the_address}", {}, **none)
        assert told(answer) == INVALID_CLIENT, "nothing of the address counts"
        assert await odd.redeemed(code) == (200, ""), "all that has cost the code nothing"
