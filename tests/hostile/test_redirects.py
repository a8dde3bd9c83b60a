"""Every address that leads on, with every disguise: the browser stays here, and no header is slipped in."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

from tests.flows.test_redirects import REFUSED
from tests.handlers.relying_party import SITES
from tests.harness import running

MORE = [
    "https://www.example.com.evil.example/",
    "https://www.example.com@evil.example/",
    "https://evil.example/?https://www.example.com/",
    "https://evil.example#https://www.example.com/",
    "/a\r\nLocation: https://evil.example/",
    "/a\r\nSet-Cookie: a=b",
    "javascript:alert(1)",
    "data:text/html,x",
]
ELSEWHERE = "https://www.example.com"  # where one may be led
NO_CODES = {"pool_size": 0}
BY_QUERY = [
    "/login?next={}",
    "/oauth2/sign_in?rd={}",
    "/oauth2/sign_out?rd={}",
    "/oauth2/logout?post_logout_redirect_uri={}",
    "/oauth2/logout?client_id=shop&post_logout_redirect_uri={}&state={}",
    "/oauth2/authorize?response_type=code&client_id=shop&redirect_uri={}&state=x",
]


def leads_away(base_url: str, location: str) -> bool:
    """As browsers read it: without controls and blanks around, with a backslash for a slash."""
    read = re.sub(r"[\t\r\n]", "", location.strip()).replace("\\", "/")
    target = urlsplit(urljoin(f"{base_url}/oauth2/x", read))
    return f"{target.scheme}://{target.netloc}" not in (base_url, ELSEWHERE)


async def test_no_disguise_leads_away(tmp_path):
    server = {"allowed_redirects": [ELSEWHERE]}
    async with running(
        tmp_path, sites=SITES, server=server, limits={"enabled": False}, wechat=NO_CODES
    ) as whole:
        browser, led = whole.browser(), 0
        for target in [*REFUSED, *MORE]:
            given = quote(target.encode("utf-8", "surrogatepass"), safe="")
            answers = [await browser.get(path.format(given, given)) for path in BY_QUERY]
            if target.isascii() and target.isprintable():
                answers.append(await browser.get("/oauth2/sign_in", **{"X-Auth-Request-Redirect": target}))
                answers.append(await browser.get("/login", Referer=target))
            for answer in answers:
                location = answer.headers.get("Location")
                assert answer.code < 500, (answer.effective_url, answer.code)
                assert location is None or not leads_away(whole.base_url, location), (target, location)
                assert all("a=b" not in cookie for cookie in answer.headers.get_list("Set-Cookie"))
                led += location is not None
        assert led > len(REFUSED)


def test_what_leads_away_is_seen():
    for location in (
        "//evil.example",
        "/\\evil.example",
        "\t//evil.example",
        "https://evil.example",
        "http:///x",
    ):
        assert leads_away("https://login.example.com", location)
    for location in ("/", "/a//b", "x", "https://login.example.com/a"):
        assert not leads_away("https://login.example.com", location)
